"""Check whether scores are calibrated probabilities: held-out windows in bins, as numbers and as a picture.

A student's own scale was fitted on other clips. So `cross_fitted` fits the scale again, for each fold on all others,
like a user who calibrates on their own clips.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from edge_sdk.evaluation.rows import Answers
from edge_sdk.evaluation.tasks.calibration import Calibration, calibration
from edge_sdk.evaluation.tasks.draws import Draws

Floats = NDArray[np.float64]
# Scores are kept this far from 0 and 1, so that they have a finite logit.
EDGE = 1e-6


def reliability(answers: Answers, said: Floats, *, seed: int, rounds: int) -> Calibration:
    """Compare the probabilities `said [n]` of the samples of `answers` with their labels."""
    draws = Draws.over([sample.group for sample in answers.samples], rounds=rounds, seed=seed)
    return calibration([sample.crash for sample in answers.samples], said, draws)


def cross_fitted(truth: Sequence[bool], score: Sequence[float], fold: Sequence[int]) -> Floats:
    """sigmoid(a * logit(score) + b) `[n]`, with the maximum-likelihood `a, b` of the other folds (Platt 1999)."""
    labels, folds = np.asarray(truth, np.bool_), np.asarray(fold)
    raw = np.clip(np.asarray(score, np.float64), EDGE, 1 - EDGE)
    logit = np.log(raw / (1 - raw))[:, None]
    said = np.empty(len(logit))
    for held_out in np.unique(folds):
        here = folds == held_out
        said[here] = LogisticRegression(C=np.inf).fit(logit[~here], labels[~here]).predict_proba(logit[here])[:, 1]
    return said
