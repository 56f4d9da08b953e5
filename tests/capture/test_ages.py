"""Ages of frames: percentiles of the last ones, a histogram of all, and no growth."""

from __future__ import annotations

import itertools
import math
import threading

import numpy as np
import pytest

from edge_sdk.capture.ages import KEPT, FrameAges


def test_nothing_recorded() -> None:
    report = FrameAges().report()
    assert (report.count, report.kept, report.p50_ms, report.max_ms) == (0, 0, None, None)
    assert sum(report.counts) == 0


def test_percentiles_are_of_the_last_ages_and_the_histogram_of_all() -> None:
    ages_ms = np.random.default_rng(3).lognormal(3.0, 1.5, 3 * KEPT // 2)
    ages = FrameAges()
    for age_ms in ages_ms:
        ages.add(float(age_ms))
    report, last = ages.report(), np.sort(ages_ms[-KEPT:])
    assert (report.count, report.kept) == (len(ages_ms), KEPT)
    for value, share in [(report.p50_ms, 0.5), (report.p95_ms, 0.95), (report.p99_ms, 0.99)]:
        place = share * (KEPT - 1)
        assert last[math.floor(place)] <= (value or 0.0) <= last[math.ceil(place)]
    assert report.max_ms == last[-1]
    edges = [-math.inf, *report.edges_ms, math.inf]
    assert list(report.counts) == [
        sum(1 for age_ms in ages_ms if low <= age_ms < high) for low, high in itertools.pairwise(edges)
    ]


def test_the_bins_are_log_spaced_and_reach_from_a_millisecond_to_a_hundred_seconds() -> None:
    edges = FrameAges().report().edges_ms
    assert (edges[0], edges[-1]) == (1.0, 100_000.0)
    assert all(high / low == pytest.approx(10**0.1, rel=2e-3) for low, high in itertools.pairwise(edges))


@pytest.mark.parametrize(("age_ms", "place"), [(-5.0, 0), (0.999, 0), (1.0, 1), (99_999.9, -2), (1e5, -1), (1e9, -1)])
def test_what_lies_outside_the_bins_is_counted_too(age_ms: float, place: int) -> None:
    ages = FrameAges()
    ages.add(age_ms)
    assert ages.report().counts[place] == 1


@pytest.mark.parametrize("age_ms", [math.nan, math.inf])
def test_an_age_that_is_no_number_is_refused(age_ms: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        FrameAges().add(age_ms)


def test_several_threads() -> None:
    ages = FrameAges(kept=100)

    def add() -> None:
        for _ in range(2000):
            ages.add(20.0)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        report = ages.report()
        assert sum(report.counts) == report.count
    assert (ages.report().count, ages.report().kept) == (8000, 100)
