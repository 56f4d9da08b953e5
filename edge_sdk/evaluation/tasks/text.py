"""Text scores of description, cause and prevention: BLEU-4, ROUGE, and the share of exact matches.

Most clips share a few answers, so each different pair is scored once. A third have no crash and one fixed sentence, so
these numbers should also be reported on crashes only. BERTScore is left out: it needs a model that must be downloaded
(roberta-large), and gives every answer at least 0.85.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.report import Measure
from edge_sdk.evaluation.tasks import bleu, rouge
from edge_sdk.evaluation.tasks.draws import Draws, Floats, sure

NAMES = ("bleu4", *rouge.NAMES, "exact")
COLUMNS = bleu.COUNTS + len(rouge.NAMES) + 2


def scores(truths: Sequence[str], answers: Sequence[str], draws: Draws) -> dict[str, Measure]:
    """Compute BLEU-4, ROUGE and exact match of `answers` against `truths`, one of each per clip.

    An empty answer is wrong: it matches nothing. Raises `ConfigError` for lists of different lengths, and
    `MissingDependencyError` if a package is not installed.
    """
    if len(truths) != len(answers):
        raise ConfigError(f"expected as many truths as answers, found {len(truths)} and {len(answers)}")
    return {name: sure(drawn) for name, drawn in of_sums(draws.total(clip_sums(truths, answers))).items()}


def clip_sums(truths: Sequence[str], answers: Sequence[str]) -> Floats:
    """Return the values to sum over clips, float64 `[n, 21]`: BLEU's counts, ROUGE's scores, exact match, and 1."""
    rows = [pair_sums(truth, answer) for truth, answer in zip(truths, answers, strict=True)]
    return np.array(rows, np.float64).reshape(-1, COLUMNS)


@lru_cache(maxsize=1 << 16)
def pair_sums(truth: str, answer: str) -> tuple[float, ...]:
    """Return one clip's row of `clip_sums`; an equal pair is not scored again."""
    exact = float(truth.strip() == answer.strip())
    return (*bleu.pair_counts(truth, answer), *rouge.pair_scores(truth, answer), exact, 1.0)


def check_packages() -> None:
    """Raise `MissingDependencyError` if a package for text scores is missing; call it before hours of answering."""
    pair_sums("a crash", "a crash")


def of_sums(sums: Floats) -> dict[str, Floats]:
    """Compute scores by name from sums `[..., 21]`; NaN where no clip was summed."""
    clips = np.where(sums[..., -1:] > 0, sums[..., -1:], np.nan)
    means = sums[..., bleu.COUNTS : -1] / clips
    blank = np.where(np.isnan(clips[..., 0]), np.nan, 0.0)
    found = {"bleu4": bleu.of_counts(sums[..., : bleu.COUNTS]) + blank}
    return found | {name: means[..., column] for column, name in enumerate(NAMES[1:])}
