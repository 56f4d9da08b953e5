"""Calibration of the video LLM's answers, learnt from answers about clips whose truth is known.

Platt scaling (Platt 1999) turns the model's own probability of an answer into a share of right answers. Conformalised
quantiles (Romano et al. 2019) widen an interval until its stated coverage holds. An answer whose calibrated probability
is below a stated `least` abstains, which is Chow's rule (Chow 1970) if a wrong answer costs `least / (1 - least)` times
what a right one gains. Neither the model nor what it says is changed. Where answers with the student are right more
often, they get their own fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle.manifest_language import AnswerFit, FusedFit
from edge_sdk.calibration.operating_points import COVERAGE, fit_logistic, fit_platt
from edge_sdk.evaluation.boundaries import interval_iou
from edge_sdk.evaluation.tasks import parse
from edge_sdk.evaluation.tasks.calibration import Calibration, calibration
from edge_sdk.evaluation.tasks.draws import Draws
from edge_sdk.reasoning.answer import Answer
from edge_sdk.reasoning.forms.scores import EVEN, RIGHT_IOU, RIGHT_S, calibrated, log_odds, sigmoid
from edge_sdk.tasks import find_task
from edge_sdk.types import Value

MIN_ANSWERS = 20
LEAST = 0.5
FOLDS, ROUNDS = 5, 1000
# A probability that does not tell right from wrong is ignored: all answers get the share of right ones.
_NO_SCALE = 1e-6
# The probability of the sentence for clips without a crash, which is not decoded.
_CANNED = 1.0

Fitting = Callable[[Sequence["Judged"], float], AnswerFit]
# Any: a value by the form of the answer, see `Answer`.
TruthValue = Any


class Judged(Value, frozen=True, kw_only=True):
    """One answer compared with its truth. `weight` is how often the clip counts; `said` is the model's own probability.

    For a yes/no task `said` is the probability of "yes", and `right` says whether yes is true; for other forms `said`
    is the probability of the answer, and `right` says whether the answer is right. `misses_s` says by how much each
    number of the truth lies outside `lo..hi` (inside: below 0); it is empty for text and yes/no. `student` is the
    student's probability of a crash in the clip, if the answer is given with it. `verdict` is the probability of the
    verdict that a text follows. `teaches` says whether its words can be right at all, so that a fit learns from them.
    """

    clip: str
    said: Annotated[float, msgspec.Meta(ge=0, le=1)]
    right: bool
    weight: float = 1.0
    misses_s: tuple[float, ...] = ()
    student: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    verdict: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    teaches: bool = True


class Pair(NamedTuple):
    """An answer of the video LLM alone, and one `fused` with what the student saw; None where that is not used.

    For a text, `fused` waits for the verdict: it becomes `denial`, the task's sentence for clips without a crash, or
    `claim`, what the model says when it must not deny a crash.
    """

    alone: Judged
    fused: Judged | None = None
    denial: Judged | None = None
    claim: Judged | None = None


class TaskFit(Value, frozen=True, kw_only=True):
    """What was fitted for one task on `answers` answers, and its quality on clips that it was not fitted on.

    `raw` and `fitted` judge probabilities before and after. `given` is the share of answers that do not abstain;
    `right_of_given` and `right_of_kept_back` are the shares of right ones among the given and among the others.
    `coverage_raw` and `coverage` are the shares of truths inside `lo..hi` before and after, for an interval the worse
    of both numbers; None for text and yes/no. Clips count by their weights, as in the fit, except for margins and
    coverage, where each counts once. `with_student` is the same for answers with the student, if more of them are right
    than of the video LLM's own answers about the same clips.
    """

    fit: AnswerFit
    answers: int
    right: float
    raw: Calibration
    fitted: Calibration
    given: float
    right_of_given: float | None
    right_of_kept_back: float | None
    coverage_raw: float | None = None
    coverage: float | None = None
    with_student: TaskFit | None = None


def judge(answer: Answer, truth: str, clip: str, *, offset_s: float = 0.0, weight: float = 1.0) -> Judged | None:
    """Compare `answer` with the annotated `truth`; None for an answer without a value.

    `offset_s` is the time of the clip's first frame in the answer's times; the truth counts from that frame.
    """
    if answer.probability is None:
        return None
    form, right = find_task(answer.task).form, False
    misses: tuple[float, ...] = ()
    if form == "text":
        right = _words(answer.text) == _words(truth)
    elif answer.value is None:
        return None
    elif form == "yes_no":
        said = answer.probability if answer.value else 1 - answer.probability
        return Judged(clip=clip, said=said, right=bool(parse.yes_no(truth)), weight=weight)
    else:
        value, lo, hi = (_numbers(each, offset_s) for each in (answer.value, answer.lo, answer.hi))
        true = _numbers(parse.interval(truth) if form == "interval" else parse.time(truth), 0.0)
        misses = tuple(max(a - y, y - b) for a, y, b in zip(lo, true, hi, strict=True))
        near = abs(value[0] - true[0]) <= RIGHT_S + 1e-9
        right = bool(interval_iou([true], [value])[0] >= RIGHT_IOU) if form == "interval" else near
    return Judged(clip=clip, said=answer.probability, right=right, weight=weight, misses_s=misses)


def fit_task(judged: Sequence[Judged], least: float = LEAST) -> AnswerFit:
    """Fit the calibration of a task on `judged` answers; those with a probability below `least` abstain."""
    said, right, weights = _columns(judged)
    scale, offset = fit_platt(said, right, weights)
    if scale <= _NO_SCALE:
        scale, offset = _NO_SCALE, _log_odds(right, weights)
    return AnswerFit(scale=scale, offset=offset, margin_s=_margin_s(judged), abstain_below=least)


def fit_fused(judged: Sequence[Judged], least: float = LEAST) -> FusedFit:
    """Like `fit_task`, for answers with the student, whose own scores have a weight if every answer has one.

    For texts, fit how likely the words of claims are right where there is a crash.
    """
    if any(each.verdict is not None for each in judged):
        claims = [each for each in judged if each.teaches]
        return FusedFit(**msgspec.structs.asdict(fit_task(claims, least))) if claims else FusedFit(abstain_below=least)
    said, right, weights = _columns(judged)
    scores = [each.student for each in judged if each.student is not None]
    if len(scores) < len(judged):
        return FusedFit(**msgspec.structs.asdict(fit_task(judged, least)))
    scale, weight, offset = fit_logistic(np.stack([said, np.array(scores)], axis=1), right, weights)
    if scale > _NO_SCALE and weight > 0:
        return FusedFit(scale=scale, student_weight=weight, offset=offset, abstain_below=least)
    # Beside the other, one of the two has a weight of the wrong sign, and is left out.
    if scale > _NO_SCALE:
        return FusedFit(**msgspec.structs.asdict(fit_task(judged, least)))
    weight, offset = fit_platt(np.array(scores), right, weights)
    return FusedFit(scale=_NO_SCALE, student_weight=max(weight, 0.0), offset=offset, abstain_below=least)


def _margin_s(judged: Sequence[Judged]) -> float:
    """One margin for both numbers of an interval: the larger one."""
    margins = [conformal_margin([each.misses_s[n] for each in judged]) for n in range(len(judged[0].misses_s))]
    return max(margins, default=0.0)


def conformal_margin(misses_s: Sequence[float]) -> float:
    """By how much intervals must be widened so that `COVERAGE` of new truths lie inside, at least 0.

    It is the ceil((n + 1) c)-th smallest of n misses (Romano et al. 2019, equation 9); the largest if n is too small.
    """
    ordered, count = sorted(misses_s), len(misses_s)
    return max(0.0, round(ordered[min(count, math.ceil((count + 1) * COVERAGE)) - 1], 3))


def fit_pairs(task: str, pairs: Sequence[Pair], least: float = LEAST) -> TaskFit | None:
    """Fit answers to `task` on `pairs`, also those with the student if they are better.

    None with fewer than `MIN_ANSWERS`.
    """
    found, seen = fit_and_judge(task, [pair.alone for pair in pairs], least), [pair for pair in pairs if pair.fused]
    fused = fit_and_judge(task, [pair.fused for pair in seen if pair.fused], least, fitting=fit_fused)
    if found is None or fused is None or fused.right <= _best_alone(task, [pair.alone for pair in seen], least):
        return found
    return msgspec.structs.replace(found, with_student=fused)


def _best_alone(task: str, judged: Sequence[Judged], least: float) -> float:
    """The share of right answers without the student: of the model's own words or of a fit's decision, the larger."""
    found = [fit_and_judge(task, judged, least, fitting=fitting) for fitting in (fit_task, fit_fused)]
    return max((each.right for each in found if each is not None), default=1.0)


def settled(texts: Sequence[Pair], recognition: Sequence[Pair]) -> list[Pair]:
    """Give `texts` their `fused` answers by the verdict of LLM and student, from fits that did not see the clip."""
    seen = [pair.fused for pair in recognition if pair.fused]
    fits = _fold_fits(seen, LEAST, fit_fused)
    crash = {each.clip: _corrected(each, fit) for each, fit in zip(seen, fits, strict=True)}
    return [pair._replace(fused=_settled(pair, crash.get(pair.alone.clip))) for pair in texts]


def _settled(pair: Pair, crash: float | None) -> Judged | None:
    if crash is None or pair.denial is None or pair.claim is None:
        return None
    if crash < EVEN:
        return msgspec.structs.replace(pair.denial, verdict=1 - crash, teaches=False)
    # Where the denial is right, no words about a crash are right.
    return msgspec.structs.replace(pair.claim, verdict=crash, teaches=not pair.denial.right)


def fit_and_judge(
    task: str, judged: Sequence[Judged], least: float = LEAST, *, fitting: Fitting = fit_task
) -> TaskFit | None:
    """Fit `task` on all of `judged`; its quality is that of five fits, each on answers that it did not see.

    `fitting` is `fit_task`, or `fit_fused` for answers with the student. None with fewer than `MIN_ANSWERS`.
    """
    if len(judged) < MIN_ANSWERS:
        return None
    own = _fold_fits(judged, least, fitting)
    said = [each.said * (1.0 if each.verdict is None else each.verdict) for each in judged]
    corrected = [_corrected(each, fit) for each, fit in zip(judged, own, strict=True)]
    right = np.array([each.right for each in judged])
    weights = np.array([each.weight for each in judged])
    draws = Draws(Draws.over([each.clip for each in judged], rounds=ROUNDS, seed=0).weights * weights)
    words = find_task(task).form == "yes_no"
    # The word given is the model's own or, with the student, the one that is likelier by both.
    yes = np.array(said if fitting is fit_task else corrected) >= EVEN
    value, sure = _decided(yes, corrected, right) if words else (right, corrected)
    given = np.array(sure) >= (max(least, EVEN) if words else least)
    return TaskFit(
        fit=fitting(judged, least),
        answers=len(judged),
        right=float(np.average(value, weights=weights)),
        raw=calibration(right, said, draws),
        fitted=calibration(right, corrected, draws),
        given=float(np.average(given, weights=weights)),
        right_of_given=_share(value, weights, given),
        right_of_kept_back=_share(value, weights, ~given),
        coverage_raw=_coverage(judged, [0.0] * len(judged)),
        coverage=_coverage(judged, [fit.margin_s for fit in own]),
    )


def _fold_fits(judged: Sequence[Judged], least: float, fitting: Fitting) -> list[AnswerFit]:
    """For each answer, the fit on the other folds."""
    order = np.random.default_rng(0).permutation(len(judged))
    fits = [fitting([judged[n] for n in order if n % FOLDS != fold], least) for fold in range(FOLDS)]
    return [fits[n % FOLDS] for n in range(len(judged))]


def _corrected(each: Judged, fit: AnswerFit) -> float:
    """The calibrated probability of an answer, as the device computes it."""
    if each.verdict is not None:
        return each.verdict * (calibrated(each.said, fit) if each.said < _CANNED else 1.0)
    if not isinstance(fit, FusedFit) or each.student is None:
        return calibrated(each.said, fit)
    return sigmoid(fit.scale * log_odds(each.said) + fit.student_weight * log_odds(each.student) + fit.offset)


def _decided(
    yes: NDArray[np.bool_], corrected: Sequence[float], true: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], list[float]]:
    """Whether the word that is given is right, and the calibrated probability of that word."""
    return yes == true, [each if word else 1 - each for each, word in zip(corrected, yes, strict=True)]


def _columns(judged: Sequence[Judged]) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    rows = [(each.said, each.right, each.weight) for each in judged]
    said, right, weights = (np.array(column) for column in zip(*rows, strict=True))
    return said, right.astype(bool), weights


def _log_odds(right: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    """Log odds of the weighted share of right answers, with one more of each kind."""
    good, bad = weights[right].sum() + 1, weights[~right].sum() + 1
    return math.log(good / bad)


def _share(value: NDArray[np.bool_], weights: NDArray[np.float64], chosen: NDArray[np.bool_]) -> float | None:
    return float(np.average(value[chosen], weights=weights[chosen])) if chosen.any() else None


def _coverage(judged: Sequence[Judged], margins_s: Sequence[float]) -> float | None:
    numbers = len(judged[0].misses_s)
    if not numbers:
        return None
    pairs = list(zip(judged, margins_s, strict=True))
    return min(float(np.mean([each.misses_s[n] <= margin + 1e-9 for each, margin in pairs])) for n in range(numbers))


def _numbers(value: TruthValue, offset_s: float) -> tuple[float, ...]:
    return tuple(float(each) - offset_s for each in (value if isinstance(value, tuple) else (value,)))


def _words(text: str) -> tuple[str, ...]:
    """Words without case and punctuation: CrashChat ends some sentences with a full stop, and some not."""
    kept: Iterable[str] = (each for each in text.casefold() if each.isalnum() or each.isspace())
    return tuple("".join(kept).split())
