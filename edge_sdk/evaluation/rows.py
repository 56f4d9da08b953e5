"""Reduce one scorer's answers to one set of samples to the numbers of a table row.

Frame AUC is computed over crash samples only, with their frames before and after the crash as negatives. Against frames
of other clips, recognising the archive would be enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.evaluation import boundaries
from edge_sdk.evaluation.metrics import Ranking
from edge_sdk.evaluation.report import FalseAlarms, Measure, Row, measure
from edge_sdk.evaluation.resample import Bounds, Proportion, bootstrap, rate_upper_bound
from edge_sdk.evaluation.samples import Sample
from edge_sdk.evaluation.scorer import ClipScores, Guess

GRID_S = 0.1
NAN = float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """One scorer's answers to `samples`, in their order."""

    scorer: str
    samples: Sequence[Sample]
    scores: Sequence[ClipScores]

    def of(self, chosen: Sequence[int]) -> Answers:
        """Return the answers to some of the samples, by index."""
        samples, scores = [self.samples[i] for i in chosen], [self.scores[i] for i in chosen]
        return Answers(scorer=self.scorer, samples=samples, scores=scores)

    def crashes(self) -> Answers:
        """Return the answers to samples that show a crash."""
        return self.of([i for i, sample in enumerate(self.samples) if sample.crash])


def row_of(answers: Answers, *, seed: int, rounds: int) -> Row:
    """Compute every metric of one scorer, with bootstrap intervals from `rounds` resamples of the groups."""
    crashes = answers.crashes()
    guesses = _guesses(crashes)
    clips = Ranking([sample.crash for sample in answers.samples], [answer.score for answer in answers.scores])
    groups = [sample.group for sample in answers.samples]
    # The verdict on a whole stream says little, because it depends on the stream's length and splices.
    ranked = not clips.truth.all() and answers.samples[0].track != "streams"
    best = clips.best_f1()

    def sure(statistic: Callable[[NDArray[np.float64]], float]) -> Measure:
        value = statistic(np.ones(clips.truth.size)) if ranked else NAN
        return measure(value, bootstrap(groups, statistic, rounds=0 if math.isnan(value) else rounds, seed=seed))

    return Row(
        scorer=answers.scorer,
        clip_ap=sure(clips.average_precision),
        clip_auc=sure(clips.roc_auc),
        f1=sure(_verdict_f1(answers)),
        best_f1=sure(lambda weight: clips.best_f1(weight).f1),
        best_threshold=best.value if ranked and clips.truth.any() else None,
        frame_auc=frame_auc(crashes, seed=seed, rounds=rounds),
        start=_start(guesses),
        overlap=_overlap(guesses),
        coverage=_coverage(guesses),
        delay=_delay(crashes),
        false_alarms=false_alarms(answers),
    )


def _verdict_f1(answers: Answers) -> Callable[[NDArray[np.float64]], float]:
    """Return the F1 of the scorer's alarms as a function of the samples' weights; NaN for a scorer without alarms."""
    if any(answer.alarms_s is None for answer in answers.scores):
        return lambda _weight: NAN
    truth = np.array([sample.crash for sample in answers.samples])
    claimed = np.array([bool(answer.alarms_s) for answer in answers.scores])

    def f1(weight: NDArray[np.float64]) -> float:
        total = weight @ claimed + weight @ truth
        return float(2 * (weight @ (claimed & truth)) / total) if total else NAN

    return f1


def frame_auc(crashes: Answers, *, seed: int, rounds: int) -> Measure:
    """Compute the ROC AUC of frame scores inside against outside the labelled crash, over the frames that count."""
    truth, score, groups = [], [], []
    for sample, answer in zip(crashes.samples, crashes.scores, strict=True):
        counted = sample.counted(answer.frame_times_s)
        truth.append(sample.crashing(answer.frame_times_s)[counted])
        score.append(answer.crash[counted])
        groups += [sample.group] * int(counted.sum())
    if not groups:
        return measure(NAN, Bounds(NAN, NAN))
    frames = Ranking(np.concatenate(truth), np.concatenate(score))
    varied = frames.levels.size > 1
    return measure(frames.roc_auc(), bootstrap(groups, frames.roc_auc, rounds=rounds * varied, seed=seed))


def false_alarms(answers: Answers) -> FalseAlarms | None:
    """Count alarms where there is no crash, also in crash samples: before the alarm window and in the surroundings.

    Returns None for a scorer without alarms. Streams have no upper bound: the same footage surrounds many of them, so
    their hours are not independent.
    """
    count, seconds = 0, 0.0
    for sample, answer in zip(answers.samples, answers.scores, strict=True):
        if answer.alarms_s is None:
            return None
        seconds += float(_quiet(sample, np.arange(0.0, sample.duration_s, GRID_S)).sum()) * GRID_S
        count += int(_quiet(sample, np.array(answer.alarms_s, np.float64)).sum())
    hours = seconds / 3600
    shared = any(sample.track == "streams" for sample in answers.samples)
    upper = NAN if shared else rate_upper_bound(count, hours)
    return FalseAlarms(
        count=count,
        hours=hours,
        per_hour=count / hours if hours else None,
        upper_per_hour=None if math.isnan(upper) else upper,
    )


def _quiet(sample: Sample, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the `times_s` at which an alarm would be false; times at which it would be right or ignored are unmarked."""
    quiet = ~sample.shaded(times_s)
    if sample.crash and sample.start_s is not None:
        begin_s = boundaries.alarm_begin_s(sample.start_s, sample.warning_s)
        end_s = sample.scored_s[1] if sample.scored_s else np.inf
        late = times_s > sample.start_s + boundaries.ALARM_AFTER_S
        quiet &= (times_s < begin_s) | (late & (times_s >= end_s))
    return quiet


def guess_of(sample: Sample, answer: ClipScores) -> Guess | None:
    """Return the best guess outside the shadows of splices, where guesses are ignored; None if there is none."""
    kept = (guess for guess in answer.guesses if not sample.shaded(np.array([guess.start_s]))[0])
    return next(kept, None)


def _guesses(crashes: Answers) -> list[tuple[Sample, Guess | None]]:
    pairs = zip(crashes.samples, crashes.scores, strict=True)
    return [(sample, guess_of(sample, answer)) for sample, answer in pairs]


def _start(guesses: Sequence[tuple[Sample, Guess | None]]) -> boundaries.StartError:
    truth = np.array([sample.start_s for sample, _ in guesses], np.float64)
    return boundaries.start_error(truth, [NAN if guess is None else guess.start_s for _, guess in guesses])


def _overlap(guesses: Sequence[tuple[Sample, Guess | None]]) -> boundaries.Overlap:
    labelled = [(sample, guess) for sample, guess in guesses if sample.end_s is not None]
    truth = np.array([(sample.start_s, sample.end_s) for sample, _ in labelled], np.float64)
    answered = [(NAN, NAN) if g is None or g.end_s is None else (g.start_s, g.end_s) for _, g in labelled]
    return boundaries.overlap(truth, answered)


def _coverage(guesses: Sequence[tuple[Sample, Guess | None]]) -> Proportion:
    truth = np.array([sample.start_s for sample, _ in guesses], np.float64)
    bounds = [(NAN, NAN) if g is None or g.start_interval_s is None else g.start_interval_s for _, g in guesses]
    low_high = np.array(bounds, np.float64).reshape(-1, 2)
    return boundaries.coverage(truth, low_high[:, 0], low_high[:, 1])


def _delay(crashes: Answers) -> boundaries.Delay | None:
    starts, alarms = [], []
    for sample, answer in zip(crashes.samples, crashes.scores, strict=True):
        if answer.alarms_s is None or sample.start_s is None:
            return None
        heard = [alarm for alarm in answer.alarms_s if not sample.shaded(np.array([alarm]))[0]]
        starts.append(sample.start_s)
        alarms.append(boundaries.first_alarm_s(sample.start_s, heard, sample.warning_s))
    return boundaries.delay(starts, alarms) if starts else None
