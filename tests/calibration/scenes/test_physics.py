"""Geometry, labels and plans: real physics, no drawing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_sdk.calibration.scenes.drivers import Brake, Driver
from edge_sdk.calibration.scenes.geometry import extrapolate, gap_m, straight
from edge_sdk.calibration.scenes.labels import HORIZON_S, crash_times, smallest_gap
from edge_sdk.calibration.scenes.physics import Car, simulate
from edge_sdk.calibration.scenes.plan import NEAR_MISS_M, ScenePlan, plan_scene
from edge_sdk.calibration.scenes.vehicles import Vehicle

pytest.importorskip("mujoco", reason="rendered scenes need mujoco (extra: scenes)")

SEDAN = Vehicle(kind="sedan", length_m=4.5, width_m=1.8, height_m=1.45, mass_kg=1400)
ROAD = straight((0.0, 0.0), (400.0, 0.0))
BLIND = (0.0, math.inf)


def car(start_m: float, speed_mps: float, **plan: object) -> Car:
    driver = Driver(path=ROAD, start_m=start_m, start_mps=speed_mps, wish_mps=speed_mps, blind=BLIND)
    return Car(SEDAN, driver.__class__(**{**driver.__dict__, **plan}))


@pytest.fixture(scope="module")
def plans() -> list[ScenePlan]:
    return [plan_scene(seed) for seed in range(14)]


def test_gap_of_outlines() -> None:
    outline, origin = (4.0, 2.0), np.zeros(3)
    others = np.array([[5.0, 0.0, 0.0], [0.0, 3.0, 0.0], [7.0, 5.0, 0.0], [3.9, 0.0, 0.0], [0.0, 0.0, math.pi / 2]])
    assert gap_m(origin, outline, others, outline) == pytest.approx([1.0, 1.0, math.hypot(3, 3), 0.0, 0.0])


def test_extrapolation_follows_a_circle() -> None:
    speed, rate = 10.0, 0.5
    ahead = extrapolate(np.zeros(3), np.array([speed, 0.0, rate]), np.array([0.0, 1.0, 2.0]))
    radius = speed / rate
    assert ahead[:, 0] == pytest.approx(radius * np.sin(rate * np.array([0, 1, 2])))
    assert ahead[:, 1] == pytest.approx(radius * (1 - np.cos(rate * np.array([0, 1, 2]))))


def test_rear_end_conserves_momentum_and_dates_the_contact() -> None:
    """15 m/s into a standing car 30 m ahead, bumper to bumper: contact after 2 s, foreseeable from the horizon on."""
    cars = [car(0.0, 15.0), car(34.5, 0.0, hold_until_s=math.inf)]
    track = simulate(cars, 6.0, grip=0.8)
    times = crash_times(track, [SEDAN.outline] * 2)
    assert times is not None
    assert times.crash_start_s == pytest.approx(2.0, abs=0.03)
    assert times.pre_crash_start_s == pytest.approx(2.0 - HORIZON_S, abs=0.15)
    assert times.crash_start_s < times.crash_end_s <= track.duration_s
    after = track.velocity_at(times.crash_start_s + 0.1)[:, 0]
    assert 11.0 < after.sum() <= 15.0
    assert np.abs(track.velocity[-1]).max() < 0.1


def test_braking_in_time_leaves_a_gap() -> None:
    cars = [car(0.0, 15.0, brakes=(Brake(at_s=0.1, decel_mps2=7.0),)), car(34.5, 0.0, hold_until_s=math.inf)]
    track = simulate(cars, 6.0, grip=0.9)
    gap = smallest_gap(track, [SEDAN.outline] * 2, 60.0)
    assert crash_times(track, [SEDAN.outline] * 2) is None
    assert gap is not None
    assert 5.0 < gap.gap_m < 30.0


def test_plans_keep_the_promises_of_their_outcome(plans: list[ScenePlan]) -> None:
    for plan in plans:
        outcome = plan.conditions.outcome
        assert (plan.times is not None) == (outcome == "crash") == bool(plan.track.contacts)
        if plan.times is not None:
            times = plan.times
            assert 0 <= times.pre_crash_start_s <= times.crash_start_s < times.crash_end_s <= plan.conditions.duration_s
            assert plan.kind in ("rear_end", "side")
        elif outcome == "near_miss":
            assert plan.gap is not None
            assert 0 < plan.gap.gap_m < NEAR_MISS_M
        else:
            assert plan.gap is None or plan.gap.gap_m >= NEAR_MISS_M
        if plan.conditions.view == "roadside":
            assert plan.ego is None
            assert not plan.ego_involved
    assert {plan.conditions.outcome for plan in plans} == {"crash", "near_miss", "normal"}


def test_plans_are_deterministic(plans: list[ScenePlan]) -> None:
    for plan in plans[:3]:
        again = plan_scene(plan.seed)
        assert np.array_equal(again.track.pose, plan.track.pose)
        assert again.times == plan.times
        assert again.mount == plan.mount
