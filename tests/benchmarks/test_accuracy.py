"""The suite's table against counts done by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.benchmarks.accuracy import row_of
from edge_sdk.clips import LabelledClip
from edge_sdk.evaluation import ClipScores, Guess

STARTS = (2.0, 3.0, 4.0, None, None)


def clip(index: int, start_s: float | None) -> LabelledClip:
    return LabelledClip(
        path=Path(f"{index}.mp4"),
        view="dashcam",
        crash=start_s is not None,
        start_s=start_s,
        end_s=None,
        pre_crash_s=None,
        group=str(index),
    )


def answer(score: float, start_s: float) -> ClipScores:
    guess = Guess(start_s=start_s, start_interval_s=(start_s - 0.3, start_s + 0.3), end_s=None)
    return ClipScores(frame_times_s=np.zeros(1), crash=np.zeros(1), score=score, guesses=(guess,), alarms_s=(start_s,))


def test_a_row_counts_hits_misses_and_false_alarms() -> None:
    clips = [clip(index, start_s) for index, start_s in enumerate(STARTS)]
    found = [answer(0.9, 2.1), answer(0.8, 3.5), answer(0.1, 4.0), answer(0.7, 1.0), answer(0.2, 1.0)]
    detected = np.array([each.score > 0.5 for each in found])
    row = row_of("by hand", 0.5, detected, np.array([s is not None for s in STARTS]), found, clips)
    assert row.precision == pytest.approx(2 / 3)
    assert row.recall == pytest.approx(2 / 3)
    assert row.f1 == pytest.approx(2 / 3)
    # Ranked 0.9 yes, 0.8 yes, 0.7 no, 0.2 no, 0.1 yes.
    assert row.clip_ap == pytest.approx((1 + 1 + 3 / 5) / 3)
    assert row.start.n == 2
    assert row.start.mae_s == pytest.approx(0.3)
    assert row.coverage is not None
    assert (row.coverage.hits, row.coverage.n) == (1, 2)
