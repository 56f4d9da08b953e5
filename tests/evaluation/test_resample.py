from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation import resample


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (3, 10), (38, 47), (1, 200)])
def test_wilson_equals_scipy(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    found = resample.proportion(hits, n)
    assert (found.lo, found.hi) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_proportion_of_nothing_is_null() -> None:
    assert resample.proportion(0, 0).share is None
    with pytest.raises(ConfigError, match="found 3 of 2"):
        resample.proportion(3, 2)


@pytest.mark.parametrize("events", [0, 1, 7, 40, 760, 5000])
def test_rate_bound_equals_the_chi_square_form(events: int) -> None:
    assert resample.rate_upper_bound(events, 2.0) == pytest.approx(chi2.ppf(0.95, 2 * (events + 1)) / 2 / 2.0, rel=1e-6)


@pytest.mark.parametrize("events", [760, 5000])
def test_so_few_events_have_a_chance_of_one_in_twenty_at_the_bound(events: int) -> None:
    """Term by term, in decimals that hold exp(-5000)."""
    with localcontext() as context:
        context.prec = 40
        mean = Decimal(resample.rate_upper_bound(events, 1.0))
        term = total = (-mean).exp()
        for k in range(1, events + 1):
            term *= mean / k
            total += term
    assert float(total) == pytest.approx(0.05, rel=1e-8)


def test_rate_bound_without_time_is_undefined() -> None:
    assert math.isnan(resample.rate_upper_bound(0, 0.0))


def test_bootstrap_of_a_mean_has_the_normal_width() -> None:
    values = np.random.default_rng(1).normal(size=400)
    groups = [f"g{i}" for i in range(400)]
    lo, hi = resample.bootstrap(groups, lambda w: float(np.average(values, weights=w)), rounds=2000, seed=5)
    assert hi - lo == pytest.approx(2 * 1.96 * values.std() / math.sqrt(400), rel=0.08)
    assert lo < values.mean() < hi


def test_bootstrap_draws_whole_groups() -> None:
    groups = ["a", "a", "b", "b"]
    seen: list[NDArray[np.float64]] = []

    def remember(weights: NDArray[np.float64]) -> float:
        seen.append(weights)
        return float(weights[0])

    first = resample.bootstrap(groups, remember, rounds=50, seed=2)
    assert all(w[0] == w[1] and w[2] == w[3] and w[0] + w[2] == 2 for w in seen)
    assert resample.bootstrap(groups, remember, rounds=50, seed=2) == first


def test_bootstrap_of_one_group_is_undefined() -> None:
    bounds = resample.bootstrap(["a", "a"], lambda w: 1.0, rounds=50, seed=0)
    assert math.isnan(bounds.lo)
    assert math.isnan(bounds.hi)
