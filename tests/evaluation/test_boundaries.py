from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation import ClipScores, Guess, Sample, boundaries
from edge_sdk.evaluation.paired import start_within
from edge_sdk.evaluation.rows import Answers

NAN = float("nan")


def test_start_error_by_hand() -> None:
    result = boundaries.start_error([1.0, 2.0, 3.0, 4.0], [1.2, 2.9, 6.0, NAN])
    assert (result.n, result.answered) == (4, 3)
    assert result.mae_s == pytest.approx((0.2 + 0.9 + 3.0) / 3)
    assert result.median_s == pytest.approx(0.9)
    assert result.within_half_s.hits == 1
    assert result.within_one_s.share == 0.5


def test_start_error_without_answers_is_null() -> None:
    result = boundaries.start_error([1.0], [NAN])
    assert result.mae_s is None
    assert result.median_s is None
    assert result.within_one_s.share == 0.0


def test_iou_by_hand() -> None:
    a = [(0.0, 2.0), (0.0, 1.0), (0.0, 4.0), (NAN, NAN), (1.0, 1.0)]
    b = [(1.0, 3.0), (2.0, 3.0), (1.0, 2.0), (0.0, 1.0), (1.0, 1.0)]
    assert boundaries.interval_iou(a, b) == pytest.approx([1 / 3, 0.0, 0.25, 0.0, 0.0])


def test_overlap_counts_missing_answers_as_zero() -> None:
    result = boundaries.overlap([(0.0, 2.0), (0.0, 2.0)], [(0.0, 1.0), (NAN, NAN)])
    assert result.mean_iou == 0.25
    assert {level: share.hits for level, share in result.recall.items()} == {"0.3": 1, "0.5": 1, "0.7": 0}


def test_best_constant_interval_beats_a_random_search() -> None:
    rng = np.random.default_rng(3)
    begin = rng.uniform(1, 6, 40)
    truth = np.stack([begin, begin + rng.uniform(0.5, 4, 40)], axis=1)
    found = boundaries.best_constant_interval(truth)
    reached = boundaries.interval_iou(np.tile(found, (40, 1)), truth).mean()
    for _ in range(2000):
        lo, hi = np.sort(rng.uniform(0, 10, 2))
        assert boundaries.interval_iou(np.tile((lo, hi), (40, 1)), truth).mean() <= reached + 0.01


@pytest.mark.parametrize("seed", range(8))
def test_the_best_constant_interval_is_the_best_of_all_pairs_of_tenths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    begin = np.round(rng.uniform(0, 20, 15), int(rng.integers(1, 4)))
    truth = np.stack([begin, begin + np.round(rng.uniform(0.1, 8, 15), 2)], axis=1)
    found = boundaries.best_constant_interval(truth)
    ticks = np.arange(0, truth.max() + 0.1, 0.1)
    pairs = [(lo, hi) for place, lo in enumerate(ticks) for hi in ticks[place + 1 :]]
    reached = [float(boundaries.interval_iou(np.tile(pair, (15, 1)), truth).mean()) for pair in [*pairs, found]]
    assert reached[-1] == pytest.approx(max(reached), abs=1e-12)


def test_an_hour_of_recording_is_searched_at_once() -> None:
    begin = np.linspace(10, 3500, 50)
    started_s = time.monotonic()
    boundaries.best_constant_interval(np.stack([begin, begin + 4], axis=1))
    assert time.monotonic() - started_s < 10


def test_the_search_needs_little_memory_however_long_the_clip() -> None:
    spans = [(100.0, 110.0), (100.0, 110.0), (3.0, 4.0), (5.0, 5.0)]
    tracemalloc.start()
    found = boundaries.best_constant_interval(spans)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == pytest.approx((100.0, 110.0))
    # All pairs of its 1,100 tenths would be 605,000 numbers of eight bytes.
    assert peak < 1_000_000


def test_spans_of_no_length_have_no_best_interval() -> None:
    with pytest.raises(ConfigError, match="one labelled interval longer than 0 s"):
        boundaries.best_constant_interval([(0.0, 0.0), (3.0, 3.0)])


def test_an_error_of_exactly_the_limit_is_within_it() -> None:
    """Every start in tenths up to 20 s; binary numbers put about a third of these on the wrong side."""
    tenths = np.arange(200)
    truth = tenths / 10
    for late, half, one in ((5, 200, 200), (6, 0, 200), (10, 0, 200), (11, 0, 0)):
        found = boundaries.start_error(truth, (tenths + late) / 10)
        assert (found.within_half_s.hits, found.within_one_s.hits) == (half, one)
        samples = [
            Sample(
                path=Path(f"{start_s}.mp4"), track="windows", kind="crash", set="s", view="dashcam", group=str(start_s),
                duration_s=30.0, start_s=float(start_s),
            )
            for start_s in truth
        ]  # fmt: skip
        guesses = [Guess(start_s=float(start + late) / 10) for start in tenths]
        scores = [
            ClipScores(frame_times_s=np.zeros(0), crash=np.zeros(0), score=0.0, guesses=(guess,)) for guess in guesses
        ]
        share = start_within(Answers(scorer="late", samples=samples, scores=scores))
        assert share(np.ones(200)) == one / 200


def test_coverage_counts_answered_intervals_only() -> None:
    result = boundaries.coverage([1.0, 2.0, 3.0], [0.5, 2.5, NAN], [1.5, 3.5, NAN])
    assert (result.hits, result.n) == (1, 2)


@pytest.mark.parametrize(
    ("alarms", "warning", "expected"),
    [
        ((3.4, 5.2), None, 5.2),
        ((3.6,), None, 3.6),
        ((7.1,), None, None),
        ((), None, None),
        ((2.6,), 4.0, 2.6),
        ((3.6,), 9.0, 3.6),
    ],
)
def test_an_alarm_belongs_to_the_crash_around_it(
    alarms: tuple[float, ...], warning: float | None, expected: float | None
) -> None:
    assert boundaries.first_alarm_s(5.0, alarms, warning) == expected


def test_delay_is_over_caught_crashes_and_recall_over_all() -> None:
    result = boundaries.delay([1.0, 2.0, 3.0], [1.4, None, 2.9])
    assert result.recall.share == pytest.approx(2 / 3)
    assert result.median_s == pytest.approx(0.15)


def test_lists_of_two_lengths_are_refused() -> None:
    with pytest.raises(ConfigError, match="equal length"):
        boundaries.start_error([1.0, 2.0], [1.0])
    with pytest.raises(ConfigError, match="equal length"):
        boundaries.interval_iou([(0.0, 1.0)], [])
