"""Fits a student's operating points on labelled clips: the last step of `distil student`, and all of `distil refit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest import OperatingPoint, Student
from edge_sdk.calibration.alarm_budgets import Budgets, fit_student
from edge_sdk.calibration.held_out import HeldOut, judge_fit
from edge_sdk.calibration.operating_points import FitReport, check_clips, score_clips
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError


class Refitted(NamedTuple):
    """The student with its operating points, and their quality on the clips of the fit and on held-out clips.

    `held_out` is None if there were too few clips to hold any out; `slow` are the names of clips that were left out.
    """

    student: Student
    report: FitReport
    held_out: HeldOut | None
    slow: tuple[str, ...] = ()


def calibrate_bundle(
    bundle: Bundle,
    clips: Sequence[LabelledClip],
    on_progress: Callable[[int, int], None] | None = None,
    budgets: Budgets | None = None,
) -> Refitted:
    """Fit operating points of the bundle's student on `clips`, which its training must not have seen.

    Their false alarms are those on held-out clips, if there were enough. Raises `ConfigError` for a bundle without a
    student, and for too few clips.
    """
    student = bundle.manifest.student
    if student is None:
        raise ConfigError(f"bundle {bundle.manifest.name!r} has no student to calibrate")
    check_clips(clips)
    scored, slow = score_clips(bundle, clips, on_progress)
    fitted, report = fit_student(student, scored, budgets)
    judged = judge_fit(student, scored, budgets)
    return Refitted(fitted if judged is None else with_held_out(fitted, judged), report, judged, slow)


def with_held_out(student: Student, judged: HeldOut) -> Student:
    """`student` whose operating points have the false alarms that `judged` counted."""
    counted = {point.name: msgspec.structs.replace(point.false_alarms, held_out=True) for point in judged.points}

    def said(point: OperatingPoint) -> OperatingPoint:
        return msgspec.structs.replace(point, false_alarms=counted.get(point.name, point.false_alarms))

    others = student.operating_points
    return msgspec.structs.replace(
        student,
        operating_point=said(student.operating_point),
        operating_points=others if isinstance(others, msgspec.UnsetType) else tuple(map(said, others)),
    )
