from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_sdk.evaluation import motion
from edge_sdk.evaluation.scorer import ClipScores
from edge_sdk.evaluation.trivial import constant_interval, trivial_scorers


@pytest.fixture
def answers(kit: SimpleNamespace, tmp_path: Path) -> dict[str, ClipScores]:
    """All baselines on 4 s of a still scene in which a block flashes at 2.6 s."""
    luma = kit.scene(40)
    luma[26, 40:80, 40:80] = 255 - luma[26, 40:80, 40:80]
    path = kit.write_clip(tmp_path / "flash.mp4", luma)
    return {scorer.name: scorer(path) for scorer in trivial_scorers()}


def test_motion_finds_the_flash(answers: dict[str, ClipScores]) -> None:
    for name in ("motion energy", "block motion"):
        assert answers[name].guesses[0].start_s == pytest.approx(2.6, abs=0.11)
        assert answers[name].score == answers[name].crash.max()
        assert answers[name].crash[:26].max() < answers[name].score / 3


def test_the_blind_know_only_the_outside(answers: dict[str, ClipScores]) -> None:
    assert answers["clip middle"].guesses[0].start_s == pytest.approx(2.0, abs=0.06)
    assert np.all(np.diff(answers["clock"].crash) > 0)
    assert answers["clock"].crash[0] == 0
    assert np.ptp(answers["constant"].crash) == 0
    assert answers["shape: short"].score == pytest.approx(-4.0, abs=0.06)
    assert answers["shape: few pixels"].score == -(232 * 130)
    assert answers["shape: square"].score == pytest.approx(-np.log(232 / 130))


def test_frame_scores_are_causal(kit: SimpleNamespace, tmp_path: Path) -> None:
    luma = kit.scene(30)
    for t in range(30):
        luma[t, 20:40, 2 * t : 2 * t + 20] = 240
    changed = luma.copy()
    changed[20:, 80:] = 10
    files = [kit.write_clip(tmp_path / f"{i}.mp4", pixels) for i, pixels in enumerate((luma, changed))]
    for scorer in trivial_scorers():
        if not scorer.name.startswith("shape"):
            first, second = (scorer(file).crash[:19] for file in files)
            assert first == pytest.approx(second, abs=0.35), scorer.name


def test_z_scores_so_far_by_hand() -> None:
    values = np.array([[0.0], [2.0], [4.0], [9.0]])
    floor = motion.FLOOR_LEVELS
    expected = [0.0, 0.0, (4 - 2) / floor, (9 - 3) / (1 + floor)]
    assert motion.z_scores_so_far(values).ravel() == pytest.approx(expected)


def test_a_rewritten_file_is_read_again(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_clip(tmp_path / "a.mp4", kit.scene(20))
    before = len(motion.read_motion(path).times_s)
    kit.write_clip(path, kit.scene(33))
    assert (before, len(motion.read_motion(path).times_s)) == (20, 33)


def test_the_constant_interval_answers_itself() -> None:
    guess = constant_interval((3.4, 7.6)).guesses[0]
    assert (guess.start_s, guess.end_s) == (3.4, 7.6)
