"""Text scores of description, cause and prevention: BLEU-4, ROUGE, and the share that is right to the letter.

Most clips share a few answers, and a third have no crash and one fixed sentence; so pairs are scored once each, and
whoever reports these numbers should report them on crashes alone too. BERTScore is left out: it needs a model that
must be downloaded (roberta-large), and calls everything at least 0.85.
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
    """BLEU-4, ROUGE and exact match of `answers` against `truths`, one each per clip.

    An empty answer is wrong: it matches nothing. Raises `ConfigError` for lists of different lengths, and
    `MissingDependencyError` where a package is not installed.
    """
    if len(truths) != len(answers):
        raise ConfigError(f"truths and answers must be as many, found {len(truths)} and {len(answers)}")
    return {name: sure(drawn) for name, drawn in of_sums(draws.total(clip_sums(truths, answers))).items()}


def clip_sums(truths: Sequence[str], answers: Sequence[str]) -> Floats:
    """What is to be summed over clips, float64 `[n, 21]`: BLEU's counts, ROUGE's scores, exact match, and 1."""
    rows = [pair_sums(truth, answer) for truth, answer in zip(truths, answers, strict=True)]
    return np.array(rows, np.float64).reshape(-1, COLUMNS)


@lru_cache(maxsize=1 << 16)
def pair_sums(truth: str, answer: str) -> tuple[float, ...]:
    """One clip's row of `clip_sums`; the same pair is scored once."""
    exact = float(truth.strip() == answer.strip())
    return (*bleu.pair_counts(truth, answer), *rouge.pair_scores(truth, answer), exact, 1.0)


def check_packages() -> None:
    """Raises `MissingDependencyError` where what scores texts is not installed; ask before hours of answering."""
    pair_sums("a crash", "a crash")


def of_sums(sums: Floats) -> dict[str, Floats]:
    """Scores by name from sums `[..., 21]`; NaN where no clip was summed."""
    clips = np.where(sums[..., -1:] > 0, sums[..., -1:], np.nan)
    means = sums[..., bleu.COUNTS : -1] / clips
    blank = np.where(np.isnan(clips[..., 0]), np.nan, 0.0)
    found = {"bleu4": bleu.of_counts(sums[..., : bleu.COUNTS]) + blank}
    return found | {name: means[..., column] for column, name in enumerate(NAMES[1:])}
