"""Crash interval scores: mean IoU, and the share of clips whose IoU reaches .3, .5 and .7.

The paper calls these shares AP@30, AP@50 and AP@70, although no precision is involved. A labelled crash of zero length
has IoU 0 with every answer, even the right one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.boundaries import IOU_LEVELS, TOLERANCE
from edge_sdk.evaluation.report import Measure
from edge_sdk.evaluation.tasks.draws import Draws, Floats, ratio, sure


def reference_iou(truth: ArrayLike, answer: ArrayLike) -> Floats:
    """Overlap divided by hull of intervals float `[n, 2]`, seconds; reversed ends are swapped, and NaN answers give 0.

    The hull of two overlapping intervals is their union, so this equals the usual IoU.
    """
    first, second = (np.sort(np.asarray(spans, np.float64).reshape(-1, 2), axis=1) for spans in (truth, answer))
    if first.shape != second.shape:
        raise ConfigError(f"intervals must be two lists of equal length, found {len(first)} and {len(second)}")
    inner = np.maximum(np.minimum(first[:, 1], second[:, 1]) - np.maximum(first[:, 0], second[:, 0]), 0.0)
    hull = np.maximum(first[:, 1], second[:, 1]) - np.minimum(first[:, 0], second[:, 0])
    return np.nan_to_num(ratio(inner, hull))


def scores(iou: ArrayLike, draws: Draws, *, tolerance: float = 0.0) -> dict[str, Measure]:
    """Compute `miou`, and the shares of clips that reach each level, `iou_30`, `iou_50` and `iou_70`, from IoU `[n]`.

    The reference has no `tolerance`, so an IoU of exactly .3 may miss the level .3 by a rounding error.
    """
    reached = np.asarray(iou, np.float64)
    found = {"miou": sure(draws.mean(reached))}
    return found | {f"iou_{level * 100:.0f}": sure(draws.mean(reached >= level - tolerance)) for level in IOU_LEVELS}


def start_scores(truth_s: ArrayLike, answer_s: ArrayLike, draws: Draws) -> dict[str, Measure]:
    """Compute the mean absolute error of answered times `[n]`, seconds (NaN: no answer), and the share within 1 s.

    The share is of all clips.
    """
    error = np.abs(np.asarray(answer_s, np.float64) - np.asarray(truth_s, np.float64))
    answered = ~np.isnan(error)
    mean = draws.take(answered).mean(error[answered])
    return {
        "start_mae_s": sure(mean),
        "start_1s": sure(draws.mean(np.nan_to_num(error, nan=np.inf) <= 1.0 + TOLERANCE)),
    }
