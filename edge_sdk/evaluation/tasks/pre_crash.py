"""Pre-crash scores: the reference's one-sided "IoU" of a warning time, and time to accident (TTA).

TTA is the time from the first warning sign to the labelled start of the crash, so these scores need that start. A time
at most 0.5 s before the labelled sign scores 1. An earlier time, and one in the crash, score 0. Between sign and crash
the score falls with the remaining time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from edge_sdk.evaluation.report import Measure
from edge_sdk.evaluation.tasks import intervals
from edge_sdk.evaluation.tasks.draws import Draws, Floats, ratio, sure

EARLY_S = 0.5


def reference_iou(sign_s: ArrayLike, answer_s: ArrayLike, crash_s: ArrayLike, *, tolerance_s: float = 0.0) -> Floats:
    """Score `answer_s` for a sign at `sign_s` and a crash at `crash_s`, float `[n]` each, seconds; NaN gives 0.

    Labels are in tenths of a second, which binary numbers represent inexactly: for a sign at 2.2 s, the reference
    counts 1.7 s as too early. `tolerance_s` allows for the rounding error.
    """
    sign, answer, crash = (np.asarray(times, np.float64) for times in (sign_s, answer_s, crash_s))
    late = ratio(np.maximum(crash - answer, 0.0), crash - sign)
    in_time = (answer >= sign - EARLY_S - tolerance_s) & (answer < crash)
    score: Floats = np.where(in_time, np.where(answer < sign, 1.0, late), 0.0)
    return score


def scores(
    sign_s: ArrayLike, answer_s: ArrayLike, crash_s: ArrayLike, iou: Floats, draws: Draws, *, tolerance: float = 0.0
) -> dict[str, Measure]:
    """Compute IoU scores of `iou [n]`, mean TTA as labelled and as answered, and TTA's mean absolute error, seconds.

    An answer in the crash, or no answer (NaN), has a TTA of 0. `tolerance` is that of `intervals.scores`.
    """
    sign, answer, crash = (np.asarray(times, np.float64) for times in (sign_s, answer_s, crash_s))
    labelled, left = crash - sign, np.nan_to_num(np.maximum(crash - answer, 0.0))
    return intervals.scores(iou, draws, tolerance=tolerance) | {
        "tta_true_s": sure(draws.mean(labelled)),
        "tta_s": sure(draws.mean(left)),
        "tta_mae_s": sure(draws.mean(np.abs(labelled - left))),
    }
