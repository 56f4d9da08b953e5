"""Incidents: two cars whose plans conflict at a chosen time, from harmless to a certain crash.

Every generator draws its parameters once and returns `stage(severity)`: the same two cars with severity 0 for a
comfortable outcome and 1 for a crash. Crashes, near misses and normal drives of one kind therefore look alike until
the outcome. Car 0 is "first" (the one through whose windscreen the conflict is seen), car 1 is "second".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_sdk.calibration.scenes.bodies import BodyKind, draw_body
from edge_sdk.calibration.scenes.drivers import Brake, Driver, Habits, Shift
from edge_sdk.calibration.scenes.geometry import Path, turn
from edge_sdk.calibration.scenes.physics import Car
from edge_sdk.calibration.scenes.roads import ROAD_REACH_M, Road
from edge_sdk.calibration.scenes.streams import Rng, chance, lerp, uniform
from edge_sdk.calibration.scenes.vehicles import Vehicle, draw_vehicle

Stage = Callable[[float], tuple[Car, Car]]
FOREVER = (0.0, math.inf)


@dataclass(frozen=True)
class Incident:
    """A staged conflict near (x_m, y_m) at `time_s`; `extras` belong to the scene but not to the conflict."""

    stage: Stage
    x_m: float
    y_m: float
    time_s: float
    extras: tuple[Car, ...] = ()


@dataclass(frozen=True)
class Cast:
    """What every generator starts from."""

    rng: Rng
    road: Road
    time_s: float
    first: Vehicle
    second: Vehicle

    def speed(self, low_share: float = 0.45, high_share: float = 1.05) -> float:
        """Draw a speed as a share of the road's limit."""
        return self.road.limit_mps * uniform(self.rng, low_share, high_share)

    def lane(self) -> int:
        """Draw a lane."""
        return int(self.rng.integers(self.road.lanes))

    def habits(self) -> Habits:
        """Draw the habits of a driver."""
        rng = self.rng
        return Habits(
            sway_m=uniform(rng, 0.0, 0.12),
            sway_period_s=uniform(rng, 4.0, 9.0),
            crash_brake_mps2=uniform(rng, 1.5, 7.5),
            crash_steer_rad=uniform(rng, -0.3, 0.3),
        )

    def along(
        self,
        lane: int,
        x_m: float,
        speed_mps: float,
        *,
        blind: tuple[float, float] = (0.0, 0.0),
        brakes: tuple[Brake, ...] = (),
        shifts: tuple[Shift, ...] = (),
    ) -> Driver:
        """A driver on the main road at x_m, who keeps `speed_mps` unless told otherwise."""
        return Driver(
            path=self.road.main_path(1, lane),
            start_m=ROAD_REACH_M + x_m,
            start_mps=speed_mps,
            wish_mps=speed_mps,
            blind=blind,
            brakes=brakes,
            shifts=shifts,
            habits=self.habits(),
        )


def _closing_s(gap_m: float, speed_mps: float, decel_mps2: float, final_mps: float) -> float:
    """Time until a car at constant speed reaches the one ahead, which brakes from the same speed."""
    ramp_s = (speed_mps - final_mps) / decel_mps2
    if 0.5 * decel_mps2 * ramp_s**2 >= gap_m:
        return math.sqrt(2 * gap_m / decel_mps2)
    return ramp_s + (gap_m - 0.5 * decel_mps2 * ramp_s**2) / (speed_mps - final_mps)


def lead_brake(cast: Cast) -> Incident:
    """The car ahead brakes hard; the follower reacts late or not at all."""
    rng, lane, when = cast.rng, cast.lane(), cast.time_s
    speed = cast.speed()
    decel, final = uniform(rng, 3.5, 8.0), speed * (0.0 if chance(rng, 0.6) else uniform(rng, 0.2, 0.6))
    gap = max(2.5, speed * uniform(rng, 0.4, 1.3))
    gap = min(gap, 0.45 * decel * (when - 0.2) ** 2)
    closing = _closing_s(gap, speed, decel, final)
    starts = max(when - closing, 0.1)
    ramp = min(closing, (speed - final) / decel)
    travelled = speed * starts + speed * ramp - 0.5 * decel * ramp**2 + final * (closing - ramp)
    half = (cast.first.length_m + cast.second.length_m) / 2
    own_decel = uniform(rng, 5.5, 8.5)
    second = Car(
        cast.second,
        cast.along(
            lane,
            -travelled + cast.second.length_m / 2,
            speed,
            brakes=(Brake(at_s=starts, decel_mps2=decel, to_mps=final, until_s=when + uniform(rng, 0.8, 3.0)),),
        ),
    )
    follower = cast.along(lane, -travelled + cast.second.length_m / 2 - gap - half, speed, blind=FOREVER)

    def stage(severity: float) -> tuple[Car, Car]:
        reacts = starts + lerp(0.15, closing + 0.6, severity)
        brake = Brake(at_s=reacts, decel_mps2=own_decel, to_mps=max(final - 1.0, 0.0), until_s=when + 2.0)
        return Car(cast.first, replace(follower, brakes=(brake,), blind=(0.0, reacts))), second

    return Incident(stage, 0.0, cast.road.lane_y(1, lane), when)


def stopped_queue(cast: Cast) -> Incident:
    """A car stands in the lane; the one behind brakes late or not at all."""
    rng, lane, when = cast.rng, cast.lane(), cast.time_s
    speed, decel = cast.speed(0.3, 1.0), uniform(rng, 4.5, 8.0)
    crossing = cast.road.cross_lanes > 0
    x = -(cast.road.stop_m + 1.0 + (uniform(rng, 0, 12) if chance(rng, 0.5) else 0.0)) if crossing else 0.0
    second = Car(cast.second, replace(cast.along(lane, x - cast.second.length_m / 2, 0.0), hold_until_s=math.inf))
    bumper = x - cast.second.length_m - cast.first.length_m / 2
    approach = cast.along(lane, bumper - speed * when, speed, blind=FOREVER)
    need = speed / (2 * decel)

    def stage(severity: float) -> tuple[Car, Car]:
        brake = Brake(at_s=when - lerp(1.8 * need + 0.3, 0.0, severity), decel_mps2=decel)
        return Car(cast.first, replace(approach, brakes=(brake,))), second

    return Incident(stage, x - cast.second.length_m, cast.road.lane_y(1, lane), when)


def cut_in(cast: Cast) -> Incident:
    """A slower car changes into the lane right in front of a faster one."""
    rng, when = cast.rng, cast.time_s
    lane = cast.lane()
    other = lane + 1 if lane == 0 or (lane + 1 < cast.road.lanes and chance(rng, 0.5)) else lane - 1
    speed = cast.speed(0.6, 1.1)
    slower = speed - min(uniform(rng, 0.5, 6.0), 0.6 * speed)
    over = uniform(rng, 1.3, 2.6)
    begins = max(when - 0.55 * over, 0.1)
    left = cast.road.lane_y(1, lane) - cast.road.lane_y(1, other)
    half = (cast.first.length_m + cast.second.length_m) / 2
    reacts, decel = begins + uniform(rng, 0.5, 1.5), uniform(rng, 4.5, 8.0)
    first = Car(
        cast.first,
        cast.along(
            lane,
            -speed * when,
            speed,
            blind=(0.0, reacts + 2.5),
            brakes=(Brake(at_s=reacts, decel_mps2=decel, to_mps=slower - 1.0, until_s=reacts + 2.5),),
        ),
    )
    base = cast.along(other, 0.0, slower, blind=FOREVER, shifts=(Shift(at_s=begins, left_m=left, over_s=over),))

    def stage(severity: float) -> tuple[Car, Car]:
        ahead = half + lerp(10.0 + 1.2 * (speed - slower), -2.5, severity)
        return first, Car(cast.second, replace(base, start_m=ROAD_REACH_M + ahead - slower * when))

    return Incident(stage, half, cast.road.lane_y(1, lane), when)


def lane_drift(cast: Cast) -> Incident:
    """A car in the next lane drifts over the line, and comes back or not."""
    rng, when = cast.rng, cast.time_s
    lane = cast.lane()
    other = lane + 1 if lane == 0 or (lane + 1 < cast.road.lanes and chance(rng, 0.5)) else lane - 1
    speed = cast.speed(0.5, 1.1)
    side = 1.0 if cast.road.lane_y(1, lane) > cast.road.lane_y(1, other) else -1.0
    clear = cast.road.lane_m - (cast.first.width_m + cast.second.width_m) / 2
    over, faster = uniform(rng, 1.2, 3.0), uniform(rng, -0.6, 0.6)
    ahead = uniform(rng, 0.3, 0.9) * (cast.first.length_m + cast.second.length_m) / 2
    first = Car(cast.first, cast.along(lane, -speed * when, speed, blind=FOREVER))
    base = cast.along(other, ahead - (speed + faster) * when, speed + faster, blind=FOREVER)

    def stage(severity: float) -> tuple[Car, Car]:
        reach = side * lerp(0.0, clear + 1.0, severity)
        shifts = (
            Shift(at_s=max(when - over, 0.1), left_m=reach, over_s=over),
            Shift(at_s=when + 0.3, left_m=0.0, over_s=1.4),
        )
        return first, Car(cast.second, replace(base, shifts=shifts))

    return Incident(stage, ahead / 2, cast.road.lane_y(1, lane), when)


def pull_out(cast: Cast) -> Incident:
    """A parked car pulls out of the kerb lane into passing traffic."""
    rng, when = cast.rng, cast.time_s
    road = cast.road
    lane = road.lanes - 1
    kerb = road.half_m - cast.second.width_m / 2 - 0.15
    inset = kerb + road.lane_y(1, lane)
    speed = cast.speed(0.45, 0.95)
    out = uniform(rng, 4.5, 7.5)
    nose = (cast.first.length_m + cast.second.length_m) / 2 + uniform(rng, -1.0, 2.0)
    first = Car(
        cast.first,
        cast.along(
            lane,
            -speed * when,
            speed,
            blind=(0.0, when + 0.4),
            brakes=(
                Brake(
                    at_s=when - uniform(rng, -0.3, 0.5), decel_mps2=uniform(rng, 5, 8), to_mps=2.0, until_s=when + 1.5
                ),
            ),
        ),
    )
    parked = cast.along(lane, nose - 1.5, 0.0, blind=FOREVER)
    base = replace(parked, left_m=-inset, wish_mps=out, habits=replace(parked.habits, sway_m=0.0))

    def stage(severity: float) -> tuple[Car, Car]:
        starts = max(when - lerp(-1.5, 2.2, severity), 0.0)
        shift = Shift(at_s=starts, left_m=0.0, over_s=2.6)
        return first, Car(cast.second, replace(base, hold_until_s=starts, shifts=(shift,)))

    return Incident(stage, nose, road.lane_y(1, lane), when)


def crossing(cast: Cast) -> Incident:
    """Two cars meet at right angles; one is late, brakes, or does neither."""
    rng, road, when = cast.rng, cast.road, cast.time_s
    lane, direction = cast.lane(), 1 if chance(rng, 0.5) else -1
    path = road.cross_path(direction, int(rng.integers(road.cross_lanes)))
    x, y = path.points[0][0], road.lane_y(1, lane)
    speed, other_speed = cast.speed(0.45, 1.0), cast.speed(0.4, 0.95)
    first = cast.along(lane, x - speed * when + uniform(rng, -1.5, 1.5), speed, blind=FOREVER)
    second = Driver(
        path=path,
        start_m=ROAD_REACH_M + direction * y - other_speed * when,
        start_mps=other_speed,
        wish_mps=other_speed,
        blind=FOREVER,
        habits=cast.habits(),
    )
    return Incident(late_or_braking(cast, first, second), x, y, when)


def left_turn(cast: Cast) -> Incident:
    """A car turns left across the path of an oncoming one."""
    rng, road, when = cast.rng, cast.road, cast.time_s
    lane = cast.lane()
    speed, turning = cast.speed(0.45, 1.0), uniform(rng, 4.5, 7.5)
    path = _left_turn_path(road, int(rng.integers(road.cross_lanes)))
    x, y, at = _crossing_point(path, road.lane_y(1, lane))
    first = cast.along(lane, x - speed * when + uniform(rng, -1.5, 1.5), speed, blind=FOREVER)
    second = Driver(
        path=path,
        start_m=at - turning * when,
        start_mps=turning,
        wish_mps=turning,
        blind=FOREVER,
        habits=cast.habits(),
    )
    return Incident(late_or_braking(cast, first, second), x, y, when)


def _left_turn_path(road: Road, cross_lane: int) -> Path:
    """From the inner oncoming lane (towards -x) into the crossing road towards -y."""
    y0 = road.lane_y(-1, 0)
    x1 = road.cross_x(-1, cross_lane)
    reach = min(2.0 + road.cross_half_m, 7.0)
    return turn((x1 + reach, y0), (x1, y0 - max(reach, 1.6 * road.lane_m)), 150.0)


def _crossing_point(path: Path, y_m: float) -> tuple[float, float, float]:
    """Where a path first gets down to y_m: x, y and the arc length."""
    along = path.starts_m[1]
    while path.at(along)[1] > y_m:
        along += 0.1
    x, y, _ = path.at(along)
    return x, y, along


def late_or_braking(cast: Cast, first: Driver, second: Driver) -> Stage:
    """Let severity bring the second car's arrival closer to the first one's, or delay one car's braking."""
    rng, when = cast.rng, cast.time_s
    how = ("late", "first brakes", "second brakes")[int(rng.choice(3, p=[0.4, 0.35, 0.25]))]
    late_s, sign = uniform(rng, 2.0, 3.2), -1.0 if chance(rng, 0.5) else 1.0
    decel = uniform(rng, 4.5, 8.0)
    braker, vehicle = (second, cast.second) if how == "second brakes" else (first, cast.first)
    need = braker.start_mps / (2 * decel) + (vehicle.length_m / 2 + 1.2) / braker.start_mps

    def stage(severity: float) -> tuple[Car, Car]:
        if how == "late":
            moved = replace(second, start_m=second.start_m + sign * lerp(late_s, 0.0, severity) * second.start_mps)
            return Car(cast.first, first), Car(cast.second, moved)
        brake = Brake(at_s=when - lerp(1.5 * need + 0.5, 0.0, severity), decel_mps2=decel, until_s=when + 1.5)
        braked = replace(braker, brakes=(brake,))
        if how == "first brakes":
            return Car(cast.first, braked), Car(cast.second, second)
        return Car(cast.first, first), Car(cast.second, braked)

    return stage


def cruise(cast: Cast) -> Incident:
    """Two cars in one lane, the second ahead; the one ahead may brake and drive on, and the other follows."""
    rng, lane, when = cast.rng, cast.lane(), cast.time_s
    speed = cast.speed()
    brakes: tuple[Brake, ...] = ()
    if chance(rng, 0.6):
        begins = when - uniform(rng, 0.5, 2.0)
        brakes = (
            Brake(
                at_s=begins,
                decel_mps2=uniform(rng, 1.5, 5.0),
                to_mps=speed * uniform(rng, 0.0, 0.7),
                until_s=begins + uniform(rng, 1.0, 4.0),
            ),
        )
    gap = speed * uniform(rng, 1.0, 2.5) + 4.0
    half = (cast.first.length_m + cast.second.length_m) / 2
    second = Car(cast.second, replace(cast.along(lane, -speed * when, speed), brakes=brakes))
    first = Car(cast.first, cast.along(lane, -speed * when - gap - half, speed))
    return Incident(lambda severity: (first, second), 0.0, cast.road.lane_y(1, lane), when)


@dataclass(frozen=True)
class Scenario:
    """A generator and its needs: a crossing or none (None: either), lanes, a parking lane, the second party's kind."""

    make: Callable[[Cast], Incident]
    share: float
    crossing: bool | None = None
    fewest_lanes: int = 1
    parking: bool = False
    light_only: bool = False
    second: BodyKind | None = None
    median: bool = True


SCENARIOS: dict[str, Scenario] = {
    "lead_brake": Scenario(lead_brake, 0.24),
    "stopped_queue": Scenario(stopped_queue, 0.14),
    "cut_in": Scenario(cut_in, 0.12, crossing=False, fewest_lanes=2),
    "lane_drift": Scenario(lane_drift, 0.08, crossing=False, fewest_lanes=2, light_only=True),
    "pull_out": Scenario(pull_out, 0.08, crossing=False, parking=True, light_only=True),
    "crossing": Scenario(crossing, 0.20, crossing=True),
    "left_turn": Scenario(left_turn, 0.14, crossing=True),
    "cruise": Scenario(cruise, 0.0),
}


def make_incident(scenario: Scenario, rng: Rng, road: Road, time_s: float) -> Incident:
    """Draw the two cars and stage the conflict."""
    first = draw_vehicle(rng, light_only=True)
    if scenario.second is None:
        second = draw_vehicle(rng, light_only=scenario.light_only)
    else:
        second = draw_body(rng, scenario.second)
    return scenario.make(Cast(rng, road, time_s, first, second))
