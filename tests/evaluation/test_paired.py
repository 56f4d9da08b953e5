"""Paired differences against scikit-learn, and against what must be nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation import ClipScores, Guess, Sample
from edge_sdk.evaluation.paired import clip_ap, difference, frame_auc, start_within
from edge_sdk.evaluation.rows import Answers

FRAMES = 30


def samples(count: int) -> list[Sample]:
    """Odd ones show a crash from 1.0 to 2.0 s; a group holds three in a row."""
    return [
        Sample(
            path=Path(f"{index}.mp4"),
            track="windows",
            kind="crash" if index % 2 else "normal",
            set="test",
            view="dashcam",
            group=f"g{index // 3}",
            duration_s=3.0,
            start_s=1.0 if index % 2 else None,
            end_s=2.0 if index % 2 else None,
        )
        for index in range(count)
    ]


def answers(name: str, shown: list[Sample], skill: float) -> Answers:
    rng = np.random.default_rng(round(skill * 10))
    found = []
    for sample in shown:
        times = np.arange(FRAMES) / 10
        crash = rng.normal(size=FRAMES) + skill * sample.crashing(times)
        guess = Guess(start_s=float(1.0 + rng.normal() * 2 / (1 + skill)))
        score = float(rng.normal() + skill * sample.crash)
        found.append(ClipScores(frame_times_s=times, crash=crash, score=score, guesses=(guess,)))
    return Answers(scorer=name, samples=shown, scores=found)


def frames(found: Answers) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    crashes = [(s, a) for s, a in zip(found.samples, found.scores, strict=True) if s.crash]
    return (
        np.concatenate([s.crashing(a.frame_times_s) for s, a in crashes]),
        np.concatenate([a.crash for _, a in crashes]),
    )


def test_differences_are_those_of_the_metrics() -> None:
    shown = samples(60)
    good, bad = answers("good", shown, 2.0), answers("bad", shown, 0.3)
    truth = [sample.crash for sample in shown]

    def ap(found: Answers) -> float:
        return float(average_precision_score(truth, [a.score for a in found.scores]))

    found = difference(good, bad, clip_ap, seed=0, rounds=300)
    assert found.value == pytest.approx(ap(good) - ap(bad))
    assert found.lo is not None
    assert found.hi is not None
    assert 0 < found.lo < ap(good) - ap(bad) < found.hi
    found = difference(good, bad, frame_auc, seed=0, rounds=0)
    assert found.value == pytest.approx(roc_auc_score(*frames(good)) - roc_auc_score(*frames(bad)))
    found = difference(good, bad, start_within, seed=0, rounds=0)
    shares = [
        np.mean([abs(a.guesses[0].start_s - 1.0) <= 1.0 for s, a in zip(shown, each.scores, strict=True) if s.crash])
        for each in (good, bad)
    ]
    assert found.value == pytest.approx(shares[0] - shares[1])


def test_a_scorer_is_no_better_than_itself_in_any_resample() -> None:
    found = answers("one", samples(30), 1.0)
    for metric in (clip_ap, frame_auc, start_within):
        gain = difference(found, found, metric, seed=1, rounds=50)
        assert (gain.value, gain.lo, gain.hi) == (0.0, 0.0, 0.0)


def test_both_must_have_answered_the_same_samples() -> None:
    shown = samples(12)
    with pytest.raises(ConfigError, match="same samples"):
        difference(answers("a", shown, 1.0), answers("b", shown[::-1], 1.0), clip_ap, seed=0, rounds=0)
