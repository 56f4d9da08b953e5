"""Cross-fitted judgement of a calibration, on clips drawn from known distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scored_traces import STUDENT, drawn

from edge_sdk.bundle.manifest import FalseAlarms, Student
from edge_sdk.calibration import held_out
from edge_sdk.calibration.alarm_budgets import Budgets, fit_student, watch
from edge_sdk.calibration.held_out import describe, fold_of, judge_fit
from edge_sdk.calibration.operating_points import (
    FitReport,
    ScoredClip,
    fit_platt,
    kind_of,
    mix_weights,
    peak_level,
)
from edge_sdk.calibration.refit import with_held_out
from edge_sdk.evaluation.tasks.alarms import Watched
from edge_sdk.evaluation.tasks.calibration import ReliabilityBin
from edge_sdk.perception.operating import points_of
from edge_sdk.picture import draw_reliability


def test_groups_stay_together_and_kinds_are_spread() -> None:
    found = drawn(np.random.default_rng(1), 20, 15, 25)
    twice = [*found, *(ScoredClip(item.clip, item.scores) for item in found)]
    parts = fold_of(twice, 5)
    assert parts[: len(found)] == parts[len(found) :]
    for fold in range(5):
        kinds = [kind_of(item.clip) for item, part in zip(found, parts, strict=False) if part == fold]
        assert {kind: kinds.count(kind) for kind in kinds} == {"crash": 4, "near_miss": 3, "normal": 5}


def test_every_clip_is_judged_once_by_fits_that_have_not_seen_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups are of ten clips: a fit has seen none that it judges, nor another of its group, but all the rest."""
    single = drawn(np.random.default_rng(2), 60, 40, 60)
    found = [ScoredClip(replace(i.clip, group=i.clip.group[:-1]), i.scores) for i in single]
    fitted_on: list[set[str]] = []
    judged_by: dict[str, list[int]] = {}

    def fit(student: Student, scored: Sequence[ScoredClip], budgets: Budgets | None) -> tuple[Student, FitReport]:
        fitted_on.append({item.clip.path.stem for item in scored})
        return fit_student(student, scored, budgets)

    def look(student: Student, item: ScoredClip) -> Watched:
        judged_by.setdefault(item.clip.path.stem, []).append(len(fitted_on) - 1)
        return watch(student, item)

    monkeypatch.setattr(held_out, "fit_student", fit)
    monkeypatch.setattr(held_out, "watch", look)
    judged = judge_fit(STUDENT, found)
    assert judged is not None
    groups = {item.clip.path.stem: item.clip.group for item in found}
    assert judged_by.keys() == groups.keys()
    for name, fits in judged_by.items():
        # Once at each of three points, all of one fit.
        assert fits == [fits[0]] * 3
        assert groups[name] not in {groups[other] for other in fitted_on[fits[0]]}
    for number, seen in enumerate(fitted_on):
        assert seen == {name for name, fits in judged_by.items() if fits[0] != number}
    assert (judged.clips, judged.crashes, judged.folds) == (160, 60, 5)
    assert {point.name for point in judged.points} == {"quiet", "balanced", "sensitive"}
    for point in judged.points:
        assert point.found.n == 60
        assert point.false_alarms.near_misses == 40
        # 60 drives of nine seconds, and 1.5 s before each of 60 crashes.
        assert point.false_alarms.hours == pytest.approx((60 * 9.0 + 60 * 1.5) / 3600)


def test_intervals_of_new_crashes_hold_the_truth_as_often_as_they_say() -> None:
    judged = judge_fit(STUDENT, drawn(np.random.default_rng(3), 250, 50, 50))
    assert judged is not None
    for point in judged.points:
        held = point.boundaries["crash_start"].covered
        assert held.lo is not None
        assert held.hi is not None
        assert held.n > 100
        assert held.lo <= 0.8 <= held.hi


def test_calibration_error_falls_and_is_what_a_fit_of_the_rest_gives() -> None:
    """The errors are recomputed here from the definition, with fits made by hand on the other folds."""
    found = drawn(np.random.default_rng(4), 90, 60, 90)
    judged = judge_fit(STUDENT, found)
    assert judged is not None
    before, after = judged.raw.ece.value, judged.calibrated.ece.value
    assert before is not None
    assert after is not None
    assert after < before
    parts = np.array(fold_of(found, 5))
    # Every trace has two seconds of one level, which is its peak over any number of frames.
    peaks, labels = np.array([peak_level(i.scores, 1) for i in found]), np.array([i.clip.crash for i in found])
    said = np.zeros(len(found))
    for fold in range(5):
        rest = parts != fold
        scale, offset = fit_platt(
            peaks[rest], labels[rest], mix_weights([i.clip for i, r in zip(found, rest, strict=True) if r])
        )
        held = np.log(peaks[~rest] / (1 - peaks[~rest]))
        said[~rest] = 1 / (1 + np.exp(-(scale * held + offset)))
    weights = mix_weights([item.clip for item in found])
    brier = float((weights * (said - labels) ** 2).sum() / weights.sum())
    assert judged.calibrated.brier.value == pytest.approx(brier, abs=1e-6)


def test_too_few_clips_are_not_judged() -> None:
    assert judge_fit(STUDENT, drawn(np.random.default_rng(5), 11, 10, 10)) is None


def test_the_table_has_a_row_a_point_and_the_picture_its_lines(tmp_path: Path) -> None:
    judged = judge_fit(STUDENT, drawn(np.random.default_rng(6), 40, 20, 40))
    assert judged is not None
    rows = [line for line in describe(judged).splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows] == ["| quiet", "| sensitive", "| balanced"]
    assert all(isinstance(each, ReliabilityBin) for each in judged.raw.bins)
    out = tmp_path / "reliability.png"
    draw_reliability({"as scored": judged.raw, "calibrated": judged.calibrated}, out)
    assert pixels(out, (0xD0, 0x30, 0x30)) > 50
    assert pixels(out, (0x30, 0x90, 0x40)) == 0
    draw_reliability({name: judged.calibrated if name == "d" else judged.raw for name in "abcd"}, out)
    assert pixels(out, (0x30, 0x90, 0x40)) > 50


def pixels(path: Path, colour: tuple[int, int, int]) -> int:
    """How many pixels of a picture have about this colour."""
    with Image.open(path) as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    return int((np.abs(colours.astype(int) - colour).sum(1) < 30).sum())


def test_a_bundle_says_what_points_cost_on_clips_held_out() -> None:
    found = drawn(np.random.default_rng(3), 250, 50, 50)
    fitted, _ = fit_student(STUDENT, found)
    judged = judge_fit(STUDENT, found)
    assert judged is not None
    said = points_of(with_held_out(fitted, judged))
    assert said.keys() == points_of(fitted).keys() == {point.name for point in judged.points}
    for point in judged.points:
        kept, own = said[point.name].false_alarms, points_of(fitted)[point.name]
        assert isinstance(kept, FalseAlarms)
        assert isinstance(own.false_alarms, FalseAlarms)
        assert (kept.held_out, own.false_alarms.held_out) == (True, False)
        assert (kept.alarms, kept.upper_per_hour) == (point.false_alarms.alarms, point.false_alarms.upper_per_hour)
        assert said[point.name].confirm == own.confirm
    # Fits flatter themselves: what is held out has as many alarms or more.
    assert sum(point.false_alarms.alarms for point in judged.points) >= sum(
        point.false_alarms.alarms for point in points_of(fitted).values() if isinstance(point.false_alarms, FalseAlarms)
    )
