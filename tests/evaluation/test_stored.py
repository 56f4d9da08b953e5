"""Scores on disk are those that were given, and are asked for once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation import ClipScores, Guess
from edge_sdk.evaluation.stored import StoredScorer

SAMPLES = [Path("windows/a.crash.mp4"), Path("streams/a.crash.mp4")]


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
            alarms_s=(1 / 9,) if path == SAMPLES[0] else None,
        )


def same(one: ClipScores, two: ClipScores) -> bool:
    return (
        np.array_equal(one.frame_times_s, two.frame_times_s)
        and np.array_equal(one.crash, two.crash)
        and (one.score, one.guesses, one.alarms_s) == (two.score, two.guesses, two.alarms_s)
    )


def test_an_answer_is_asked_for_once_and_comes_back_exactly(tmp_path: Path) -> None:
    asked, again = Asked(), Asked()
    first = StoredScorer("student", tmp_path / "s.jsonl", asked)
    given = [first(path) for path in SAMPLES]
    reopened = StoredScorer("student", tmp_path / "s.jsonl", again)
    assert all(same(reopened(path), one) for path, one in zip(SAMPLES, given, strict=True))
    assert asked.paths == SAMPLES
    assert again.paths == []


def test_a_write_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    store = tmp_path / "s.jsonl"
    scorer = StoredScorer("student", store, Asked())
    given = [scorer(path) for path in SAMPLES]
    store.write_bytes(store.read_bytes()[:-20])
    asked = Asked()
    asked.paths.append(Path("before"))
    reopened = StoredScorer("student", store, asked)
    assert all(same(reopened(path), one) for path, one in zip(SAMPLES, given, strict=True))
    assert asked.paths[1:] == SAMPLES[1:]


def test_a_store_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"sample": 3}\n')
    with pytest.raises(ConfigError, match="does not hold scores"):
        StoredScorer("student", tmp_path / "s.jsonl", Asked())
