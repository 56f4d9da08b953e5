"""Uncertainty of numbers: bootstrap by group, Wilson's interval for shares, an exact bound for rare events.

Clips of one recording are not independent, so a bootstrap draws whole groups. All bounds are 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ConfigError
from edge_sdk.types import Value

Floats = NDArray[np.float64]
# 97.5 % quantile of the standard normal distribution.
Z_95 = 1.959963984540054


class Bounds(NamedTuple):
    """A 95 % interval; NaN if the resamples define none."""

    lo: float
    hi: float


class Proportion(Value, frozen=True, kw_only=True):
    """A share of `n` with its Wilson 95 % interval; null if n is 0."""

    hits: int
    n: int
    share: float | None
    lo: float | None
    hi: float | None


def proportion(hits: int, n: int) -> Proportion:
    """Compute `hits / n` with the score interval of Wilson (1927), which stays in 0..1 and is reliable at small n."""
    if not 0 <= hits <= n:
        raise ConfigError(f"hits must lie in 0..n, found {hits} of {n}")
    if n == 0:
        return Proportion(hits=0, n=0, share=None, lo=None, hi=None)
    share, z2 = hits / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Proportion(hits=hits, n=n, share=share, lo=max(0.0, centre - half), hi=min(1.0, centre + half))


def bootstrap(groups: Sequence[str], statistic: Callable[[Floats], float], *, rounds: int, seed: int) -> Bounds:
    """Percentile interval of `statistic` over `rounds` resamples of the groups, drawn with replacement.

    `groups` names each item's group. `statistic` takes a weight per item, float64 `[n]`: how often its group was drawn.
    Rounds in which it is NaN are left out; if fewer than half remain, the interval is NaN.
    """
    names, codes = np.unique(np.asarray(groups, np.str_), return_inverse=True)
    if rounds <= 0 or names.size < 2:
        return Bounds(float("nan"), float("nan"))
    draws = np.random.default_rng(seed).multinomial(names.size, np.full(names.size, 1 / names.size), rounds)
    values = np.array([statistic(draw[codes].astype(np.float64)) for draw in draws])
    kept = values[~np.isnan(values)]
    if kept.size * 2 < rounds:
        return Bounds(float("nan"), float("nan"))
    lo, hi = np.quantile(kept, [0.025, 0.975])
    return Bounds(float(lo), float(hi))


def rate_upper_bound(events: int, hours: float) -> float:
    """Upper 95 % bound of the rate per hour, given `events` in `hours`: exact Poisson, one-sided (Garwood 1936).

    Zero events in one hour give 3.0 per hour. NaN without observation time.
    """
    if hours <= 0:
        return float("nan")
    return poisson_mean_where(lambda mean: poisson_cdf(events, mean) > 0.05, events) / hours


def poisson_mean_where(below: Callable[[float], bool], count: int) -> float:
    """Find the mean, for counts near `count`, at which `below` turns from true to false, to 1e-12 of its range."""
    low, high = 0.0, 20.0 + 2.0 * count + 10.0 * math.sqrt(count)
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return (low + high) / 2


def poisson_cdf(count: int, mean: float) -> float:
    """P(N <= count) for a Poisson `mean`, computed with logarithms, because exp(-mean) underflows for large means."""
    if mean == 0:
        return 1.0
    return math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1))
