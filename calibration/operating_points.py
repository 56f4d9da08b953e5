"""Chooses the level at which the timeline raises an alarm, and calibrates its numbers, on validation clips.

There are three fits, all on clips that neither training nor any test has seen: the threshold with the best clip F1, a
logistic map from raw score to probability (Platt 1999), and the residual quantiles that turn a boundary into an 80 %
interval (split conformal prediction, Vovk et al. 2005). The first two depend on how common crashes are, so clips are
weighted to a stated mix, `MIX`, whatever was rendered for validation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_sdk.analysis import analyze
from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest import OperatingPoint, Residual, Student
from edge_sdk.clips import LabelledClip, check_within
from edge_sdk.errors import ConfigError
from edge_sdk.events import CrashTimeline
from edge_sdk.perception.timeline import FrameScores, Timeline
from edge_sdk.types import Estimate, Value

COVERAGE = 0.8
# An alarm this near a crash counts as an alarm for it; residuals are fitted on all of these, even distant ones.
MATCH_S = 4.0
CONFIRM_FRAMES = (1, 2, 3, 4, 5)
MIN_CLIPS = 20
# The mix of clips that an operating point is fitted for: that of the committed suite (`scenes/suite.py`).
MIX = {"crash": 0.40, "near_miss": 0.33, "normal": 0.27}
RESAMPLES, RESAMPLING_SEED = 300, 0
PRE_CRASH_LEVELS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
MISSING_PRE_CRASH_S = 1.0
PROVISIONAL_SHARE, RELEASE_SHARE = 0.7, 0.4
NO_RESIDUAL = Residual(lo_s=0.0, hi_s=0.0)


class ScoredClip(NamedTuple):
    """A clip's truth and its per-frame scores."""

    clip: LabelledClip
    scores: list[FrameScores]


class Boundary(NamedTuple):
    """One predicted boundary and its truth, in seconds."""

    predicted_s: float
    truth_s: float


class FitReport(Value, frozen=True, kw_only=True):
    """How many clips a fit used, and how good it looked on them; `f1` is for the shares of `MIX`.

    `pairs` says from how many detected crashes each boundary's interval comes; none is fitted from fewer than
    `MIN_CLIPS` / 2.
    """

    clips: int
    crashes: int
    f1: float
    matched_starts: int
    start_mae_s: float | None
    pairs: dict[str, int]


def score_clips(
    bundle: Bundle, clips: Sequence[LabelledClip], on_progress: Callable[[int, int], None] | None = None
) -> tuple[list[ScoredClip], tuple[str, ...]]:
    """Run the bundle's student over every clip, through the same capture as on the device.

    Clips of fewer pictures per second than the student is made for are left out, and their names are returned too: a
    fit on their scores would not hold for other clips. Raises `ConfigError` if too few are left (`check_clips`), and
    for a crash that lies after its clip's end.
    """
    scored, slow = [], list[str]()
    for done, clip in enumerate(clips, start=1):
        found = analyze(clip.path, bundle)
        if len(found.scores):
            check_within(clip, found.scores[-1].time_s)
        if found.slow:
            slow.append(clip.path.name)
        else:
            scored.append(ScoredClip(clip, found.scores))
        if on_progress is not None:
            on_progress(done, len(clips))
    if slow:
        check_clips([item.clip for item in scored])
    return scored, tuple(slow)


def fit_operating_point(student: Student, scored: Sequence[ScoredClip]) -> tuple[OperatingPoint, FitReport]:
    """Fit the balanced operating point on `scored`.

    Raises `ConfigError` without enough clips of both kinds, and for scores that are the same for every clip.
    """
    check_clips([item.clip for item in scored])
    labels, weights = _truth(scored)
    frames, threshold = best_threshold(scored, labels, weights)
    peaks = np.array([peak_level(item.scores, frames) for item in scored])
    if not np.ptp(peaks):
        raise ConfigError(
            f"expected scores that separate crashes from other clips, found {peaks[0]:.3f} for all {len(scored)}: the "
            "student has learnt nothing; train it for longer or on more clips"
        )
    scale, offset = fit_platt(peaks, labels, weights)
    point = msgspec.structs.replace(
        student.operating_point, confirm_frames=frames, scale=scale, offset=offset, calibrated=True
    )
    return fit_at(msgspec.structs.replace(student, operating_point=point), scored, threshold)


def fit_at(student: Student, scored: Sequence[ScoredClip], threshold: float) -> tuple[OperatingPoint, FitReport]:
    """Fit the operating point that confirms at `threshold`; what it finds gives its pre-crash level and intervals."""
    point, (labels, weights) = at_level(student.operating_point, threshold), _truth(scored)
    point = msgspec.structs.replace(point, pre_crash=best_pre_crash_level(student, point, scored))
    point, pairs = fit_residuals(msgspec.structs.replace(student, operating_point=point), scored)
    starts = pairs["crash_start"]
    errors = [abs(b.predicted_s + point.crash_start.shift_s - b.truth_s) for b in starts]
    peaks = np.array([peak_level(item.scores, point.confirm_frames) for item in scored])
    report = FitReport(
        clips=len(scored),
        crashes=int(labels.sum()),
        f1=weighted_f1(labels, peaks >= threshold, weights),
        matched_starts=len(starts),
        start_mae_s=float(np.mean(errors)) if errors else None,
        pairs={name: len(found) for name, found in pairs.items()},
    )
    return point, report


def _truth(scored: Sequence[ScoredClip]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which clips show a crash, and how much each counts."""
    return np.array([item.clip.crash for item in scored]), mix_weights([item.clip for item in scored])


def check_clips(clips: Sequence[LabelledClip]) -> None:
    """Raise `ConfigError` unless `clips` are enough of both kinds to fit an operating point on."""
    crashes = sum(clip.crash for clip in clips)
    if len(clips) < MIN_CLIPS or not 0 < crashes < len(clips):
        raise ConfigError(
            f"an operating point needs at least {MIN_CLIPS} clips, crashes and others; found {len(clips)} clips, "
            f"{crashes} crashes; render more with `edge-sdk scenes render`"
        )


def at_level(point: OperatingPoint, confirm: float) -> OperatingPoint:
    """`point` with another level of confirmation; an event opens and ends at fixed shares of it."""
    return msgspec.structs.replace(
        point, confirm=confirm, provisional=PROVISIONAL_SHARE * confirm, release=RELEASE_SHARE * confirm
    )


def peak_level(scores: Sequence[FrameScores], frames: int) -> float:
    """Highest running mean of the crash score over `frames` frames, zeros before the first."""
    padded = np.concatenate([np.zeros(frames - 1), [row.crash for row in scores]])
    return float(np.convolve(padded, np.full(frames, 1 / frames), "valid").max(initial=0.0))


def mix_weights(clips: Sequence[LabelledClip]) -> NDArray[np.float64]:
    """A weight for each clip, of mean 1, that gives the kinds that are present the proportions of `MIX`."""
    kinds = [kind_of(clip) for clip in clips]
    weights = np.array([MIX[kind] / kinds.count(kind) for kind in kinds])
    weighed: NDArray[np.float64] = weights * len(clips) / weights.sum()
    return weighed


def kind_of(clip: LabelledClip) -> str:
    """One of the kinds of `MIX`: a clip without a crash is a near miss if its record says so."""
    if clip.crash:
        return "crash"
    return "near_miss" if clip.record is not None and clip.record.kind == "near_miss" else "normal"


def best_threshold(
    scored: Sequence[ScoredClip], labels: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[int, float]:
    """`(confirm_frames, threshold)` with the best weighted F1; on a tie, the one with the fewest frames."""
    found = []
    for frames in CONFIRM_FRAMES:
        peaks = np.array([peak_level(item.scores, frames) for item in scored])
        threshold = stable_threshold(peaks, labels, weights)
        found.append((weighted_f1(labels, peaks >= threshold, weights), -frames, threshold))
    _, fewest, threshold = max(found)
    return -fewest, threshold


def stable_threshold(peaks: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    """The median of the thresholds with the best F1 on resamples of the clips.

    The best one on the clips themselves depends on where a few of them happened to fall; the median over resamples
    (bagging, Breiman 1996) moves less from one set of clips to the next.
    """
    order = np.argsort(-peaks, kind="stable")
    cuts = (peaks[order][:-1] + peaks[order][1:]) / 2
    rng, count = np.random.default_rng(RESAMPLING_SEED), len(peaks)
    drawn = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES) * weights
    hits = np.cumsum(drawn[:, order] * labels[order], axis=1)
    fired = np.cumsum(drawn[:, order], axis=1)
    f1 = 2 * hits[:, :-1] / np.maximum(fired[:, :-1] + hits[:, -1:], 1e-12)
    tied = f1 >= f1.max(axis=1, keepdims=True) - 1e-12
    # Several cuts may be equally good on a resample: take the middle of them.
    middles = [float((cuts[row][0] + cuts[row][-1]) / 2) for row in tied]
    return float(np.median(middles))


def weighted_f1(labels: NDArray[np.bool_], detected: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    """F1 of decisions on weighted clips."""
    return float(2 * weights[labels & detected].sum() / (weights[labels].sum() + weights[detected].sum()))


def fit_platt(
    raw: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> tuple[float, float]:
    """`(scale, offset)` of sigmoid(scale * logit(raw) + offset), by Newton's method on Platt's smoothed targets."""
    scale, offset = fit_logistic(np.asarray(raw)[:, None], labels, weights)
    return scale, offset


def fit_logistic(
    raw: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> list[float]:
    """Like `fit_platt`, for several scores `raw [n, k]` of a clip: a scale for the log odds of each, and the offset."""
    counts = np.ones(len(raw)) if weights is None else weights
    clipped = np.clip(raw, 1e-6, 1 - 1e-6)
    design = np.concatenate([np.log(clipped / (1 - clipped)), np.ones((len(raw), 1))], axis=1)
    positives, negatives = float(counts[labels].sum()), float(counts[~labels].sum())
    targets = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    fitted = np.eye(design.shape[1])[0]
    for _ in range(50):
        probability = 1 / (1 + np.exp(-design @ fitted))
        gradient = design.T @ (counts * (probability - targets))
        spread = counts * probability * (1 - probability)
        hessian = (design * spread[:, None]).T @ design + 1e-6 * np.eye(len(fitted))
        step = np.linalg.solve(hessian, gradient)
        fitted -= step / max(1.0, float(np.abs(step).max()))
    return [float(each) for each in fitted]


def best_pre_crash_level(student: Student, point: OperatingPoint, scored: Sequence[ScoredClip]) -> float:
    """The level with the least mean absolute error of the pre-crash start around its median error.

    An event without a pre-crash start counts as an error of `MISSING_PRE_CRASH_S`. Returns the level of `point` if no
    label says when a detected crash was foreseeable.
    """
    errors = {level: pre_crash_error(student, point, level, scored) for level in PRE_CRASH_LEVELS}
    judged = [(error, level) for level, error in errors.items() if error is not None]
    return min(judged)[1] if judged else point.pre_crash


def pre_crash_error(
    student: Student, point: OperatingPoint, level: float, scored: Sequence[ScoredClip]
) -> float | None:
    """Mean absolute error in seconds of the pre-crash start at one level, after subtracting its median.

    None where no detected crash has a label for it.
    """
    trial = msgspec.structs.replace(
        student, operating_point=msgspec.structs.replace(point, pre_crash=level, pre_crash_start=NO_RESIDUAL)
    )
    errors, missing = [], 0
    for clip, scores in scored:
        found = matched_timeline(trial, clip, scores)
        if found is not None and clip.pre_crash_s is not None:
            predicted = found.pre_crash_start
            if predicted is None:
                missing += 1
            else:
                errors.append(clip.pre_crash_s - predicted.t)
    if not errors and not missing:
        return None
    spread_s = float(np.abs(np.array(errors) - np.median(errors)).sum()) if errors else 0.0
    return (spread_s + missing * MISSING_PRE_CRASH_S) / (len(errors) + missing)


def fit_residuals(student: Student, scored: Sequence[ScoredClip]) -> tuple[OperatingPoint, dict[str, list[Boundary]]]:
    """Fit residuals on detected crashes; returns the operating point with them, and their boundaries by name.

    A boundary with fewer than `MIN_CLIPS` / 2 crashes gets the wide interval of a point that was never fitted: a fit on
    other clips, or at another threshold, says nothing about these crashes.
    """
    boundaries: dict[str, list[Boundary]] = {"pre_crash_start": [], "crash_start": [], "crash_end": []}
    unfitted = OperatingPoint()
    bare = msgspec.structs.replace(
        student.operating_point, pre_crash_start=NO_RESIDUAL, crash_start=NO_RESIDUAL, crash_end=NO_RESIDUAL
    )
    for clip, scores in scored:
        found = matched_timeline(msgspec.structs.replace(student, operating_point=bare), clip, scores)
        if found is None:
            continue
        truths = {"pre_crash_start": clip.pre_crash_s, "crash_start": clip.start_s, "crash_end": clip.end_s}
        for name, truth_s in truths.items():
            predicted: Estimate | None = getattr(found, name)
            if predicted is not None and truth_s is not None:
                boundaries[name].append(Boundary(predicted.t, truth_s))
    fitted: dict[str, Residual] = {
        name: residual(pairs) if len(pairs) >= MIN_CLIPS // 2 else getattr(unfitted, name)
        for name, pairs in boundaries.items()
    }
    return msgspec.structs.replace(student.operating_point, **fitted), boundaries


def matched_timeline(student: Student, clip: LabelledClip, scores: Sequence[FrameScores]) -> CrashTimeline | None:
    """The last revision of the event nearest to the clip's crash; None without one within `MATCH_S`."""
    if clip.start_s is None:
        return None
    timeline = Timeline(student)
    updates = [update for row in scores for update in timeline.push(row)] + timeline.flush()
    closed = [update.timeline for update in updates if update.state == "closed"]
    near = [
        (abs(timeline.crash_start.t - clip.start_s), number)
        for number, timeline in enumerate(closed)
        if timeline.crash_start is not None
    ]
    distance_s, nearest = min(near, default=(math.inf, -1))
    return closed[nearest] if distance_s <= MATCH_S else None


def residual(pairs: Sequence[Boundary]) -> Residual:
    """The shift by the median error, and the conformal quantiles around it for `COVERAGE`."""
    errors = np.sort([pair.truth_s - pair.predicted_s for pair in pairs])
    shift, count = float(np.median(errors)), len(errors)
    # The floor((n + 1) tail)-th error from either end, by its rank: a quantile given as a share of n may pick a
    # neighbour. The product is rounded first, so that float error cannot take a whole rank one lower.
    rank = max(1, math.floor(round((count + 1) * (1 - COVERAGE) / 2, 9)))
    low, high = float(errors[rank - 1]) - shift, float(errors[-rank]) - shift
    return Residual(shift_s=shift, lo_s=min(0.0, low), hi_s=max(0.0, high))
