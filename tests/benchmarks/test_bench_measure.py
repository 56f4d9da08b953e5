from __future__ import annotations

import math
import time

import numpy as np
import pytest

from edge_sdk.benchmarks.measure import NEEDED, Limits, measure, percentiles, withheld
from edge_sdk.errors import ConfigError


def step(_number: int) -> tuple[int, int, int]:
    begin = time.perf_counter_ns()
    time.sleep(0.001)
    middle = time.perf_counter_ns()
    time.sleep(0.002)
    return begin, middle, time.perf_counter_ns()


def test_measures_until_both_limits_are_reached() -> None:
    few = measure(step, ("a", "b"), Limits(warmup_s=0.0, duration_s=0.1, min_samples=2))
    assert (few.begin[-1] + few.latency[-1] - few.begin[0]) / 1e9 >= 0.095
    many = measure(step, ("a", "b"), Limits(warmup_s=0.0, duration_s=0.0, min_samples=30))
    assert many.latency.size == 30
    assert np.all(many.stages["a"] >= 1e6)
    assert np.all(many.stages["b"] >= 2e6)
    assert np.array_equal(many.stages["a"] + many.stages["b"], many.latency)
    assert np.all(np.diff(many.begin) >= many.latency[:-1])


def test_warm_up_calls_are_not_samples() -> None:
    numbers: list[int] = []

    def remember(number: int) -> tuple[int, ...]:
        numbers.append(number)
        return step(number)

    found = measure(remember, ("a", "b"), Limits(warmup_s=0.2, duration_s=0.0, min_samples=3))
    assert found.latency.size == 3
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 3 + 3


@pytest.mark.parametrize(
    ("name", "share"), [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)]
)
def test_needed_samples_follow_the_early_stopping_formula(name: str, share: float) -> None:
    def chance_of_at_most_one_slower(n: int) -> float:
        return share**n + n * (1 - share) * share ** (n - 1)

    assert chance_of_at_most_one_slower(NEEDED[name]) <= 1 - 0.99 < chance_of_at_most_one_slower(NEEDED[name] - 1)


@pytest.mark.parametrize(
    ("count", "told"), [(10, 0), (11, 1), (63, 1), (64, 2), (130, 3), (661, 3), (662, 4), (6636, 5)]
)
def test_percentiles_with_too_few_samples_are_withheld(count: int, told: int) -> None:
    values = np.random.default_rng(0).random(count)
    found = percentiles(values)
    assert sum(value is not None for value in found.values()) == told
    if told:
        assert found["p50"] == pytest.approx(np.median(values))


def test_the_withheld_are_named() -> None:
    assert withheld(38) == "38 samples: p90 (needs 64), p95 (needs 130), p99 (needs 662) withheld"
    assert withheld(662) is None


@pytest.mark.parametrize(
    "limits",
    [
        Limits(-1, 1, 1),
        Limits(0, -1, 1),
        Limits(0, 0, 0),
        Limits(math.nan, 1, 1),
        Limits(math.inf, 1, 1),
        Limits(0, math.nan, 1),
        Limits(0, math.inf, 1),
    ],
)
def test_limits_that_measure_nothing_or_never_end_are_refused(limits: Limits) -> None:
    with pytest.raises(ConfigError, match="warm-up"):
        measure(step, ("a", "b"), limits)
