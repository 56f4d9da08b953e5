"""Plans a scene: draws conditions and an outcome from the seed, then searches for traffic whose physics have it.

Conditions (view, light, weather, length, camera, traffic density) are drawn from their own streams, in the same way for
every outcome; only the severity of the incident distinguishes crashes, near misses and normal drives. Nothing is
rendered here, so a plan takes about a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from edge_sdk.calibration.scenes.cameras import Mount, dashcam, roadside, sees_car
from edge_sdk.calibration.scenes.effects import Tricks
from edge_sdk.calibration.scenes.geometry import gap_m
from edge_sdk.calibration.scenes.incidents import SCENARIOS, Incident, Scenario, make_incident
from edge_sdk.calibration.scenes.labels import CrashTimes, Gap, crash_times, crashed_cars, impact_mps, smallest_gap
from edge_sdk.calibration.scenes.physics import Car, Contact, Track, simulate
from edge_sdk.calibration.scenes.roads import Road, draw_road
from edge_sdk.calibration.scenes.streams import Rng, chance, stream, uniform
from edge_sdk.calibration.scenes.traffic import Stretch, fill, observer
from edge_sdk.clips import Light, SceneKind, View, Weather
from edge_sdk.errors import EdgeError

NEAR_MISS_M = 1.0
REFERENCE_ASPECT = 320 / 192
# Closer misses and softer contacts than these cannot be distinguished in a picture.
_NEAREST_MISS_M = 0.15
_SOFTEST_IMPACT_MPS = 1.0
# Share of crashes that get the mildest contact of their incident.
_MILD_SHARE = 0.12
_MOST_CARS = 11
_ATTEMPTS = 200


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a seed decides before any traffic is drawn."""

    view: View
    outcome: str
    ego_takes_part: bool
    light: Light
    weather: Weather
    duration_s: float
    incident_s: float


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Simulated traffic, and the camera that looks at it; its outcome is unchecked."""

    seed: int
    conditions: Conditions
    scenario: str
    road: Road
    cars: tuple[Car, ...]
    ego: int | None
    track: Track
    mount: Mount


@dataclass(frozen=True, kw_only=True)
class ScenePlan(Staged):
    """A scene that can be drawn: conditions, cars, what they did, the camera and the labels.

    `tricks` are effects on the camera and its file; if they cut, the pictures before the cut show the scene `before`.
    """

    kind: SceneKind
    times: CrashTimes | None
    gap: Gap | None
    ego_involved: bool
    tricks: Tricks | None = None
    before: ScenePlan | None = None


def draw_conditions(seed: int) -> Conditions:
    """Draw the conditions of a seed."""
    rng = stream(seed, "conditions")
    duration = round(uniform(rng, 6.0, 10.0), 1)
    # Most clips show the aftermath, some end right after the incident.
    late = chance(rng, 0.15)
    low, high = (duration - 1.5, duration - 0.5) if late else (1.3, duration - 1.7)
    return Conditions(
        view="dashcam" if chance(rng, 0.5) else "roadside",
        outcome=str(rng.choice(["crash", "near_miss", "normal"], p=[0.45, 0.30, 0.25])),
        ego_takes_part=chance(rng, 0.55),
        light=("day", "dusk", "night")[int(rng.choice(3, p=[0.58, 0.15, 0.27]))],
        weather=("clear", "rain", "fog")[int(rng.choice(3, p=[0.68, 0.22, 0.10]))],
        duration_s=duration,
        incident_s=uniform(rng, low, high),
    )


def plan_scene(seed: int) -> ScenePlan:
    """Plan the scene of a seed; the same seed always gives the same plan."""
    conditions = draw_conditions(seed)
    for attempt in range(_ATTEMPTS):
        plan = _attempt(seed, conditions, stream(seed, f"attempt {attempt}"))
        if plan is not None:
            return plan
    raise EdgeError(f"seed {seed}: no traffic for {conditions} in {_ATTEMPTS} attempts; use another seed")


def _attempt(seed: int, conditions: Conditions, rng: Rng) -> ScenePlan | None:
    name = _scenario_name(rng, conditions)
    road, incident = draw_incident(rng, SCENARIOS[name], conditions)
    severity = search_severity(rng, incident, conditions, road)
    if severity is None:
        return None
    actors = incident.stage(severity)
    ego: int | None = None
    cars = list(actors)
    if conditions.view == "dashcam":
        ego = (1 if name in ("crossing", "left_turn") and chance(rng, 0.3) else 0) if conditions.ego_takes_part else 2
        if ego == 2:
            cars.append(observer(rng, road, incident, actors, name))
    mount = place_camera(rng, road, incident, cars, ego)
    stretch = seen_stretch(incident, cars, ego, conditions)
    cars += fill(rng, road, incident, cars, stretch, _MOST_CARS - len(cars), name)
    if starts_overlap(cars):
        return None
    staged = Staged(
        seed=seed,
        conditions=conditions,
        scenario=name,
        road=road,
        cars=tuple(cars),
        ego=ego,
        track=simulate(cars, conditions.duration_s, road.grip),
        mount=mount,
    )
    return accept(staged, _shows, first_kind)


def draw_incident(rng: Rng, scenario: Scenario, conditions: Conditions) -> tuple[Road, Incident]:
    """Draw a road that a scenario can happen on, and the two cars of its conflict."""
    has_crossing = chance(rng, 0.4) if scenario.crossing is None else scenario.crossing
    road = draw_road(rng, crossing=has_crossing, fewest_lanes=scenario.fewest_lanes, wet=conditions.weather == "rain")
    if scenario.parking:
        road = replace(road, shoulder_m=uniform(rng, 2.3, 2.9))
    if not scenario.median:
        road = replace(road, median_m=0.0)
    return road, make_incident(scenario, rng, road, conditions.incident_s)


def _scenario_name(rng: Rng, conditions: Conditions) -> str:
    if conditions.outcome == "normal" and chance(rng, 0.35):
        return "cruise"
    names = list(SCENARIOS)
    return names[int(rng.choice(len(names), p=[SCENARIOS[name].share for name in names]))]


def search_severity(
    rng: Rng, incident: Incident, conditions: Conditions, road: Road, mild_share: float = _MILD_SHARE
) -> float | None:
    """Search for a severity with the two actors alone on the road; for `mild_share` of crashes, the mildest contact."""

    def gap(severity: float) -> float:
        cars = incident.stage(severity)
        track = simulate(cars, min(conditions.duration_s, conditions.incident_s + 2.5), road.grip)
        if track.contacts:
            return 0.0
        found = smallest_gap(track, [car.vehicle.outline for car in cars], 60.0)
        return math.inf if found is None else found.gap_m

    if conditions.outcome == "normal":
        severity = uniform(rng, 0.0, 0.3)
        return severity if gap(severity) >= NEAR_MISS_M else None
    if conditions.outcome == "crash" and not chance(rng, mild_share):
        severity = uniform(rng, 0.75, 1.0)
        return severity if gap(severity) == 0.0 else None
    return _bisect(gap, want_contact=conditions.outcome == "crash", aim_m=uniform(rng, 0.3, 0.9))


def _bisect(gap: Callable[[float], float], want_contact: bool, aim_m: float) -> float | None:
    """The mildest crash, or a near miss with a gap around `aim_m`."""
    low, high = 0.0, 1.0
    if gap(high) > 0.0:
        return None
    for _ in range(7):
        middle = (low + high) / 2
        found = gap(middle)
        if not want_contact and 0.15 < found < 0.95 and abs(found - aim_m) < 0.3:
            return middle
        low, high = (low, middle) if found < (1e-9 if want_contact else aim_m) else (middle, high)
    return high if want_contact else None


def place_camera(rng: Rng, road: Road, incident: Incident, cars: list[Car], ego: int | None) -> Mount:
    """Draw the camera: in the ego car, or on a pole near the incident."""
    if ego is not None:
        return dashcam(rng, ego, cars[ego], REFERENCE_ASPECT)
    return roadside(rng, (incident.x_m, incident.y_m), road.half_m, road.cross_half_m, REFERENCE_ASPECT)


def seen_stretch(incident: Incident, cars: list[Car], ego: int | None, conditions: Conditions) -> Stretch:
    """The piece of road that is or will come into view."""
    if ego is None:
        return Stretch(incident.x_m - 110.0, incident.x_m + 110.0)
    x, _, yaw = cars[ego].driver.start_pose()
    reach = 70.0 + cars[ego].driver.start_mps * conditions.duration_s
    ends = sorted((x - 25.0 * math.cos(yaw), x + reach * math.cos(yaw)))
    return Stretch(min(ends[0], x - 40.0), max(ends[1], x + 40.0))


def starts_overlap(cars: list[Car]) -> bool:
    """Whether two cars start in one place, closer than 0.3 m; a cheap test of distances comes first."""
    poses = [car.driver.start_pose() for car in cars]
    for i, (xi, yi, _) in enumerate(poses):
        for j, (xj, yj, _) in enumerate(poses[:i]):
            reach = (cars[i].vehicle.length_m + cars[j].vehicle.length_m) / 2 + 0.3
            if abs(xi - xj) < reach and abs(yi - yj) < reach and _boxes_touch(cars[i], cars[j]):
                return True
    return False


def _boxes_touch(a: Car, b: Car) -> bool:
    poses = [np.array(car.driver.start_pose()) for car in (a, b)]
    return bool(gap_m(poses[0], a.vehicle.outline, poses[1], b.vehicle.outline) < 0.3)


def accept(
    staged: Staged, shows: Callable[[Staged, list[float]], bool], kind: Callable[[Staged], SceneKind]
) -> ScenePlan | None:
    """The plan, if the physics have the wanted outcome and the camera sees it; None otherwise.

    `shows` tells whether the camera sees what it must at the given times; `kind` gives the family's kind of the scene.
    """
    conditions, track, ego = staged.conditions, staged.track, staged.ego
    outlines = [car.vehicle.outline for car in staged.cars]
    times, gap = crash_times(track, outlines), smallest_gap(track, outlines)
    if not _outcome_fits(conditions, track, gap) or not shows(staged, list(_watch_times(conditions, times, gap))):
        return None
    involved = ego is not None and (ego in crashed_cars(track) if times else ego in (0, 1))
    if times is not None and ego is not None and conditions.ego_takes_part != involved:
        return None
    return ScenePlan(
        seed=staged.seed,
        conditions=conditions,
        scenario=staged.scenario,
        road=staged.road,
        cars=staged.cars,
        ego=ego,
        track=track,
        mount=staged.mount,
        kind=kind(staged),
        times=times,
        gap=gap,
        ego_involved=involved,
    )


def _outcome_fits(conditions: Conditions, track: Track, gap: Gap | None) -> bool:
    """Whether the physics have the outcome that was drawn: between the two actors, in time, and hard or near enough."""
    if conditions.outcome == "crash":
        if not track.contacts:
            return False
        contact = track.contacts[0]
        if (contact.touch.first, contact.touch.second) != (0, 1) or impact_mps(track, contact) < _SOFTEST_IMPACT_MPS:
            return False
        return 0.9 <= contact.time_s <= conditions.duration_s - 0.4
    if track.contacts:
        return False
    if conditions.outcome == "near_miss":
        return gap is not None and gap.pair == (0, 1) and _NEAREST_MISS_M < gap.gap_m < NEAR_MISS_M and gap.time_s > 0.6
    return gap is None or gap.gap_m >= NEAR_MISS_M


def _watch_times(conditions: Conditions, times: CrashTimes | None, gap: Gap | None) -> Iterator[float]:
    """The times at which the camera has to see the incident."""
    at = conditions.incident_s
    if times is not None:
        at = times.crash_start_s
    elif gap is not None and conditions.outcome == "near_miss":
        at = gap.time_s
    yield max(at - 0.4, 0.0)
    yield at


def _shows(staged: Staged, moments: list[float]) -> bool:
    targets = [i for i in (0, 1) if i != staged.mount.car]
    poses = [staged.track.pose_at(at) for at in moments]
    return all(sees_car(staged.mount, staged.cars, pose, target) for pose in poses for target in targets)


def first_kind(staged: Staged) -> SceneKind:
    """The kind of a collision of two vehicles by how they touch first; without a contact, the drawn outcome."""
    if staged.track.contacts:
        return contact_kind(staged.cars, staged.track, staged.track.contacts[0])
    return "near_miss" if staged.conditions.outcome == "near_miss" else "normal"


def contact_kind(cars: tuple[Car, ...], track: Track, contact: Contact) -> SceneKind:
    """rear_end: headings within 35 degrees and the contact at one car's rear bumper; every other contact is side."""
    pose = track.pose_at(contact.time_s - 0.02)
    pair = contact.touch.first, contact.touch.second
    turn = math.remainder(float(pose[pair[0], 2] - pose[pair[1], 2]), 2 * math.pi)
    if abs(turn) > math.radians(35):
        return "side"
    for i, j in (pair, pair[::-1]):
        dx, dy = pose[j, 0] - pose[i, 0], pose[j, 1] - pose[i, 1]
        along = math.cos(pose[i, 2]) * dx + math.sin(pose[i, 2]) * dy
        if along > 0.85 * (cars[i].vehicle.length_m + cars[j].vehicle.length_m) / 2:
            return "rear_end"
    return "side"
