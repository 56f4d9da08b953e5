"""Recognition scores of "yes", as printed by the reference's script, of "no", and macro, as in the paper's tables.

The paper's three numbers are means over the two classes: FN 1 and FP 34 of 1,162 crashes and 677 others is the only
confusion that gives them. All are reported, because a mean over classes gives the rarer class the same weight.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from edge_sdk.evaluation.report import Measure
from edge_sdk.evaluation.tasks.draws import Draws, Floats, ratio, sure
from edge_sdk.types import Value


class Confusion(Value, frozen=True, kw_only=True):
    """Clips by truth and answer; positive is a crash."""

    tp: int
    fn: int
    fp: int
    tn: int


def confusion(truth: ArrayLike, claimed: ArrayLike) -> Confusion:
    """Count the cells of `truth` and `claimed`, bool `[n]`."""
    crash, said = np.asarray(truth, np.bool_), np.asarray(claimed, np.bool_)
    cells = (crash & said, crash & ~said, ~crash & said, ~crash & ~said)
    tp, fn, fp, tn = (int(cell.sum()) for cell in cells)
    return Confusion(tp=tp, fn=fn, fp=fp, tn=tn)


def scores(truth: ArrayLike, claimed: ArrayLike, draws: Draws, *, strict: bool = False) -> dict[str, Measure]:
    """Compute accuracy, and precision, recall and F1 of "yes", "no" and macro, from `truth` and `claimed`, bool `[n]`.

    A class without a clip scores 0, as in the reference's script. With `strict` its scores are undefined, so that a
    resample without the rarer class does not distort that class's interval.
    """
    crash, said = np.asarray(truth, np.bool_), np.asarray(claimed, np.bool_)
    cells = np.stack([crash & said, crash & ~said, ~crash & said, ~crash & ~said], axis=1)
    counts = draws.total(cells)
    blank = np.where(counts.sum(axis=1) > 0, 0.0, np.nan)
    yes, no = counts[:, :2].sum(axis=1) > 0, counts[:, 2:].sum(axis=1) > 0
    defined = {"accuracy": yes | no, "yes": yes, "no": no, "macro": yes & no}
    return {
        name: sure(np.where(defined[name.partition("_")[0]] | (not strict), drawn, np.nan) + blank)
        for name, drawn in of_counts(counts).items()
    }


def of_counts(cells: ArrayLike) -> dict[str, Floats]:
    """Compute scores of counts `[..., 4]` in the order TP, FN, FP, TN; a share with denominator 0 is 0."""
    tp, fn, fp, tn = np.moveaxis(np.asarray(cells, np.float64), -1, 0)
    yes, no = _of_class(tp, fn, fp), _of_class(tn, fp, fn)
    found = {"accuracy": ratio(tp + tn, tp + fn + fp + tn)}
    found |= {f"{side}_{name}": each[name] for side, each in (("yes", yes), ("no", no)) for name in each}
    return found | {f"macro_{name}": (yes[name] + no[name]) / 2 for name in yes}


def _of_class(hits: Floats, missed: Floats, wrong: Floats) -> dict[str, Floats]:
    return {
        "precision": ratio(hits, hits + wrong),
        "recall": ratio(hits, hits + missed),
        "f1": ratio(2 * hits, 2 * hits + missed + wrong),
    }
