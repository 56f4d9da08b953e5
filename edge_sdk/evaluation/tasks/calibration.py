"""How well probabilities of a crash match the share of crashes: Brier score, calibration error, reliability bins.

Bins hold equal numbers of clips, because scores crowd at both ends and bins of equal width would be empty in between
(Nixon et al. 2019). Equal scores share a bin, so the order of clips does not matter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.report import Measure, measure
from edge_sdk.evaluation.resample import Bounds
from edge_sdk.evaluation.tasks.draws import Draws, Floats, ratio, sure
from edge_sdk.types import Value

BINS = 10
_TRUTHS = 200


class ReliabilityBin(Value, frozen=True, kw_only=True):
    """Clips of similar probability: their number, their mean probability, and the share with a crash."""

    clips: int
    said: float
    happened: float


class Calibration(Value, frozen=True, kw_only=True):
    """Brier score (Brier 1950) and expected calibration error of `clips` probabilities.

    `brier_constant` is the Brier score of giving every clip the share of crashes. The calibration error of few clips is
    above 0 by chance alone, and resampling adds as much again, so it has no interval. `ece_if_right` is its average if
    every probability were right.
    """

    clips: int
    brier: Measure
    brier_constant: float
    ece: Measure
    ece_if_right: float | None = None
    bins: tuple[ReliabilityBin, ...]


def calibration(truth: ArrayLike, said: ArrayLike, draws: Draws, *, bins: int = BINS) -> Calibration:
    """Judge probabilities `said`, float `[n]`, of `truth`, bool `[n]`.

    Raises `ConfigError` for probabilities outside 0..1, for none, and for different lengths.
    """
    crash, probability = np.asarray(truth, np.float64), np.asarray(said, np.float64)
    if crash.shape != probability.shape or not crash.size or not ((probability >= 0) & (probability <= 1)).all():
        raise ConfigError("calibration needs one probability between 0 and 1 for each clip")
    base = float(draws.mean(crash)[0])
    per_bin = _bin_sums(crash, probability, Draws(draws.weights[:1]), bins)
    clips, promised, happened = per_bin[0, :, 0], per_bin[0, :, 1], per_bin[0, :, 2]
    error = float(_errors(per_bin)[0])
    return Calibration(
        clips=crash.size,
        brier=sure(draws.mean((probability - crash) ** 2)),
        brier_constant=base * (1 - base),
        ece=measure(error, Bounds(float("nan"), float("nan"))),
        ece_if_right=_error_if_right(probability, draws, bins),
        bins=tuple(
            ReliabilityBin(clips=round(n), said=float(p / n), happened=float(h / n))
            for n, p, h in zip(clips, promised, happened, strict=True)
            if n
        ),
    )


def error_in_words(found: Calibration) -> str:
    """Describe the calibration error, and what it would be by chance if all probabilities were right."""
    said = "-" if found.ece.value is None else f"{found.ece.value:.3f}"
    return said if found.ece_if_right is None else f"{said} (by chance, if all were right: {found.ece_if_right:.3f})"


def _error_if_right(probability: Floats, draws: Draws, bins: int) -> float:
    """Compute the mean calibration error of `_TRUTHS` sets of truths drawn from the probabilities."""
    rng, once = np.random.default_rng(0), Draws(draws.weights[:1])
    truths = rng.random((_TRUTHS, probability.size)) < probability
    return float(np.mean([_errors(_bin_sums(each.astype(np.float64), probability, once, bins)) for each in truths]))


def _errors(per_bin: NDArray[np.float64]) -> Floats:
    """Compute the calibration error of each draw."""
    gaps = np.abs(per_bin[..., 1] - per_bin[..., 2]).sum(axis=1)
    return ratio(gaps, per_bin[..., 0].sum(axis=1), empty=float("nan"))


def _bin_sums(crash: Floats, probability: Floats, draws: Draws, bins: int) -> NDArray[np.float64]:
    """Sum clips, probabilities and crashes per draw and bin: `[1 + rounds, bins, 3]`."""
    order = np.argsort(probability, kind="stable")
    weights, sorted_said = draws.weights[:, order], probability[order]
    first = np.flatnonzero(np.diff(sorted_said, prepend=-1.0))
    mass = np.add.reduceat(weights, first, axis=1)
    positive = np.add.reduceat(weights * crash[order], first, axis=1)
    middle = np.cumsum(mass, axis=1) - mass / 2
    share = ratio(middle, np.broadcast_to(mass.sum(axis=1, keepdims=True), middle.shape))
    level = np.minimum((share * bins).astype(np.intp), bins - 1)
    sums = np.stack([mass, mass * sorted_said[first], positive], axis=-1)
    return np.stack([(sums * (level == each)[..., None]).sum(axis=1) for each in range(bins)], axis=1)
