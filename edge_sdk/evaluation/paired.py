"""How much better one scorer is than another on the same samples, with an interval.

Both are resampled together: a hard recording is hard for both, so the difference is more certain than either number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.boundaries import TOLERANCE
from edge_sdk.evaluation.metrics import Ranking
from edge_sdk.evaluation.report import Measure, measure
from edge_sdk.evaluation.resample import bootstrap
from edge_sdk.evaluation.rows import Answers, guess_of

Floats = NDArray[np.float64]
# Maps the weights of all groups, in the order of their sorted names, to the metric.
ByGroup = Callable[[Floats], float]
WITHIN_S = 1.0


def clip_ap(answers: Answers) -> ByGroup:
    """Return clip AP as a function of the groups' weights."""
    ranking = Ranking([sample.crash for sample in answers.samples], [found.score for found in answers.scores])
    codes = group_codes(answers)
    return lambda weight: ranking.average_precision(weight[codes])


def frame_auc(answers: Answers) -> ByGroup:
    """Return frame AUC over crash samples, as defined in `rows.frame_auc`, as a function of the groups' weights."""
    truth, score, groups = [], [], []
    for sample, found in zip(answers.samples, answers.scores, strict=True):
        if sample.crash:
            counted = sample.counted(found.frame_times_s)
            truth.append(sample.crashing(found.frame_times_s)[counted])
            score.append(found.crash[counted])
            groups += [sample.group] * int(counted.sum())
    if not groups:
        return lambda _weight: float("nan")
    ranking, codes = Ranking(np.concatenate(truth), np.concatenate(score)), _codes(answers, groups)
    return lambda weight: ranking.roc_auc(weight[codes])


def start_within(answers: Answers) -> ByGroup:
    """Return the share of crash samples whose start is guessed within `WITHIN_S`, as a function of the groups' weights.

    A missing guess is a miss.
    """
    hits, groups = [], []
    for sample, found in zip(answers.samples, answers.scores, strict=True):
        if sample.crash and sample.start_s is not None:
            guess = guess_of(sample, found)
            hits.append(guess is not None and abs(guess.start_s - sample.start_s) <= WITHIN_S + TOLERANCE)
            groups.append(sample.group)
    right, codes = np.array(hits, np.float64), _codes(answers, groups)
    return lambda weight: float(weight[codes] @ right / weight[codes].sum()) if weight[codes].any() else float("nan")


def difference(
    first: Answers, second: Answers, metric: Callable[[Answers], ByGroup], *, seed: int, rounds: int
) -> Measure:
    """Compute `metric` of `first` minus that of `second`, with the bootstrap interval of the difference.

    Raises `ConfigError` for answers to different samples.
    """
    if [sample.path for sample in first.samples] != [sample.path for sample in second.samples]:
        raise ConfigError(f"{first.scorer} and {second.scorer} did not answer the same samples")
    left, right = metric(first), metric(second)
    return _sure(first, lambda weight: left(weight) - right(weight), seed=seed, rounds=rounds)


def value_of(answers: Answers, metric: Callable[[Answers], ByGroup], *, seed: int, rounds: int) -> Measure:
    """Compute `metric` of `answers` with its bootstrap interval."""
    return _sure(answers, metric(answers), seed=seed, rounds=rounds)


def _sure(answers: Answers, statistic: ByGroup, *, seed: int, rounds: int) -> Measure:
    names = sorted({sample.group for sample in answers.samples})
    return measure(statistic(np.ones(len(names))), bootstrap(names, statistic, rounds=rounds, seed=seed))


def group_codes(answers: Answers) -> NDArray[np.int64]:
    """Return the index of each sample's group in the sorted names, int64 `[samples]`."""
    return _codes(answers, [sample.group for sample in answers.samples])


def _codes(answers: Answers, groups: Sequence[str]) -> NDArray[np.int64]:
    names = sorted({sample.group for sample in answers.samples})
    places = {name: place for place, name in enumerate(names)}
    return np.array([places[group] for group in groups], np.int64)
