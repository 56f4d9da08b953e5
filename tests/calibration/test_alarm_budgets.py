"""Budgets of false alarms, on clips whose alarms can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2
from scored_traces import FRAMES, SIGN_S, STUDENT, drawn, trace

from edge_sdk.calibration.alarm_budgets import Budgets, budget_threshold, count_false_alarms, fit_student, watch
from edge_sdk.calibration.operating_points import ScoredClip, kind_of
from edge_sdk.errors import ConfigError
from edge_sdk.perception.operating import points_of


def clips() -> list[ScoredClip]:
    """Twenty crashes at .95 but for one at .015; twenty near misses at .9, forty normal drives at .02, .04, ... .80."""
    found = [trace(f"crash{k}", "rear_end", 0.95 if k else 0.015) for k in range(20)]
    found += [trace(f"near{k}", "near_miss", 0.9) for k in range(20)]
    return found + [trace(f"normal{k}", "normal", 0.02 * (k + 1)) for k in range(40)]


def ordinary_hours(found: list[ScoredClip]) -> float:
    """Nine seconds of each normal drive, and what lies 1.5 s or more before the first sign of each crash."""
    kinds = [kind_of(item.clip) for item in found]
    return (kinds.count("normal") * FRAMES / 10 + kinds.count("crash") * (SIGN_S - 1.5)) / 3600


@pytest.mark.parametrize("allowed", [0, 1, 5, 12])
def test_the_threshold_lets_through_as_many_alarms_as_the_budget(allowed: int) -> None:
    found = clips()
    per_hour = (allowed + 0.5) / ordinary_hours(found)
    threshold = budget_threshold(STUDENT, found, per_hour)
    levels = sorted((0.02 * (k + 1) for k in range(40)), reverse=True)
    assert sum(level >= threshold for level in levels) == allowed
    point = fit_student(STUDENT, found, Budgets(quiet=1e-3, sensitive=max(per_hour, 2e-3)))[0]
    assert points_of(point)["quiet"].confirm >= 0.8


def test_near_misses_are_counted_apart() -> None:
    found = clips()
    threshold = budget_threshold(STUDENT, found, 1e-3)
    assert 0.8 < threshold < 0.9, "near misses at .9 do not hold the threshold up"
    fitted, _ = fit_student(STUDENT, found, Budgets(quiet=1e-3))
    evidence = points_of(fitted)["sensitive"].false_alarms
    assert evidence
    assert (evidence.near_miss_alarms, evidence.near_misses) == (20, 20)
    assert evidence.hours == pytest.approx(ordinary_hours(found))


def test_the_bound_is_the_exact_one() -> None:
    found = clips()
    fitted, _ = fit_student(STUDENT, found)
    for point in points_of(fitted).values():
        evidence = point.false_alarms
        assert evidence
        expected = chi2.ppf(0.95, 2 * (evidence.alarms + 1)) / 2 / evidence.hours
        assert evidence.upper_per_hour == pytest.approx(expected, rel=1e-6)
    assert points_of(fitted)["quiet"].false_alarms.budget_per_hour == 1.0  # type: ignore[union-attr]
    assert points_of(fitted)["balanced"].false_alarms.budget_per_hour is None  # type: ignore[union-attr]


def test_points_are_in_order_and_share_the_score() -> None:
    fitted, _ = fit_student(STUDENT, drawn(np.random.default_rng(1), 60, 40, 60))
    points = points_of(fitted)
    assert points["sensitive"].confirm <= points["balanced"].confirm <= points["quiet"].confirm
    assert len({(point.scale, point.offset, point.confirm_frames) for point in points.values()}) == 1
    alarms = [points[name].false_alarms for name in ("quiet", "balanced", "sensitive")]
    counts = [each.alarms for each in alarms if each]
    assert counts == sorted(counts)


def test_a_balanced_budget_moves_the_balanced_point() -> None:
    found = clips()
    per_hour = 10.5 / ordinary_hours(found)
    fitted, _ = fit_student(STUDENT, found, Budgets(quiet=1.0, balanced=per_hour, sensitive=2 * per_hour))
    evidence = fitted.operating_point.false_alarms
    assert evidence
    assert evidence.alarms == 10
    assert evidence.budget_per_hour == per_hour


def test_what_is_reported_of_the_fit_is_of_the_balanced_point_that_is_written() -> None:
    """Half of the crashes score 0.95, half 0.6, as do a third of the others; a small budget leaves only the first."""
    found = [trace(f"sure{k}", "rear_end", 0.95) for k in range(20)] + [
        trace(f"low{k}", "rear_end", 0.6) for k in range(20)
    ]
    found += [trace(f"calm{k}", "normal", 0.62 if k % 3 == 0 else 0.05) for k in range(30)]
    _, freely = fit_student(STUDENT, found)
    fitted, held = fit_student(STUDENT, found, Budgets(quiet=0.5, balanced=1.0, sensitive=2.0))
    assert (freely.matched_starts, held.matched_starts) == (40, 20)
    assert fitted.operating_point.confirm > 0.62
    # Of crashes, 40 % of the mix, half are found and nothing else is: F1 is 2 x 0.5 / (1 + 0.5).
    assert held.f1 == pytest.approx(2 / 3)


def test_each_point_has_intervals_of_its_own() -> None:
    """Crashes that score low are timed late here: the point that finds them says so."""
    rng = np.random.default_rng(2)
    found = [trace(f"sure{k}", "rear_end", 0.95, 0.02 * rng.exponential()) for k in range(30)]
    found += [trace(f"late{k}", "rear_end", 0.5, 0.3 + 0.3 * rng.exponential()) for k in range(30)]
    found += [trace(f"normal{k}", "normal", 0.45 if k < 4 else 0.7 if k == 4 else 0.05) for k in range(60)]
    fitted, _ = fit_student(STUDENT, found, Budgets(quiet=0.5 / ordinary_hours(found), sensitive=500.0))
    widths = {name: p.crash_start.hi_s - p.crash_start.lo_s for name, p in points_of(fitted).items()}
    assert widths["quiet"] < 0.5 * widths["sensitive"]


def test_a_point_that_finds_few_crashes_does_not_borrow_the_interval_of_another() -> None:
    rng = np.random.default_rng(4)
    found = [trace(f"sure{k}", "rear_end", 0.95, 0.02 * rng.exponential()) for k in range(8)]
    found += [trace(f"rest{k}", "rear_end", 0.5, 0.02 * rng.exponential()) for k in range(25)]
    found += [trace(f"normal{k}", "normal", 0.7 if k < 2 else 0.05) for k in range(40)]
    points = points_of(fit_student(STUDENT, found)[0])
    widths = {name: point.crash_start.hi_s - point.crash_start.lo_s for name, point in points.items()}
    assert points["quiet"].confirm > 0.5 > points["balanced"].confirm
    assert widths["quiet"] == 2.0
    assert widths["balanced"] < 0.5


def test_an_alarm_before_a_crash_is_false_and_one_for_it_is_not() -> None:
    early = trace("early", "rear_end", 0.95)
    rows = [row._replace(crash=0.95) if row.time_s < 1.0 else row for row in early.scores]
    seen = watch(STUDENT, ScoredClip(early.clip, rows))
    assert seen.alarms_s is not None
    assert len(seen.alarms_s) == 2
    assert count_false_alarms([("crash", seen)]).alarms == 1
    assert count_false_alarms([("crash", watch(STUDENT, early))]).alarms == 0


@pytest.mark.parametrize("budgets", [{"quiet": 0.0}, {"quiet": 40.0}, {"balanced": 0.5}, {"sensitive": float("inf")}])
def test_budgets_that_make_no_sense_are_refused(budgets: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="rise from quiet to sensitive"):
        Budgets(**budgets)


def test_a_fitted_student_is_fitted_anew() -> None:
    found = drawn(np.random.default_rng(3), 30, 20, 30)
    fitted, report = fit_student(STUDENT, found)
    assert fit_student(fitted, found) == (fitted, report)
