"""Scores on disk are those that were given, and are asked for once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation import ClipScores, Guess
from edge_sdk.evaluation.stored import StoredScorer

NAMES = ("windows/a.crash.mp4", "streams/a.crash.mp4")


@pytest.fixture
def samples(tmp_path: Path) -> list[Path]:
    """Files of one content: scorers may go by the name."""
    for name in NAMES:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"video")
    return [tmp_path / name for name in NAMES]


def stored(store: Path, asked: Asked, identity: str = "bundle 1") -> StoredScorer:
    return StoredScorer("student", store, asked, identity=identity)


class Asked:
    """A scorer that counts; its answers hold numbers that no short decimal has."""

    def __init__(self) -> None:
        self.paths: list[Path] = []

    def __call__(self, path: Path) -> ClipScores:
        self.paths.append(path)
        rng = np.random.default_rng(len(self.paths))
        return ClipScores(
            frame_times_s=np.arange(5) / 7,
            crash=rng.random(5),
            score=float(rng.random()),
            guesses=(Guess(start_s=1 / 3, start_interval_s=(0.1, 2 / 3)), Guess(start_s=2.0, end_s=2.5)),
            alarms_s=(1 / 9,) if path.parent.name == "windows" else None,
        )


def same(one: ClipScores, two: ClipScores) -> bool:
    return (
        np.array_equal(one.frame_times_s, two.frame_times_s)
        and np.array_equal(one.crash, two.crash)
        and (one.score, one.guesses, one.alarms_s) == (two.score, two.guesses, two.alarms_s)
    )


def test_an_answer_is_asked_for_once_and_comes_back_exactly(samples: list[Path], tmp_path: Path) -> None:
    asked, again = Asked(), Asked()
    first = stored(tmp_path / "s.jsonl", asked)
    given = [first(path) for path in samples]
    reopened = stored(tmp_path / "s.jsonl", again)
    assert all(same(reopened(path), one) for path, one in zip(samples, given, strict=True))
    assert asked.paths == samples
    assert again.paths == []


def test_a_write_that_was_cut_off_is_made_again(samples: list[Path], tmp_path: Path) -> None:
    store = tmp_path / "s.jsonl"
    scorer = stored(store, Asked())
    given = [scorer(path) for path in samples]
    store.write_bytes(store.read_bytes()[:-20])
    asked = Asked()
    asked.paths.append(Path("before"))
    reopened = stored(store, asked)
    assert all(same(reopened(path), one) for path, one in zip(samples, given, strict=True))
    assert asked.paths[1:] == samples[1:]


def test_nothing_answers_for_another_scorer_or_other_bytes(samples: list[Path], tmp_path: Path) -> None:
    store, first, other, changed = tmp_path / "s.jsonl", Asked(), Asked(), Asked()
    stored(store, first)(samples[0])
    stored(store, other, "bundle 2")(samples[0])
    samples[0].write_bytes(b"of another seed")
    stored(store, changed)(samples[0])
    assert first.paths == other.paths == changed.paths == [samples[0]]
    # All three stay, each for its own.
    again = Asked()
    stored(store, again)(samples[0])
    stored(store, again, "bundle 2")(samples[0])
    samples[0].write_bytes(b"video")
    stored(store, again)(samples[0])
    stored(store, again, "bundle 2")(samples[0])
    assert len(again.paths) == 1


def test_a_store_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"sample": 3}\n')
    with pytest.raises(ConfigError, match="does not hold scores"):
        stored(tmp_path / "s.jsonl", Asked())
