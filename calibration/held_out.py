"""Quality of a fit on clips that it has not seen: it is repeated without a fifth of them at a time, and judged there.

The numbers that a fit shows on its own clips flatter it. Here every clip is judged by a fit of other clips, so all
clips count once and none was seen by its fit. The fit that goes into the bundle is one on all clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edge_sdk.bundle.manifest import FalseAlarms, Student
from edge_sdk.calibration.alarm_budgets import Budgets, count_false_alarms, fit_student, watch
from edge_sdk.calibration.operating_points import (
    MIN_CLIPS,
    ScoredClip,
    kind_of,
    matched_timeline,
    mix_weights,
    peak_level,
    weighted_f1,
)
from edge_sdk.evaluation.boundaries import coverage
from edge_sdk.evaluation.resample import Proportion, proportion
from edge_sdk.evaluation.tasks.alarms import Watched
from edge_sdk.evaluation.tasks.calibration import Calibration, calibration, error_in_words
from edge_sdk.evaluation.tasks.draws import Draws
from edge_sdk.events import CrashTimeline, calibrate
from edge_sdk.perception.operating import at_point, points_of
from edge_sdk.types import Estimate, Value

FOLDS = 5
ROUNDS, SEED = 1000, 0
# boundary of a timeline -> field of a clip's label that gives its truth
TRUTHS = {"pre_crash_start": "pre_crash_s", "crash_start": "start_s", "crash_end": "end_s"}


class IntervalFit(Value, frozen=True, kw_only=True):
    """How often a boundary's 80 % intervals hold the truth, and their median width and error in seconds."""

    covered: Proportion
    median_width_s: float | None
    median_error_s: float | None


class PointFit(Value, frozen=True, kw_only=True):
    """One operating point on clips that its fits had not seen.

    `f1` is for the shares of `MIX`; `found` are the crashes with an alarm. Thresholds differ from fold to fold, so
    `confirm` is their median.
    """

    name: str
    confirm: float
    f1: float
    found: Proportion
    false_alarms: FalseAlarms
    boundaries: dict[str, IntervalFit]


class HeldOut(Value, frozen=True, kw_only=True):
    """Scores before and after calibration, weighted to the shares of `MIX`, and every operating point."""

    clips: int
    crashes: int
    folds: int
    raw: Calibration
    calibrated: Calibration
    points: tuple[PointFit, ...]


class _Seen(NamedTuple):
    """One clip judged at one point by a fit of other clips."""

    item: ScoredClip
    watched: Watched
    timeline: CrashTimeline | None
    confirm: float
    budget_per_hour: float | None


def judge_fit(student: Student, scored: Sequence[ScoredClip], budgets: Budgets | None = None) -> HeldOut | None:
    """Cross-fitted quality of `fit_student` on `scored`; None where a fold would leave too few clips to fit on."""
    parts = fold_of(scored, FOLDS)
    if min(_fewest(scored, parts, fold) for fold in range(FOLDS)) < MIN_CLIPS // 2:
        return None
    raw, said = np.zeros(len(scored)), np.zeros(len(scored))
    seen: dict[str, list[_Seen]] = {}
    for fold in range(FOLDS):
        fitted, _ = fit_student(
            student, [item for item, part in zip(scored, parts, strict=True) if part != fold], budgets
        )
        point = fitted.operating_point
        for index in (index for index, part in enumerate(parts) if part == fold):
            raw[index] = peak_level(scored[index].scores, point.confirm_frames)
            said[index] = calibrate(float(raw[index]), point)
            for name in points_of(fitted):
                seen.setdefault(name, []).append(_see(at_point(fitted, name), scored[index]))
    weights = mix_weights([item.clip for item in scored])
    draws = Draws.over([item.clip.group for item in scored], rounds=ROUNDS, seed=SEED)
    weighed = Draws(draws.weights * weights)
    truth = np.array([item.clip.crash for item in scored])
    return HeldOut(
        clips=len(scored),
        crashes=int(truth.sum()),
        folds=FOLDS,
        raw=calibration(truth, raw, weighed),
        calibrated=calibration(truth, said, weighed),
        points=tuple(_point_fit(name, clips) for name, clips in seen.items()),
    )


def fold_of(scored: Sequence[ScoredClip], folds: int) -> list[int]:
    """A fold for each clip: the clips of a group stay together, and each kind is spread evenly over the folds."""
    kinds: dict[str, str] = {}
    for item in scored:
        kinds.setdefault(item.clip.group, kind_of(item.clip))
    ordered = sorted(kinds, key=lambda group: (kinds[group], group))
    number = {group: index % folds for index, group in enumerate(ordered)}
    return [number[item.clip.group] for item in scored]


def _fewest(scored: Sequence[ScoredClip], parts: Sequence[int], fold: int) -> int:
    """The number of crashes or of other clips outside a fold, whichever is smaller."""
    crashes = [item.clip.crash for item, part in zip(scored, parts, strict=True) if part != fold]
    return min(sum(crashes), len(crashes) - sum(crashes))


def _see(student: Student, item: ScoredClip) -> _Seen:
    point = student.operating_point
    asked = getattr(point.false_alarms, "budget_per_hour", None)
    return _Seen(item, watch(student, item), matched_timeline(student, item.clip, item.scores), point.confirm, asked)


def _point_fit(name: str, seen: Sequence[_Seen]) -> PointFit:
    labels = np.array([each.item.clip.crash for each in seen])
    claimed = np.array([each.watched.claimed for each in seen])
    return PointFit(
        name=name,
        confirm=float(np.median([each.confirm for each in seen])),
        f1=weighted_f1(labels, claimed, mix_weights([each.item.clip for each in seen])),
        found=proportion(int((labels & claimed).sum()), int(labels.sum())),
        false_alarms=count_false_alarms(
            [(kind_of(each.item.clip), each.watched) for each in seen], seen[0].budget_per_hour
        ),
        boundaries={name: _interval_fit(seen, name) for name in TRUTHS},
    )


def _interval_fit(seen: Sequence[_Seen], name: str) -> IntervalFit:
    pairs: list[tuple[Estimate, float]] = []
    for each in seen:
        found = None if each.timeline is None else getattr(each.timeline, name)
        truth_s = getattr(each.item.clip, TRUTHS[name])
        if found is not None and truth_s is not None:
            pairs.append((found, truth_s))
    truth = [truth_s for _, truth_s in pairs]
    return IntervalFit(
        covered=coverage(truth, [found.lo for found, _ in pairs], [found.hi for found, _ in pairs]),
        median_width_s=float(np.median([found.hi - found.lo for found, _ in pairs])) if pairs else None,
        median_error_s=float(np.median([abs(found.t - truth_s) for found, truth_s in pairs])) if pairs else None,
    )


def describe(found: HeldOut) -> str:
    """A table of the operating points in Markdown, with its conditions above it."""
    lines = [
        f"{found.clips} clips, {found.crashes} crashes, each judged by a fit of other clips ({found.folds} folds); "
        f"calibration error {error_in_words(found.raw)} as scored, {error_in_words(found.calibrated)} calibrated",
        "",
        "| point | confirms at | false alarms per ordinary hour | near misses with an alarm | crashes found | F1 "
        "| start within its 80 % interval | median width |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
        *map(_row, found.points),
    ]
    return "\n".join(lines)


def _row(point: PointFit) -> str:
    alarms, start = point.false_alarms, point.boundaries["crash_start"]
    rate = f"{alarms.alarms} in {alarms.hours * 60:.0f} min"
    if alarms.upper_per_hour is not None:
        rate += f": {alarms.alarms / alarms.hours:.1f}, below {alarms.upper_per_hour:.1f} (95 %)"
    if alarms.budget_per_hour is not None:
        rate += f"; budget {alarms.budget_per_hour:g}"
    width = "n/a" if start.median_width_s is None else f"{start.median_width_s:.2f} s"
    cells = (
        point.name,
        f"{point.confirm:.3f}",
        rate,
        f"{alarms.near_miss_alarms} of {alarms.near_misses}",
        f"{point.found.hits} of {point.found.n}",
        f"{point.f1:.3f}",
        _span(start.covered),
        width,
    )
    return f"| {' | '.join(cells)} |"


def _span(found: Proportion) -> str:
    return "n/a" if found.share is None else f"{found.share:.3f} ({found.lo:.3f}-{found.hi:.3f})"
