"""Bootstrap draws as one matrix, so that the interval of each score costs one matrix product.

A score here is a function of weighted sums over clips. Row 0 of the matrix weighs every clip once and gives the value.
The other rows are resamples by group, drawn as in `edge_sdk.evaluation.resample.bootstrap`, and give the interval.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sdk.evaluation.report import Measure, measure
from edge_sdk.evaluation.resample import Bounds

Floats = NDArray[np.float64]


class Draws:
    """How often each of `n` clips counts, `weights` float64 `[1 + rounds, n]`: first once each, then resampled."""

    def __init__(self, weights: Floats) -> None:
        self.weights = weights

    @classmethod
    def over(cls, groups: Sequence[str], *, rounds: int, seed: int) -> Draws:
        """Draw whole groups with replacement; `groups` names each clip's group. Fewer than two give no resample."""
        names, codes = np.unique(np.asarray(groups, np.str_), return_inverse=True)
        once = np.ones((1, len(groups)))
        if rounds <= 0 or names.size < 2:
            return cls(once)
        drawn = np.random.default_rng(seed).multinomial(names.size, np.full(names.size, 1 / names.size), rounds)
        return cls(np.concatenate([once, drawn[:, codes].astype(np.float64)]))

    @property
    def size(self) -> int:
        """Number of clips."""
        return int(self.weights.shape[1])

    def take(self, chosen: ArrayLike) -> Draws:
        """Return the same draws for some of the clips: `chosen` is bool `[n]` or indices."""
        return Draws(self.weights[:, np.asarray(chosen)])

    def total(self, values: ArrayLike) -> Floats:
        """Weighted sums of `values [n]` or `[n, k]`: `[1 + rounds]` or `[1 + rounds, k]`."""
        sums: Floats = self.weights @ np.asarray(values, np.float64)
        return sums

    def mean(self, values: ArrayLike) -> Floats:
        """Weighted means of `values [n]`; NaN in a draw without any clip."""
        return ratio(self.total(values), self.weights.sum(axis=1), empty=float("nan"))


def ratio(part: Floats, whole: Floats, *, empty: float = 0.0) -> Floats:
    """Divide `part` by `whole`; the result is `empty` where `whole` is 0."""
    shares: Floats = np.divide(part, whole, out=np.full_like(part, empty, np.float64), where=whole != 0)
    return shares


def sure(drawn: Floats) -> Measure:
    """Compute a score's value and 95 % percentile interval from `[1 + rounds]` values, NaN for draws without a score.

    The interval is left out if fewer than half the resamples define the score.
    """
    value, resampled = float(drawn[0]), drawn[1:]
    kept = resampled[~np.isnan(resampled)]
    if not kept.size or kept.size * 2 < resampled.size:
        return measure(value, Bounds(float("nan"), float("nan")))
    lo, hi = np.quantile(kept, [0.025, 0.975])
    return measure(value, Bounds(float(lo), float(hi)))
