"""Logits as probabilities, and the thresholds below which an answer abstains."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle.manifest_language import AnswerFit
from edge_sdk.errors import RuntimeFailure
from edge_sdk.reasoning.answer import Floats

MIN_FORM_SHARE = 0.5
"""Below this share the model prefers text that the form does not allow, so the answer abstains."""

MIN_TEXT_PROBABILITY = 0.3
"""Free text whose tokens are less likely than this (geometric mean) abstains: many other texts were as likely."""

EVEN = 0.5
"""Below this calibrated probability of the given word, the other word is likelier."""

RIGHT_S, RIGHT_IOU = 0.5, 0.5
"""Limits for a right answer: error of a time in seconds, and IoU of an interval, as in CrashChat's AP@50."""

# Keeps the log odds of a certainty finite; calibration fits use the same limit.
_EDGE = 1e-6


class Scores:
    """Log probabilities of the tokens after one leaf."""

    def __init__(self, logits: Floats, task: str) -> None:
        """Take float32 `logits` `[vocab]`.

        Raises `RuntimeFailure`, naming `task`, for logits with a NaN or +inf, or without any finite value.
        """
        top = logits.max()
        if not np.isfinite(top):
            raise RuntimeFailure(
                f"{task}: expected the largest logit to be a finite number, found {top}; the decoder's weights or "
                "cache are damaged, or its precision overflows: run `edge-sdk verify`"
            )
        self._logits, self._top = logits, top

    @property
    def best(self) -> int:
        """The most likely token; of equals, the one with the lowest id."""
        return int(self._logits.argmax())

    def log_total(self) -> float:
        """Return the log of the sum of exponentials over the vocabulary; a logit minus it is a log probability."""
        return float(self._top) + math.log(float(np.exp(self._logits - self._top).sum()))

    def of(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the logits `[n]` of `tokens [n]`."""
        return self._logits[tokens].astype(np.float64)


def calibrated(probability: float, fit: AnswerFit | None) -> float:
    """Return `probability` corrected by `fit`; unchanged without a fit."""
    return probability if fit is None else sigmoid(fit.scale * log_odds(probability) + fit.offset)


def doubtful(probability: float | None, fit: AnswerFit | None, least: float = 0.0) -> bool:
    """Return whether a calibrated `probability` is below the threshold of `fit`, or below `least` if it has none.

    True for an answer without a probability.
    """
    own = None if fit is None else fit.abstain_below
    return probability is None or probability < (least if own is None else own)


def sigmoid(log_odds: float) -> float:
    """Return the probability with these log odds, which may be infinite."""
    return 1 / (1 + math.exp(-log_odds)) if log_odds >= 0 else 1 - 1 / (1 + math.exp(log_odds))


def log_odds(probability: float) -> float:
    """Return the log odds of `probability`, limited so that a certainty stays finite."""
    inner = min(max(probability, _EDGE), 1 - _EDGE)
    return math.log(inner / (1 - inner))
