"""Pre-crash scores: the reference's one-sided "IoU" of a warning time, and time to accident (TTA).

TTA is what remains from the first warning sign to the labelled start of the crash, so these scores need that start.
A time up to 0.5 s before the labelled sign is perfect, one still earlier or one in the crash is worth nothing, and
between sign and crash the score falls with the time that is left.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from edge_sdk.evaluation.report import Measure
from edge_sdk.evaluation.tasks import intervals
from edge_sdk.evaluation.tasks.draws import Draws, Floats, ratio, sure

EARLY_S = 0.5


def reference_iou(sign_s: ArrayLike, answer_s: ArrayLike, crash_s: ArrayLike, *, tolerance_s: float = 0.0) -> Floats:
    """Score of `answer_s` for a sign at `sign_s` and a crash at `crash_s`, float `[n]` each, seconds; NaN gives 0.

    Labels have tenths of a second, which binary numbers miss by a hair: the reference calls 1.7 s too early for a sign
    at 2.2 s. `tolerance_s` closes that gap.
    """
    sign, answer, crash = (np.asarray(times, np.float64) for times in (sign_s, answer_s, crash_s))
    late = ratio(np.maximum(crash - answer, 0.0), crash - sign)
    in_time = (answer >= sign - EARLY_S - tolerance_s) & (answer < crash)
    score: Floats = np.where(in_time, np.where(answer < sign, 1.0, late), 0.0)
    return score


def scores(
    sign_s: ArrayLike, answer_s: ArrayLike, crash_s: ArrayLike, iou: Floats, draws: Draws, *, tolerance: float = 0.0
) -> dict[str, Measure]:
    """IoU scores of `iou [n]`, mean TTA as labelled and as answered, and TTA's mean absolute error, seconds.

    An answer in the crash, or none (NaN), leaves a TTA of 0. `tolerance` is that of `intervals.scores`.
    """
    sign, answer, crash = (np.asarray(times, np.float64) for times in (sign_s, answer_s, crash_s))
    labelled, left = crash - sign, np.nan_to_num(np.maximum(crash - answer, 0.0))
    return intervals.scores(iou, draws, tolerance=tolerance) | {
        "tta_true_s": sure(draws.mean(labelled)),
        "tta_s": sure(draws.mean(left)),
        "tta_mae_s": sure(draws.mean(np.abs(labelled - left))),
    }
