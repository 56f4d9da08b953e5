"""Ranking metrics of scores against yes/no truths, weighted so that a bootstrap needs no second sort.

A resample by group is the same data with other weights. Every metric here therefore takes a weight per item, and
`Ranking` sorts once. A metric that the data does not define (one class only) is NaN, which JSON shows as null.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sdk.errors import ConfigError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Threshold(NamedTuple):
    """A decision threshold (`score >= value` is yes) and the F1 it gives."""

    value: float
    f1: float


class Ranking:
    """Items with a truth and a score, sorted once; ties share a rank."""

    def __init__(self, truth: ArrayLike, score: ArrayLike) -> None:
        """`truth` is bool `[n]`, `score` float `[n]`, higher meaning yes; `ConfigError` for bad shapes or NaN."""
        self.truth, scores = _checked(truth, score)
        self.levels, self._rank = np.unique(scores, return_inverse=True)

    def average_precision(self, weight: ArrayLike | None = None) -> float:
        """Sum (recall step) x precision over thresholds, without interpolation; tied items enter together."""
        hits, misses = self._above(weight)
        if hits.size == 0 or hits[-1] == 0:
            return float("nan")
        steps = np.diff(hits, prepend=0.0)
        seen = hits + misses
        precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
        return float(np.sum(steps * precision) / hits[-1])

    def roc_auc(self, weight: ArrayLike | None = None) -> float:
        """Probability that a positive scores above a negative, ties counting half (Mann-Whitney U / (P N))."""
        positives, negatives = self._by_level(weight)
        pairs = positives.sum() * negatives.sum()
        if pairs == 0:
            return float("nan")
        below = np.cumsum(negatives) - negatives
        return float(np.sum(positives * (below + negatives / 2)) / pairs)

    def best_f1(self, weight: ArrayLike | None = None) -> Threshold:
        """Find the observed score that, as threshold, gives the highest F1; among equals, the highest threshold."""
        hits, misses = self._above(weight)
        if hits.size == 0 or hits[-1] == 0:
            return Threshold(float("nan"), float("nan"))
        f1 = 2 * hits / (hits + misses + hits[-1])
        best = int(np.argmax(f1))
        return Threshold(float(self.levels[::-1][best]), float(f1[best]))

    def _by_level(self, weight: ArrayLike | None) -> tuple[Floats, Floats]:
        """Return the weights of positives and of negatives at each score level, lowest level first."""
        weights = np.ones(self.truth.size) if weight is None else np.asarray(weight, np.float64)
        count = self.levels.size
        positives: Floats = np.bincount(self._rank, weights * self.truth, count).astype(np.float64)
        negatives: Floats = np.bincount(self._rank, weights * ~self.truth, count).astype(np.float64)
        return positives, negatives

    def _above(self, weight: ArrayLike | None) -> tuple[Floats, Floats]:
        """Return true and false positives with the threshold at each level, highest level first."""
        positives, negatives = self._by_level(weight)
        return np.cumsum(positives[::-1]), np.cumsum(negatives[::-1])


def average_precision(truth: ArrayLike, score: ArrayLike) -> float:
    """Average precision of `score` for `truth`; NaN without a positive."""
    return Ranking(truth, score).average_precision()


def roc_auc(truth: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve of `score` for `truth`; NaN with one class only."""
    return Ranking(truth, score).roc_auc()


def best_f1(truth: ArrayLike, score: ArrayLike) -> Threshold:
    """Find the threshold with the highest F1 on these items themselves: an upper bound, not an operating point."""
    return Ranking(truth, score).best_f1()


def _checked(truth: ArrayLike, score: ArrayLike) -> tuple[Bools, Floats]:
    truths, scores = np.asarray(truth, np.bool_), np.asarray(score, np.float64)
    if truths.ndim != 1 or truths.shape != scores.shape:
        raise ConfigError(f"truth and score must be two lists of equal length, found {truths.shape} and {scores.shape}")
    if np.isnan(scores).any():
        raise ConfigError(f"{int(np.isnan(scores).sum())} of {scores.size} scores are NaN; leave such items out")
    return truths, scores
