"""The close family: large parties, hard contacts, and seeds that are kept for judging."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest

from edge_sdk.calibration.scenes.broad_suite import broad_suite_seeds
from edge_sdk.calibration.scenes.cameras import Jolt, box_points, camera_pose, project
from edge_sdk.calibration.scenes.close_plan import (
    CLOSE_SHARES,
    CLOSE_SUITE_SIZE,
    FIRST_CLOSE_SUITE_SEED,
    OUTCOME_SHARES,
    draw_close_conditions,
    draw_close_scenario,
    plan_close,
)
from edge_sdk.calibration.scenes.families import find_family
from edge_sdk.calibration.scenes.labels import impact_mps
from edge_sdk.calibration.scenes.plan import ScenePlan
from edge_sdk.calibration.scenes.truth import scene_truth
from edge_sdk.export.mini.recipe import load_recipe


@cache
def planned(scenario: str, outcome: str) -> ScenePlan:
    """The plan of the first seed that wants an outcome and a scenario, and gets it."""
    pytest.importorskip("mujoco", reason="planned scenes need mujoco (extra: scenes)")
    plans = (
        plan_close(seed)
        for seed in range(20_000)
        if draw_close_conditions(seed).outcome == outcome and draw_close_scenario(seed) == scenario
    )
    return next(plan for plan in plans if plan.scenario == scenario)


def width_in_picture(plan: ScenePlan, car: int, time_s: float) -> float:
    """How wide a car is, as a share of the picture; more than one where it fills more."""
    pose = plan.track.pose_at(time_s)
    image, depth = project(camera_pose(plan.mount, pose, Jolt()), plan.mount, box_points(pose[car], plan.cars[car]))
    return float(np.ptp(image[depth > 0.3, 0]))


@pytest.mark.parametrize("scenario", ["crossing", "left_turn", "step_out", "cyclist_crossing"])
def test_a_crash_is_hard_and_its_parties_are_large(scenario: str) -> None:
    plan = planned(scenario, "crash")
    assert plan.times is not None
    assert impact_mps(plan.track, plan.track.contacts[0]) >= 3.0
    least = {"pedestrian": 0.04, "cyclist": 0.08}
    for car in {0, 1} - {plan.mount.car}:
        kind = plan.cars[car].vehicle.kind
        assert width_in_picture(plan, car, plan.times.crash_start_s) > least.get(kind, 0.15)
    assert scene_truth(plan).cause is not None


def test_few_are_beside_and_the_light_is_good() -> None:
    for plan in (planned("crossing", "crash"), planned("stopped_queue", "normal")):
        assert len(plan.cars) <= 5
        assert plan.conditions.light in ("day", "dusk")
    quiet = planned("stopped_queue", "normal")
    assert not quiet.track.contacts
    assert scene_truth(quiet).cause is None


def test_the_same_seed_gives_the_same_plan() -> None:
    first, second = planned("crossing", "crash"), plan_close(planned("crossing", "crash").seed)
    assert np.array_equal(first.track.pose, second.track.pose)
    assert (first.mount, first.times) == (second.mount, second.times)


def test_shares_are_as_declared() -> None:
    outcomes = Counter(draw_close_conditions(seed).outcome for seed in range(3000))
    staged = Counter(
        draw_close_scenario(seed) for seed in range(3000) if draw_close_conditions(seed).outcome == "crash"
    )
    for outcome, share in OUTCOME_SHARES.items():
        assert outcomes[outcome] / 3000 == pytest.approx(share, abs=0.03)
    for name, share in CLOSE_SHARES.items():
        assert staged[name] / staged.total() == pytest.approx(share, abs=0.03)


def test_seeds_for_judging_are_the_familys_own_and_nobody_trains_on_them() -> None:
    kept = find_family("close").suite()
    assert kept == list(range(FIRST_CLOSE_SUITE_SEED, FIRST_CLOSE_SUITE_SEED + CLOSE_SUITE_SIZE))
    assert find_family("broad").suite() == broad_suite_seeds()
    for name in ("language-mini", "language-mini-long"):
        recipe, _ = load_recipe(name)
        for seeds in recipe.scenes.training:
            assert seeds.count is not None
            assert not set(range(seeds.first, seeds.first + seeds.count)) & set(kept)
        assert all(seeds.count is None for seeds in recipe.scenes.held_out)
