"""Everybody who is not part of the incident: traffic in the lanes, queues, parked cars and the observing ego car."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_sdk.calibration.scenes.drivers import Driver, Habits
from edge_sdk.calibration.scenes.incidents import Incident
from edge_sdk.calibration.scenes.physics import Car
from edge_sdk.calibration.scenes.roads import ROAD_REACH_M, Road
from edge_sdk.calibration.scenes.streams import Rng, chance, uniform
from edge_sdk.calibration.scenes.vehicles import Vehicle, draw_vehicle

_CROSSING_KINDS = ("crossing", "left_turn")


@dataclass(frozen=True)
class Stretch:
    """The part of the main road worth filling at time 0, in metres along x."""

    low_m: float
    high_m: float


def observer(rng: Rng, road: Road, incident: Incident, actors: tuple[Car, Car], scenario: str) -> Car:
    """An ego car that watches the incident: behind it, oncoming, or waiting at the crossing."""
    vehicle = draw_vehicle(rng, light_only=True)
    pick = rng.random()
    if road.cross_lanes and scenario in _CROSSING_KINDS and pick < 0.55:
        return Car(vehicle, _waiting(rng, road, vehicle, actors))
    if pick < 0.75:
        return Car(vehicle, _behind(rng, road, vehicle, actors[0]))
    direction, lane = -1, int(rng.integers(road.lanes))
    speed = road.limit_mps * uniform(rng, 0.4, 0.9)
    start = incident.x_m + uniform(rng, 10.0, 32.0) + speed * incident.time_s
    return Car(vehicle, _cruising(rng, road, direction, lane, start, speed))


def _behind(rng: Rng, road: Road, vehicle: Vehicle, actor: Car) -> Driver:
    x, y, _ = actor.driver.start_pose()
    lane = min(range(road.lanes), key=lambda k: abs(road.lane_y(1, k) - y))
    if road.lanes > 1 and chance(rng, 0.5):
        lane = (lane + 1) % road.lanes if lane == 0 else lane - 1
    speed = max(actor.driver.start_mps, 3.0)
    space = (vehicle.length_m + actor.vehicle.length_m) / 2 + 3.0 + speed * uniform(rng, 0.5, 1.5)
    return _cruising(rng, road, 1, lane, x - space, speed)


def _waiting(rng: Rng, road: Road, vehicle: Vehicle, actors: tuple[Car, Car]) -> Driver:
    """A driver who waits at one of the stop lines that neither actor uses."""
    free = [("main", -1), ("cross", 1), ("cross", -1)]
    yaw = actors[1].driver.start_pose()[2]
    busy = ("cross", round(math.sin(yaw))) if abs(math.sin(yaw)) > 0.5 else ("main", round(math.cos(yaw)))
    free = [place for place in free if place != busy]
    name, direction = free[int(rng.integers(len(free)))]
    back = vehicle.length_m / 2 + uniform(rng, 0.0, 9.0)
    if name == "main":
        path, stop = road.main_path(direction, int(rng.integers(road.lanes))), road.stop_m
    else:
        path, stop = road.cross_path(direction, int(rng.integers(road.cross_lanes))), road.cross_stop_m
    return Driver(path=path, start_m=ROAD_REACH_M - stop - back, start_mps=0.0, wish_mps=8.0, hold_until_s=math.inf)


def _cruising(rng: Rng, road: Road, direction: int, lane: int, x_m: float, speed_mps: float) -> Driver:
    return Driver(
        path=road.main_path(direction, lane),
        start_m=ROAD_REACH_M + direction * x_m,
        start_mps=speed_mps,
        wish_mps=speed_mps,
        headway_s=uniform(rng, 0.8, 1.6),
        standstill_m=uniform(rng, 1.6, 3.0),
        habits=Habits(
            sway_m=uniform(rng, 0.0, 0.15),
            sway_period_s=uniform(rng, 4.0, 9.0),
            crash_brake_mps2=uniform(rng, 2.0, 7.0),
        ),
    )


def fill(
    rng: Rng, road: Road, incident: Incident, cars: list[Car], stretch: Stretch, most: int, scenario: str
) -> list[Car]:
    """Background cars for all lanes, at most `most` of them, clear of the given cars."""
    headway_s = uniform(rng, 1.6, 7.0)
    found: list[Car] = []
    for direction in (1, -1):
        for lane in range(road.lanes):
            found += _fill_lane(rng, road, incident, cars, stretch, direction, lane, headway_s, scenario)
    if road.cross_lanes:
        found += _queues(rng, road, cars)
    if road.shoulder_m > 2.2:
        found += _parked(rng, road, cars, stretch)
    order = rng.permutation(len(found))[:most]
    return [found[i] for i in sorted(order)]


def _fill_lane(
    rng: Rng,
    road: Road,
    incident: Incident,
    cars: list[Car],
    stretch: Stretch,
    direction: int,
    lane: int,
    headway_s: float,
    scenario: str,
) -> list[Car]:
    y = road.lane_y(direction, lane)
    inside = [
        (direction * car.driver.start_pose()[0], car)
        for car in cars
        if abs(car.driver.start_pose()[1] - y) < 0.6 * road.lane_m
    ]
    ends = sorted((direction * stretch.low_m, direction * stretch.high_m))
    speed = road.limit_mps * uniform(rng, 0.6, 1.0)
    queue = any(car.driver.start_mps == 0.0 and not car.driver.shifts for _, car in inside)
    if inside:
        speed = max(car.driver.start_mps for _, car in inside)
    found, place = [], ends[0] + uniform(rng, 0.0, 20.0)
    front = max((at for at, _ in inside), default=-math.inf)
    while place < ends[1]:
        vehicle = draw_vehicle(rng)
        standing = queue and place > front
        step = uniform(rng, 1.5, 3.0) if standing else 4.0 + speed * headway_s * uniform(rng, 0.5, 1.8)
        if standing and place - front > 45.0:
            break
        if all(_clear(place, vehicle, at, car, speed) for at, car in inside):
            driver = _cruising(rng, road, direction, lane, direction * place, 0.0 if standing else speed)
            if standing:
                driver = Driver(
                    path=driver.path, start_m=driver.start_m, start_mps=0.0, wish_mps=speed, hold_until_s=math.inf
                )
            if standing or scenario not in _CROSSING_KINDS or inside or _spares_crossing(place, speed, incident):
                found.append(Car(vehicle, driver))
        place += step + vehicle.length_m + 1.0
    return found


def _clear(place_m: float, vehicle: Vehicle, at_m: float, car: Car, speed_mps: float) -> bool:
    """Whether a car at `place_m` keeps a safe distance to one of the cast in its lane."""
    bumpers = (vehicle.length_m + car.vehicle.length_m) / 2
    if place_m > at_m:
        return place_m - at_m > bumpers + (1.5 if car.driver.start_mps == 0.0 else 6.0 + 0.3 * speed_mps)
    return at_m - place_m > bumpers + 4.0 + 1.2 * speed_mps + (speed_mps**2 - car.driver.start_mps**2) / 8.0


def _spares_crossing(place_m: float, speed_mps: float, incident: Incident) -> bool:
    """Whether a car stays off the crossing while the incident happens there."""
    times = [incident.time_s + shift for shift in (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5)]
    return all(abs(place_m + speed_mps * time) > 16.0 for time in times)


def _queues(rng: Rng, road: Road, cars: list[Car]) -> list[Car]:
    """Cars waiting at the stop lines of the crossing road."""
    found = []
    for direction in (1, -1):
        for lane in range(road.cross_lanes):
            x = road.cross_x(direction, lane)
            if any(
                abs(car.driver.start_pose()[0] - x) < 2.5 and abs(car.driver.start_pose()[1]) > road.half_m
                for car in cars
            ):
                continue
            back = 0.0
            for _ in range(int(rng.integers(0, 3))):
                vehicle = draw_vehicle(rng)
                start = ROAD_REACH_M - road.cross_stop_m - back - vehicle.length_m / 2
                found.append(
                    Car(
                        vehicle,
                        Driver(
                            path=road.cross_path(direction, lane),
                            start_m=start,
                            start_mps=0.0,
                            wish_mps=8.0,
                            hold_until_s=math.inf,
                        ),
                    )
                )
                back += vehicle.length_m + uniform(rng, 1.3, 3.0)
    return found


def _parked(rng: Rng, road: Road, cars: list[Car], stretch: Stretch) -> list[Car]:
    """Cars parked at the kerb."""
    found: list[Car] = []
    for _ in range(int(rng.integers(0, 5))):
        vehicle, direction = draw_vehicle(rng, light_only=True), 1 if chance(rng, 0.6) else -1
        x = uniform(rng, stretch.low_m, stretch.high_m)
        kerb = -direction * (road.half_m - vehicle.width_m / 2 - 0.15)
        if road.cross_lanes and abs(x) < road.stop_m + 8.0:
            continue
        near = [car.driver.start_pose() for car in (*cars, *found)]
        if any(abs(px - x) < 8.0 and abs(py - kerb) < 1.5 for px, py, _ in near):
            continue
        lane = road.main_path(direction, road.lanes - 1)
        left = direction * (kerb - lane.points[0][1])
        found.append(
            Car(
                vehicle,
                Driver(
                    path=lane,
                    start_m=ROAD_REACH_M + direction * x,
                    start_mps=0.0,
                    left_m=left,
                    wish_mps=0.1,
                    hold_until_s=math.inf,
                ),
            )
        )
    return found
