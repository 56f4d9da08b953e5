"""Incidents of the broad family: head-on, people on foot, cyclists, loss of control, lost loads, and mere scares.

They follow the contract of `incidents`: parameters are drawn once, and `stage(severity)` gives the same two cars with
severity 0 for a comfortable outcome and 1 for a crash. Traffic keeps right.
"""

from __future__ import annotations

import math
from dataclasses import replace

from edge_sdk.calibration.scenes.bodies import draw_body
from edge_sdk.calibration.scenes.drivers import Brake, Driver, Habits, Shift, Slip
from edge_sdk.calibration.scenes.geometry import straight
from edge_sdk.calibration.scenes.incidents import (
    FOREVER,
    SCENARIOS,
    Cast,
    Incident,
    Scenario,
    cruise,
    stopped_queue,
)
from edge_sdk.calibration.scenes.physics import Car
from edge_sdk.calibration.scenes.roads import ROAD_REACH_M, Road
from edge_sdk.calibration.scenes.streams import Rng, chance, lerp, uniform
from edge_sdk.calibration.scenes.vehicles import draw_vehicle

_STEADY = Habits()
# After a contact people on foot stop within a step, and a fallen cyclist's wreck is braked by the road.
_FALLEN = Habits(crash_brake_mps2=6.0)


def _oncoming(
    cast: Cast, x_m: float, speed_mps: float, *, shifts: tuple[Shift, ...] = (), left_m: float = 0.0
) -> Driver:
    """A driver in the inner oncoming lane at x_m."""
    return Driver(
        path=cast.road.main_path(-1, 0),
        start_m=ROAD_REACH_M - x_m,
        start_mps=speed_mps,
        wish_mps=speed_mps,
        left_m=left_m,
        blind=FOREVER,
        shifts=shifts,
        habits=cast.habits(),
    )


def wrong_lane(cast: Cast) -> Incident:
    """An oncoming car strays over the centre line, and comes back in time or not."""
    rng, when, road = cast.rng, cast.time_s, cast.road
    speed, other = cast.speed(0.4, 0.8), cast.speed(0.4, 0.8)
    over, back = uniform(rng, 1.4, 2.8), uniform(rng, 0.2, 0.8)
    apart = road.lane_y(-1, 0) - road.lane_y(1, 0)
    half = (cast.first.length_m + cast.second.length_m) / 2
    reacts = when - uniform(rng, -0.2, 0.9)
    brake = Brake(at_s=reacts, decel_mps2=uniform(rng, 4.5, 8.0), until_s=when + 2.0)
    first = Car(cast.first, replace(cast.along(0, -speed * when - half / 2, speed, blind=FOREVER), brakes=(brake,)))
    base = _oncoming(cast, half / 2 + other * when, other)

    def stage(severity: float) -> tuple[Car, Car]:
        reach = lerp(0.0, apart, severity)
        shifts = (
            Shift(at_s=max(when - over, 0.1), left_m=reach, over_s=over),
            Shift(at_s=when + back, left_m=0.0, over_s=1.6),
        )
        return first, Car(cast.second, replace(base, shifts=shifts))

    return Incident(stage, 0.0, road.lane_y(1, 0), when)


def overtaking(cast: Cast) -> Incident:
    """An oncoming car overtakes a slow one, and is back in its lane in time or not."""
    rng, when, road = cast.rng, cast.time_s, cast.road
    speed, other = cast.speed(0.4, 0.75), cast.speed(0.55, 0.85)
    apart = road.lane_y(-1, 0) - road.lane_y(1, 0)
    half = (cast.first.length_m + cast.second.length_m) / 2
    reacts = when - uniform(rng, -0.2, 1.0)
    brake = Brake(at_s=reacts, decel_mps2=uniform(rng, 4.5, 8.0), until_s=when + 2.0)
    first = Car(cast.first, replace(cast.along(0, -speed * when - half / 2, speed, blind=FOREVER), brakes=(brake,)))
    base = _oncoming(cast, half / 2 + other * when, other, left_m=apart)
    slow = draw_vehicle(rng)
    pace = other * uniform(rng, 0.45, 0.65)
    lag = uniform(rng, 10.0, 18.0) + (slow.length_m + cast.second.length_m) / 2
    overtaken = replace(_oncoming(cast, half / 2 + lag + pace * when, pace), blind=(0.0, 0.0))

    def stage(severity: float) -> tuple[Car, Car]:
        shift = Shift(at_s=max(when - lerp(2.6, -0.8, severity), 0.05), left_m=0.0, over_s=1.5)
        return first, Car(cast.second, replace(base, shifts=(shift,)))

    return Incident(stage, 0.0, road.lane_y(1, 0), when, (Car(slow, overtaken),))


def _across(cast: Cast, x_m: float, y_m: float, speed_mps: float) -> Driver:
    """Somebody who crosses the main road at x_m, from either side, and is at y_m at the time of the incident."""
    side = 1.0 if chance(cast.rng, 0.6) else -1.0
    return Driver(
        path=straight((x_m, -side * ROAD_REACH_M), (x_m, side * ROAD_REACH_M)),
        start_m=ROAD_REACH_M + side * y_m - speed_mps * cast.time_s,
        start_mps=speed_mps,
        wish_mps=speed_mps,
        blind=FOREVER,
        habits=_FALLEN,
    )


def step_out(cast: Cast) -> Incident:
    """Somebody walks or runs into the road in front of a car."""
    return _crossed(cast, uniform(cast.rng, -6.0, 6.0), cast.lane(), _walking_mps(cast), cast.speed(0.35, 0.85))


def zebra(cast: Cast) -> Incident:
    """Somebody crosses at a crossing; a car stops late or not at all."""
    side = 1.0 if chance(cast.rng, 0.5) else -1.0
    x = side * (cast.road.cross_half_m + uniform(cast.rng, 1.4, 2.8))
    return _crossed(cast, x, cast.lane(), uniform(cast.rng, 0.9, 1.7), cast.speed(0.35, 0.8), late_share=0.25)


def cyclist_crossing(cast: Cast) -> Incident:
    """A cyclist rides across the road in front of a car."""
    road = cast.road
    x = road.cross_x(1, 0) + uniform(cast.rng, 0.3, 1.2) if road.cross_lanes else uniform(cast.rng, -6.0, 6.0)
    return _crossed(cast, x, cast.lane(), uniform(cast.rng, 2.5, 5.5), cast.speed(0.35, 0.85))


def _walking_mps(cast: Cast) -> float:
    return uniform(cast.rng, 2.2, 3.6) if chance(cast.rng, 0.4) else uniform(cast.rng, 1.0, 1.8)


def _crossed(
    cast: Cast, x_m: float, lane: int, crossing_mps: float, speed_mps: float, late_share: float = 0.5
) -> Incident:
    """A car in a lane and somebody slower who crosses it: either the one who crosses is late, or the car brakes."""
    rng, when, y = cast.rng, cast.time_s, cast.road.lane_y(1, lane)
    nose = cast.first.length_m / 2 + 0.3 + uniform(rng, -0.6, 0.6)
    first = cast.along(lane, x_m - nose - speed_mps * when, speed_mps, blind=FOREVER)
    second = _across(cast, x_m, y + uniform(rng, -0.5, 0.5), crossing_mps)
    late_s, decel = uniform(rng, 2.6, 4.2), uniform(rng, 4.5, 8.0)
    need = speed_mps / (2 * decel) + 1.5 / speed_mps
    braking = not chance(rng, late_share)

    def stage(severity: float) -> tuple[Car, Car]:
        if braking:
            brake = Brake(at_s=when - lerp(1.7 * need + 0.6, 0.0, severity), decel_mps2=decel, until_s=when + 1.5)
            return Car(cast.first, replace(first, brakes=(brake,))), Car(cast.second, second)
        moved = replace(second, start_m=second.start_m - lerp(late_s, 0.0, severity) * crossing_mps)
        return Car(cast.first, first), Car(cast.second, moved)

    return Incident(stage, x_m, y, when)


def cyclist_ahead(cast: Cast) -> Incident:
    """A car passes a cyclist at the edge of the lane; the cyclist swerves, or the car leaves too little room."""
    rng, when, road = cast.rng, cast.time_s, cast.road
    lane = road.lanes - 1
    speed, riding = cast.speed(0.5, 0.9), uniform(rng, 3.2, 6.0)
    edge = -(road.lane_m / 2 - uniform(rng, 0.35, 0.7))
    half = (cast.first.length_m + cast.second.length_m) / 2
    swerves = chance(rng, 0.55)
    room = uniform(rng, 1.6, 2.1) - edge - road.lane_m / 2
    begins = max(when - uniform(rng, 1.6, 2.6), 0.1)
    first = cast.along(lane, -half + uniform(rng, -1.0, 2.0) - speed * when, speed, blind=FOREVER)
    rider = replace(cast.along(lane, -riding * when, riding, blind=FOREVER), left_m=edge, habits=_FALLEN)

    def stage(severity: float) -> tuple[Car, Car]:
        if swerves:
            car = replace(first, shifts=(Shift(at_s=begins, left_m=room, over_s=1.6),))
            reach = edge + lerp(0.0, room - edge + 0.3, severity)
            swerve = Shift(at_s=when - 1.1, left_m=reach, over_s=1.2)
            return Car(cast.first, car), Car(cast.second, replace(rider, shifts=(swerve,)))
        car = replace(first, shifts=(Shift(at_s=begins, left_m=lerp(room, edge * 0.6, severity), over_s=1.6),))
        return Car(cast.first, car), Car(cast.second, rider)

    return Incident(stage, 0.0, road.lane_y(1, lane) + edge, when)


def skid(cast: Cast) -> Incident:
    """A car loses its rear grip and slides towards a guard rail, or is caught in time."""
    rail_y = _beside_y(cast, cast.second.width_m / 2 + uniform(cast.rng, 0.6, 1.0))
    rail = Driver(
        path=cast.road.main_path(1, 0),
        start_m=ROAD_REACH_M + uniform(cast.rng, -5.0, 15.0),
        start_mps=0.0,
        wish_mps=0.1,
        left_m=rail_y - cast.road.lane_y(1, 0),
        hold_until_s=math.inf,
        blind=FOREVER,
        habits=_STEADY,
    )
    return _slide(cast, Car(cast.second, rail), rail_y, 1.0)


def skid_parked(cast: Cast) -> Incident:
    """A car loses its rear grip and slides towards a parked car."""
    kerb_y = _beside_y(cast, -cast.second.width_m / 2 - 0.15)
    parked = cast.along(cast.road.lanes - 1, uniform(cast.rng, -2.0, 10.0), 0.0, blind=FOREVER)
    left = kerb_y - cast.road.lane_y(1, cast.road.lanes - 1)
    still = replace(parked, left_m=left, hold_until_s=math.inf, wish_mps=0.1, habits=_STEADY)
    return _slide(cast, Car(cast.second, still), kerb_y, 0.7)


def _beside_y(cast: Cast, beyond_m: float) -> float:
    """The y of a place `beyond_m` past the right kerb."""
    return -(cast.road.half_m + beyond_m)


def _slide(cast: Cast, second: Car, aim_y_m: float, way: float) -> Incident:
    """The first car's rear loses its grip about `way` seconds before the car would reach aim_y_m."""
    rng, when, road = cast.rng, cast.time_s, cast.road
    lane = road.lanes - 1
    speed = max(cast.speed(0.6, 1.05), uniform(rng, 11.0, 15.0))
    begins = max(when - way - uniform(rng, 0.2, 0.8), 0.3)
    wet = road.grip < 0.78
    # On a dry road it takes a stronger jerk of the wheel than on a wet one.
    jerk = uniform(rng, 0.06, 0.14) * (1.0 if wet else 1.7) * (1.0 if chance(rng, 0.5) else -1.0)
    lasts, worst = uniform(rng, 1.2, 2.5), uniform(rng, 0.03, 0.12)
    first = cast.along(lane, -speed * when, speed, blind=FOREVER)
    brake = Brake(at_s=begins + uniform(rng, 0.2, 0.6), decel_mps2=uniform(rng, 1.5, 4.0))

    def stage(severity: float) -> tuple[Car, Car]:
        slip = Slip(
            at_s=begins,
            until_s=begins + lerp(0.3, lasts, severity),
            rear_share=lerp(0.7, worst, severity),
            jerk_rad=jerk * lerp(0.4, 1.0, severity),
        )
        return Car(cast.first, replace(first, slips=(slip,), brakes=(brake,))), second

    return Incident(stage, 0.0, (road.lane_y(1, lane) + aim_y_m) / 2, when)


def lone_brake(cast: Cast) -> Incident:
    """A car brakes hard for nothing that the camera shows, and drives on; nobody is near."""
    rng, lane, when = cast.rng, cast.lane(), cast.time_s
    speed = cast.speed(0.5, 1.05)
    brake = Brake(
        at_s=when - uniform(rng, 0.3, 1.0),
        decel_mps2=uniform(rng, 5.5, 8.5),
        to_mps=speed * uniform(rng, 0.0, 0.4),
        until_s=when + uniform(rng, 0.8, 2.0),
    )
    half = (cast.first.length_m + cast.second.length_m) / 2
    ahead = speed * uniform(rng, 2.0, 3.5) + half
    first = Car(cast.first, replace(cast.along(lane, -speed * when, speed), brakes=(brake,)))
    second = Car(cast.second, cast.along(lane, ahead - speed * when, speed))
    return Incident(lambda severity: (first, second), 0.0, cast.road.lane_y(1, lane), when)


def passing(cast: Cast) -> Incident:
    """Two cars meet beside a row of parked ones: in the picture they cover each other, on the road they stay apart."""
    rng, when, road = cast.rng, cast.time_s, cast.road
    lane = road.lanes - 1
    speed, other = cast.speed(0.35, 0.8), cast.speed(0.35, 0.8)
    first = Car(cast.first, cast.along(lane, -speed * when, speed))
    second = Car(cast.second, replace(_oncoming(cast, other * when, other), blind=(0.0, 0.0)))
    row, x = [], uniform(rng, -22.0, -12.0)
    for _ in range(int(rng.integers(3, 6))):
        vehicle = draw_vehicle(rng, light_only=True)
        x += vehicle.length_m / 2
        kerb = _beside_y(cast, -vehicle.width_m / 2 - 0.15) - road.lane_y(1, lane)
        driver = cast.along(lane, x, 0.0, blind=FOREVER)
        row.append(Car(vehicle, replace(driver, left_m=kerb, hold_until_s=math.inf, wish_mps=0.1, habits=_STEADY)))
        x += vehicle.length_m / 2 + uniform(rng, 0.8, 4.0)
    return Incident(lambda severity: (first, second), 0.0, road.lane_y(1, lane), when, tuple(row))


# Shares among the scenes that stage a conflict, whatever its outcome; about a third are kinds of the first family.
BROAD_SCENARIOS: dict[str, Scenario] = {
    **{
        name: replace(SCENARIOS[name], share=share)
        for name, share in (
            ("lead_brake", 0.08),
            ("stopped_queue", 0.05),
            ("cut_in", 0.05),
            ("lane_drift", 0.03),
            ("pull_out", 0.04),
            ("crossing", 0.07),
            ("left_turn", 0.05),
        )
    },
    "wrong_lane": Scenario(wrong_lane, 0.09, median=False),
    "overtaking": Scenario(overtaking, 0.06, crossing=False, median=False),
    "step_out": Scenario(step_out, 0.10, second="pedestrian"),
    "zebra": Scenario(zebra, 0.06, crossing=True, second="pedestrian"),
    "cyclist_crossing": Scenario(cyclist_crossing, 0.08, second="cyclist"),
    "cyclist_ahead": Scenario(cyclist_ahead, 0.08, crossing=False, second="cyclist"),
    "skid": Scenario(skid, 0.06, crossing=False, second="barrier"),
    "skid_parked": Scenario(skid_parked, 0.05, crossing=False, parking=True, light_only=True),
    "lost_load": Scenario(stopped_queue, 0.05, second="object"),
    "cruise": Scenario(cruise, 0.0),
    "lone_brake": Scenario(lone_brake, 0.0),
    "passing": Scenario(passing, 0.0, crossing=False, parking=True, light_only=True),
}
# Among scenes of a normal outcome, the shares that stage no conflict; the rest stage one that stays mild.
CALM_SHARES: dict[str, float] = {"cruise": 0.15, "lone_brake": 0.18, "passing": 0.17}


def draw_rail(rng: Rng, road: Road) -> Car:
    """A guard rail beside the road, as scenery, so that a rail in the picture does not announce a crash."""
    vehicle = draw_body(rng, "barrier")
    side = 1.0 if chance(rng, 0.5) else -1.0
    y = side * (road.half_m + vehicle.width_m / 2 + uniform(rng, 0.7, 1.1))
    driver = Driver(
        path=road.main_path(1, 0),
        start_m=ROAD_REACH_M + uniform(rng, -20.0, 40.0),
        start_mps=0.0,
        wish_mps=0.1,
        left_m=y - road.lane_y(1, 0),
        hold_until_s=math.inf,
        blind=FOREVER,
    )
    return Car(vehicle, driver)
