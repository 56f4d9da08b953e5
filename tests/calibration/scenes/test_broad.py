"""The broad family: plans keep the promises of their outcome; parties, causes and effects are as drawn."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest

from edge_sdk.calibration.scenes.bodies import BODY_KINDS
from edge_sdk.calibration.scenes.broad_incidents import BROAD_SCENARIOS, CALM_SHARES
from edge_sdk.calibration.scenes.broad_plan import OUTCOME_SHARES, draw_broad_conditions, draw_scenario, plan_broad
from edge_sdk.calibration.scenes.families import find_family
from edge_sdk.calibration.scenes.geometry import gap_m
from edge_sdk.calibration.scenes.plan import ScenePlan
from edge_sdk.calibration.scenes.truth import scene_truth
from edge_sdk.errors import UnknownNameError

pytest.importorskip("mujoco", reason="planned scenes need mujoco (extra: scenes)")


def seed_of(scenario: str, outcome: str) -> int:
    """The first seed that stages a scenario and wants an outcome."""
    return next(
        seed
        for seed in range(20_000)
        if draw_broad_conditions(seed).outcome == outcome and draw_scenario(seed) == scenario
    )


@cache
def planned(scenario: str, outcome: str) -> ScenePlan:
    """The plan of that seed."""
    return plan_broad(seed_of(scenario, outcome))


def pair(plan: ScenePlan, time_s: float) -> float:
    """The gap of the two actors at a time."""
    pose = plan.track.pose_at(time_s)
    first, second = (car.vehicle.outline for car in plan.cars[:2])
    return float(gap_m(pose[0], first, pose[1], second))


@pytest.mark.parametrize(
    ("scenario", "kind", "struck", "causes"),
    [
        ("wrong_lane", "head_on", {"car", "truck", "bus", "ego-car"}, {"crossed_centre_line"}),
        ("step_out", "pedestrian", {"pedestrian", "car", "ego-car"}, {"pedestrian_stepped_out"}),
        ("zebra", "pedestrian", {"pedestrian", "car", "ego-car"}, {"pedestrian_not_given_way"}),
        ("cyclist_crossing", "cyclist", {"cyclist", "car", "ego-car"}, {"cyclist_no_right_of_way"}),
        ("cyclist_ahead", "cyclist", {"cyclist", "car", "ego-car"}, {"cyclist_swerved", "passed_too_closely"}),
        ("skid", "loss_of_control", {"barrier"}, {"slippery_road", "abrupt_steering"}),
        ("lost_load", "debris", {"object"}, {"object_on_road"}),
    ],
)
def test_crashes_of_new_kinds(scenario: str, kind: str, struck: set[str], causes: set[str]) -> None:
    plan = planned(scenario, "crash")
    truth = scene_truth(plan)
    assert plan.times is not None
    assert plan.kind == kind
    assert truth.struck in struck
    assert truth.cause in causes
    times = plan.times
    assert 0 <= times.pre_crash_start_s <= times.crash_start_s < times.crash_end_s <= plan.track.duration_s
    assert pair(plan, times.crash_start_s) < 0.25
    assert pair(plan, max(times.crash_start_s - 0.3, 0.0)) > 0.0


@pytest.mark.parametrize("scenario", ["step_out", "cyclist_ahead", "skid"])
def test_near_misses_of_new_kinds_touch_nothing(scenario: str) -> None:
    plan = planned(scenario, "near_miss")
    assert plan.kind == "near_miss"
    assert not plan.track.contacts
    assert plan.gap is not None
    assert 0.15 < plan.gap.gap_m < 1.0
    assert scene_truth(plan).cause is None


@pytest.mark.parametrize(("scenario", "effect"), [("lone_brake", "hard_braking"), ("passing", "parked_overlap")])
def test_scares_keep_their_distance_and_say_what_they_are(scenario: str, effect: str) -> None:
    plan = planned(scenario, "normal")
    assert plan.gap is None or plan.gap.gap_m >= 1.0
    assert effect in scene_truth(plan).effects
    if scenario == "lone_brake":
        speed = np.hypot(plan.track.velocity[:, 0, 0], plan.track.velocity[:, 0, 1])
        assert ((speed[:-10] - speed[10:]) / 0.2).max() > 4.0


def test_the_same_seed_gives_the_same_plan_and_says_so() -> None:
    first, second = planned("wrong_lane", "crash"), plan_broad(seed_of("wrong_lane", "crash"))
    assert np.array_equal(first.track.pose, second.track.pose)
    assert (first.tricks, first.mount, first.times) == (second.tricks, second.mount, second.times)


def test_shares_are_as_declared() -> None:
    outcomes = Counter(draw_broad_conditions(seed).outcome for seed in range(3000))
    staged = Counter(draw_scenario(seed) for seed in range(3000) if draw_broad_conditions(seed).outcome != "normal")
    total = sum(scenario.share for scenario in BROAD_SCENARIOS.values())
    for outcome, share in OUTCOME_SHARES.items():
        assert outcomes[outcome] / 3000 == pytest.approx(share, abs=0.03)
    for name, scenario in BROAD_SCENARIOS.items():
        assert staged[name] / staged.total() == pytest.approx(scenario.share / total, abs=0.02)
    assert not set(CALM_SHARES) & set(staged)


def test_people_and_things_are_no_car_that_carries_a_camera() -> None:
    for plan in (planned("step_out", "crash"), planned("skid", "crash"), planned("cyclist_ahead", "crash")):
        assert plan.ego is None or plan.cars[plan.ego].vehicle.kind not in BODY_KINDS


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(UnknownNameError, match="known: broad, close, first, soft"):
        find_family("wide")
