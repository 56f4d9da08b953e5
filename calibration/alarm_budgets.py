"""Operating points for budgets of false alarms per hour of ordinary footage.

`balanced` is the point with the best F1. `quiet` and `sensitive` have the lowest thresholds whose false alarms on the
validation clips stay within a budget. They have their own intervals, because a crash that only the sensitive point sees
is timed less surely. Ordinary footage is everything that is neither a crash nor a near miss. Near misses fill a third
of the rendered clips but almost none of a road's hours, so alarms on them are counted separately, not per hour.

Minutes of clips prove little about an hour, so every count comes with the highest rate that it leaves possible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from edge_sdk.bundle.manifest import FalseAlarms, OperatingPoint, Student
from edge_sdk.calibration.operating_points import (
    FitReport,
    ScoredClip,
    at_level,
    fit_at,
    fit_operating_point,
    fit_residuals,
    kind_of,
    peak_level,
)
from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.resample import rate_upper_bound
from edge_sdk.evaluation.tasks.alarms import Watched
from edge_sdk.evaluation.tasks.alarms import false_alarms as false_alarm_rate
from edge_sdk.perception.timeline import Timeline


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """False alarms that each point may raise per hour of ordinary footage; if None, `balanced` has the best F1."""

    quiet: float = 1.0
    balanced: float | None = None
    sensitive: float = 30.0

    def __post_init__(self) -> None:
        given = [budget for budget in (self.quiet, self.balanced, self.sensitive) if budget is not None]
        if not all(0 < budget < math.inf for budget in given) or given != sorted(given):
            raise ConfigError(
                f"budgets of false alarms per hour must be above 0 and rise from quiet to sensitive, found {given}"
            )


def fit_student(
    student: Student, scored: Sequence[ScoredClip], budgets: Budgets | None = None
) -> tuple[Student, FitReport]:
    """Fit all three operating points of `student` on `scored`. Raises `ConfigError` as `fit_operating_point`.

    Whatever the budgets, `quiet` is never more sensitive than `balanced`, and `sensitive` never less; a budget that
    cannot be kept shows in the point's `false_alarms`.
    """
    asked = budgets or Budgets()
    bare = msgspec.structs.replace(student, operating_points=msgspec.UNSET)
    balanced, report = fit_operating_point(bare, scored)
    fitted = msgspec.structs.replace(bare, operating_point=msgspec.structs.replace(balanced, name="balanced"))
    if asked.balanced is not None:
        balanced, report = fit_at(fitted, scored, budget_threshold(fitted, scored, asked.balanced))
        fitted = msgspec.structs.replace(fitted, operating_point=balanced)
    middle = fitted.operating_point.confirm
    quiet = at_threshold(fitted, scored, "quiet", max(middle, budget_threshold(fitted, scored, asked.quiet)))
    sensitive = at_threshold(
        fitted, scored, "sensitive", min(middle, budget_threshold(fitted, scored, asked.sensitive))
    )
    made = msgspec.structs.replace(
        fitted,
        operating_point=_with_evidence(fitted, scored, asked.balanced),
        operating_points=(
            _with_evidence(quiet, scored, asked.quiet),
            _with_evidence(sensitive, scored, asked.sensitive),
        ),
    )
    return made, report


def at_threshold(student: Student, scored: Sequence[ScoredClip], name: str, threshold: float) -> Student:
    """Let `student` confirm at `threshold`, with intervals fitted on the crashes that it then finds."""
    point = msgspec.structs.replace(at_level(student.operating_point, threshold), name=name)
    point, _ = fit_residuals(msgspec.structs.replace(student, operating_point=point), scored)
    return msgspec.structs.replace(student, operating_point=point)


def budget_threshold(student: Student, scored: Sequence[ScoredClip], per_hour: float) -> float:
    """The lowest threshold at which false alarms in ordinary footage stay within `per_hour`.

    Candidates lie between the highest levels of the clips, from the lowest of a crash on. Alarms fall as thresholds
    rise, so a binary search finds it. Above all levels there is no alarm, so there always is one.
    """
    frames = student.operating_point.confirm_frames
    levels = sorted({peak_level(item.scores, frames) for item in scored} | {0.0, 1.0})
    lowest = min(peak_level(item.scores, frames) for item in scored if item.clip.crash)
    cuts = [(low + high) / 2 for low, high in pairwise(levels) if high >= lowest]
    low, high = -1, len(cuts) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _keeps(student, scored, cuts[middle], per_hour) else (middle, high)
    return cuts[high]


def watch(student: Student, item: ScoredClip) -> Watched:
    """The alarms of a device at the student's operating point on one scored clip."""
    timeline = Timeline(student)
    updates = [(row.time_s, update) for row in item.scores for update in timeline.push(row)]
    alarms_s = tuple(time_s for time_s, update in updates if update.state == "confirmed")
    length_s = item.scores[-1].time_s + 1 / student.rate_hz if item.scores else 0.0
    return Watched(
        duration_s=length_s,
        alarms_s=alarms_s,
        claimed=bool(alarms_s),
        crash_s=item.clip.start_s,
        sign_s=item.clip.pre_crash_s,
    )


def count_false_alarms(watched: Sequence[tuple[str, Watched]], budget_per_hour: float | None = None) -> FalseAlarms:
    """Count the false alarms of clips that were watched, each with its kind."""
    rate = false_alarm_rate([clip for kind, clip in watched if kind != "near_miss"])
    near = [clip for kind, clip in watched if kind == "near_miss"]
    return FalseAlarms(
        budget_per_hour=budget_per_hour,
        alarms=rate.count,
        hours=rate.hours,
        upper_per_hour=rate_upper_bound(rate.count, rate.hours) if rate.hours > 0 else None,
        near_miss_alarms=sum(clip.claimed for clip in near),
        near_misses=len(near),
    )


def _keeps(student: Student, scored: Sequence[ScoredClip], threshold: float, per_hour: float) -> bool:
    trial = msgspec.structs.replace(student, operating_point=at_level(student.operating_point, threshold))
    rate = false_alarm_rate([watch(trial, item) for item in scored if kind_of(item.clip) != "near_miss"])
    return rate.count <= per_hour * rate.hours


def _with_evidence(student: Student, scored: Sequence[ScoredClip], budget_per_hour: float | None) -> OperatingPoint:
    seen = [(kind_of(item.clip), watch(student, item)) for item in scored]
    return msgspec.structs.replace(student.operating_point, false_alarms=count_false_alarms(seen, budget_per_hour))
