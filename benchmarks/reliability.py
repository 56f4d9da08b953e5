"""Whether a score is the probability it is taken for: held-out windows in bins, as numbers and as a picture.

A student's own scale was fitted on other clips. `cross_fitted` therefore fits the scale anew, for each fold on all
others, which is what a user does who calibrates on clips of his own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from edge_sdk.evaluation.rows import Answers
from edge_sdk.evaluation.tasks.calibration import Calibration, calibration
from edge_sdk.evaluation.tasks.draws import Draws
from edge_sdk.files import atomic_path

Floats = NDArray[np.float64]
# Scores at the ends of 0..1 are held this far from them, so that they have a logit.
EDGE = 1e-6


def reliability(answers: Answers, said: Floats, *, seed: int, rounds: int) -> Calibration:
    """Probabilities `said [n]` of the samples of `answers` against what was to be seen."""
    draws = Draws.over([sample.group for sample in answers.samples], rounds=rounds, seed=seed)
    return calibration([sample.crash for sample in answers.samples], said, draws)


def cross_fitted(truth: Sequence[bool], score: Sequence[float], fold: Sequence[int]) -> Floats:
    """sigmoid(a * logit(score) + b) with `a, b` of greatest likelihood (Platt 1999) on the other folds, `[n]`."""
    labels, folds = np.asarray(truth, np.bool_), np.asarray(fold)
    raw = np.clip(np.asarray(score, np.float64), EDGE, 1 - EDGE)
    logit = np.log(raw / (1 - raw))[:, None]
    said = np.empty(len(logit))
    for held_out in np.unique(folds):
        here = folds == held_out
        said[here] = LogisticRegression(C=np.inf).fit(logit[~here], labels[~here]).predict_proba(logit[here])[:, 1]
    return said


def draw_reliability(found: Mapping[str, Calibration], path: Path) -> None:
    """Write a PNG: one curve for each of `found`, the share that had a crash over what was said."""
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", lw=1)
    for name, each in found.items():
        points = [(bin_.said, bin_.happened) for bin_ in each.bins]
        label = f"{name}: Brier {each.brier.value:.3f}, ECE {each.ece.value:.3f}"
        axes.plot(*zip(*points, strict=True), marker="o", ms=4, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability said", ylabel="share with a crash")
    axes.legend(fontsize=8, loc="upper left")
    axes.grid(alpha=0.3)
    with atomic_path(path) as stage:
        figure.savefig(stage, dpi=100)
