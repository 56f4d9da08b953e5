"""The soft family: contacts that stop nobody, and crashes of which only what follows is seen."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest

from edge_sdk.calibration.scenes.cameras import Jolt, box_points, camera_pose, project
from edge_sdk.calibration.scenes.families import find_family
from edge_sdk.calibration.scenes.labels import impact_mps
from edge_sdk.calibration.scenes.plan import ScenePlan
from edge_sdk.calibration.scenes.soft_plan import (
    AFTERMATH_SHARES,
    BRUSH_SHARES,
    FIRST_SOFT_SUITE_SEED,
    OUTCOME_SHARES,
    SOFT_SUITE_SIZE,
    draw_soft_conditions,
    draw_soft_scenario,
    plan_soft,
    shows_aftermath,
)
from edge_sdk.calibration.scenes.truth import scene_truth


@cache
def planned(view: str, outcome: str, after: bool) -> tuple[ScenePlan, ...]:
    """The plans of the first seeds with those conditions; one from a dashcam, since those take long."""
    pytest.importorskip("mujoco", reason="planned scenes need mujoco (extra: scenes)")
    seeds = (
        seed
        for seed in range(20_000)
        if (draw_soft_conditions(seed).view, draw_soft_conditions(seed).outcome) == (view, outcome)
        and shows_aftermath(seed) == after
    )
    return tuple(plan_soft(next(seeds)) for _ in range(1 if view == "dashcam" else 2))


def in_picture(plan: ScenePlan, car: int, time_s: float) -> tuple[float, float]:
    """How many of 320 pixels of the picture's width a car covers, nobody being in front of it; its share inside."""
    pose = plan.track.pose_at(time_s)
    image, depth = project(camera_pose(plan.mount, pose, Jolt()), plan.mount, box_points(pose[car], plan.cars[car]))
    seen = image[depth > 0.3]
    if not len(seen):
        return 0.0, 0.0
    low, high = seen.min(axis=0), seen.max(axis=0)
    inside = np.clip(high, 0, 1) - np.clip(low, 0, 1)
    share = float(inside.prod() / (high - low).prod())
    return float(inside[0]) * 320 * (share > 0), share


@pytest.mark.parametrize("view", ["dashcam", "roadside"])
def test_a_brush_is_slow_and_both_drive_on(view: str) -> None:
    for plan in planned(view, "crash", False):
        assert plan.times is not None
        at_s = plan.times.crash_start_s
        assert 1.0 <= impact_mps(plan.track, plan.track.contacts[0]) <= 6.0
        for car in {0, 1} - {plan.mount.car}:
            assert in_picture(plan, car, at_s)[0] >= 32
        before, later = (
            np.hypot(*plan.track.velocity_at(moment)[:2, :2].T)
            for moment in (at_s - 0.1, min(at_s + 1.5, plan.track.duration_s))
        )
        # Whoever runs slowly into a standing vehicle stops there; of two that drive, both drive on.
        assert min(before) < 3.0 or min(later) > 0.5 * min(before)
        assert scene_truth(plan).cause is not None


@pytest.mark.parametrize("view", ["dashcam", "roadside"])
def test_of_an_aftermath_both_are_seen_when_all_is_over(view: str) -> None:
    for plan in planned(view, "crash", True):
        assert plan.times is not None
        assert plan.mount.car not in (0, 1)
        for later_s in (0.6, 1.2):
            for car in (0, 1):
                assert in_picture(plan, car, plan.times.crash_start_s + later_s)[0] >= 24


def test_poles_do_not_see_both_parties_of_an_aftermath_meet() -> None:
    """One is narrow, or mostly outside the picture; a third vehicle seldom covers anything from a pole."""
    for plan in planned("roadside", "crash", True):
        assert plan.times is not None
        seen = [in_picture(plan, car, plan.times.crash_start_s) for car in (0, 1)]
        assert any(width_px < 24 or share < 0.36 for width_px, share in seen)


@pytest.mark.parametrize(("outcome", "after"), [("near_miss", False), ("normal", True)])
def test_near_misses_and_mild_drives_are_staged_beside(outcome: str, after: bool) -> None:
    for plan in planned("roadside", outcome, after):
        assert not plan.track.contacts
        assert plan.kind == outcome
        assert scene_truth(plan).cause is None


def test_the_same_seed_gives_the_same_plan() -> None:
    first = planned("roadside", "crash", False)[0]
    second = plan_soft(first.seed)
    assert np.array_equal(first.track.pose, second.track.pose)
    assert (first.mount, first.times) == (second.mount, second.times)


def test_shares_are_as_declared_whatever_comes_of_a_scene() -> None:
    seeds = range(6000)
    conditions = [draw_soft_conditions(seed) for seed in seeds]
    outcomes = Counter(each.outcome for each in conditions)
    for outcome, share in OUTCOME_SHARES.items():
        assert outcomes[outcome] / len(seeds) == pytest.approx(share, abs=0.02)
        after = [shows_aftermath(seed) for seed, each in zip(seeds, conditions, strict=True) if each.outcome == outcome]
        assert np.mean(after) == pytest.approx(0.35, abs=0.03)
    for after, shares in ((True, AFTERMATH_SHARES), (False, BRUSH_SHARES)):
        staged = Counter(draw_soft_scenario(seed) for seed in seeds if shows_aftermath(seed) == after)
        for name, share in shares.items():
            assert staged[name] / staged.total() == pytest.approx(share, abs=0.03)


def test_seeds_for_judging_are_the_familys_own() -> None:
    kept = find_family("soft").suite()
    assert kept == list(range(FIRST_SOFT_SUITE_SEED, FIRST_SOFT_SUITE_SEED + SOFT_SUITE_SIZE))
