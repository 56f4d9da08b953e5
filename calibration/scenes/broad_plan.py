"""Plans a scene of the broad family: more kinds of crashes, and more events that only look like crashes.

It works like `plan`: conditions from the seed, then traffic whose physics have the wanted outcome. The shares of all
kinds are data (`BROAD_SCENARIOS` and `CALM_SHARES` of `broad_incidents`, `EFFECT_SHARES` of `effects`, and those
below). Only severity distinguishes crashes, near misses and scenes that stay mild.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from edge_sdk.calibration.scenes.bodies import BODY_KINDS
from edge_sdk.calibration.scenes.broad_incidents import BROAD_SCENARIOS, CALM_SHARES, draw_rail
from edge_sdk.calibration.scenes.cameras import (
    FEWEST_PIXELS,
    Jolt,
    Mount,
    box_points,
    camera_pose,
    project,
    sees_car,
)
from edge_sdk.calibration.scenes.effects import Tricks, draw_tricks
from edge_sdk.calibration.scenes.geometry import Floats
from edge_sdk.calibration.scenes.incidents import SCENARIOS, Incident
from edge_sdk.calibration.scenes.labels import CrashTimes
from edge_sdk.calibration.scenes.physics import Car, Track, simulate
from edge_sdk.calibration.scenes.plan import (
    Conditions,
    ScenePlan,
    Staged,
    accept,
    contact_kind,
    draw_conditions,
    draw_incident,
    place_camera,
    plan_scene,
    search_severity,
    seen_stretch,
    starts_overlap,
)
from edge_sdk.calibration.scenes.search import first_plan
from edge_sdk.calibration.scenes.streams import Rng, chance, stream, uniform
from edge_sdk.calibration.scenes.traffic import fill, observer
from edge_sdk.clips import SceneKind

OUTCOME_SHARES = {"crash": 0.42, "near_miss": 0.24, "normal": 0.34}
_LIGHT_SHARES = {"day": 0.55, "dusk": 0.15, "night": 0.30}
_WEATHER_SHARES = {"clear": 0.60, "rain": 0.32, "fog": 0.08}
_RAIL_SHARE = 0.25
_MOST_CARS = 11
# For a few conditions no traffic is found for the drawn scenario; then another one is staged.
_ATTEMPTS, _ROUNDS = 150, 5
# Least widths in pixels of a 320 pixel wide image; a guard rail is always wide enough.
_FEWEST_PX = {"pedestrian": 8.0, "cyclist": 12.0, "object": 12.0}
_ACROSS = ("zebra", "cyclist_crossing")


def draw_broad_conditions(seed: int) -> Conditions:
    """Draw the conditions of a seed."""
    rng = stream(seed, "broad conditions")
    duration = round(uniform(rng, 6.0, 10.0), 1)
    late = chance(rng, 0.15)
    low, high = (duration - 1.5, duration - 0.5) if late else (1.3, duration - 1.7)
    return Conditions(
        view="dashcam" if chance(rng, 0.55) else "roadside",
        outcome=pick(rng, OUTCOME_SHARES),
        ego_takes_part=chance(rng, 0.6),
        light=("day", "dusk", "night")[list(_LIGHT_SHARES).index(pick(rng, _LIGHT_SHARES))],
        weather=("clear", "rain", "fog")[list(_WEATHER_SHARES).index(pick(rng, _WEATHER_SHARES))],
        duration_s=duration,
        incident_s=uniform(rng, low, high),
    )


def pick(rng: Rng, shares: dict[str, float]) -> str:
    """Draw a name by its share."""
    return str(rng.choice(list(shares), p=np.array(list(shares.values())) / sum(shares.values())))


def plan_broad(seed: int) -> ScenePlan:
    """Plan the broad scene of a seed; the same seed always gives the same plan."""
    conditions = draw_broad_conditions(seed)
    plan = first_plan(seed, conditions, "broad", draw_scenario, _attempt, rounds=_ROUNDS, attempts=_ATTEMPTS)
    return _with_tricks(plan)


def draw_scenario(seed: int, turn: int = 0) -> str:
    """Draw what a seed stages; not anew for every attempt, or kinds that are easy to stage would be more frequent.

    `turn` counts how often no traffic was found for the drawn scenario.
    """
    rng = stream(seed, f"broad scenario {turn}")
    if draw_broad_conditions(seed).outcome == "normal" and chance(rng, sum(CALM_SHARES.values())):
        return pick(rng, CALM_SHARES)
    return pick(rng, {name: scenario.share for name, scenario in BROAD_SCENARIOS.items()})


def _attempt(seed: int, conditions: Conditions, name: str, rng: Rng) -> ScenePlan | None:
    road, incident = draw_incident(rng, BROAD_SCENARIOS[name], conditions)
    severity = search_severity(rng, incident, conditions, road)
    if severity is None:
        return None
    actors = incident.stage(severity)
    ego: int | None = None
    cars = list(actors)
    layout = "crossing" if name in _ACROSS and road.cross_lanes else name
    if conditions.view == "dashcam":
        ego = 0 if conditions.ego_takes_part else 2
        if ego == 2:
            cars.append(observer(rng, road, incident, actors, layout))
    cars += incident.extras
    mount = place_camera(rng, road, incident, cars, ego)
    if not road.cross_lanes and not name.startswith("skid") and chance(rng, _RAIL_SHARE):
        cars.append(draw_rail(rng, road))
    stretch = seen_stretch(incident, cars, ego, conditions)
    vehicles = [car for car in cars if car.vehicle.kind not in BODY_KINDS]
    others = fill(rng, road, incident, vehicles, stretch, _MOST_CARS - len(cars), layout)
    cars += [car for car in others if name in SCENARIOS or not _in_the_way(car, incident, actors)]
    if starts_overlap(cars):
        return None
    track = simulate(cars, conditions.duration_s, road.grip)
    staged = Staged(
        seed=seed, conditions=conditions, scenario=name, road=road, cars=tuple(cars), ego=ego, track=track, mount=mount
    )
    return accept(staged, _shows, broad_kind)


def _in_the_way(car: Car, incident: Incident, actors: tuple[Car, Car]) -> bool:
    """Whether a bystander starts in the first actor's lane, between it and the incident."""
    x, y, _ = car.driver.start_pose()
    first, second = (actor.driver.start_pose() for actor in actors)
    return abs(y - first[1]) < 2.0 and first[0] - 2.0 < x < max(incident.x_m + 15.0, second[0] + 10.0)


def _shows(staged: Staged, moments: list[float]) -> bool:
    """Whether the camera sees what the scene is about; in a cruise there is nothing that it must see."""
    if staged.scenario == "passing":
        return any(_covers(staged.mount, staged.cars, staged.track, at) for at in _span(staged.conditions))
    return staged.scenario == "cruise" or all(_visible(staged.mount, staged.cars, staged.track, at) for at in moments)


def _visible(mount: Mount, cars: tuple[Car, ...], track: Track, at_s: float) -> bool:
    pose = track.pose_at(at_s)
    return all(
        sees_car(mount, cars, pose, target, _FEWEST_PX.get(cars[target].vehicle.kind, FEWEST_PIXELS))
        for target in (0, 1)
        if target != mount.car and cars[target].vehicle.kind != "barrier"
    )


def _span(conditions: Conditions) -> list[float]:
    """Times around the incident."""
    return [float(at) for at in np.arange(max(conditions.incident_s - 2.0, 0.0), conditions.duration_s, 0.4)]


def _covers(mount: Mount, cars: tuple[Car, ...], track: Track, at_s: float) -> bool:
    """Whether one of the two actors and a parked car cover each other in the picture."""
    pose, camera = track.pose_at(at_s), camera_pose(mount, track.pose_at(at_s), Jolt())
    boxes = []
    for i, car in enumerate(cars):
        image, depth = project(camera, mount, box_points(pose[i], car))
        boxes.append(np.concatenate([image.min(axis=0), image.max(axis=0)]) if depth.min() > 1.0 else None)
    parked = [i for i, car in enumerate(cars) if math.isinf(car.driver.hold_until_s) and i not in (0, 1, mount.car)]
    return any(_overlap(boxes[actor], boxes[other]) for actor in (0, 1) if actor != mount.car for other in parked)


def _overlap(first: Floats | None, second: Floats | None) -> bool:
    """Whether two boxes (x0, y0, x1, y1) overlap in a visible part of the picture of some size."""
    if first is None or second is None:
        return False
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    return bool((np.clip(high, 0, 1) - np.clip(low, 0, 1) > 0.02).all())


def broad_kind(staged: Staged) -> SceneKind:
    """The kind of the collision by who took part; between two vehicles, by their headings at the contact."""
    cars, track = staged.cars, staged.track
    if not track.contacts:
        return "near_miss" if staged.conditions.outcome == "near_miss" else "normal"
    contact = track.contacts[0]
    kinds = {cars[i].vehicle.kind for i in (contact.touch.first, contact.touch.second)}
    by_party: dict[str, SceneKind] = {"pedestrian": "pedestrian", "cyclist": "cyclist", "object": "debris"}
    for party, kind in by_party.items():
        if party in kinds:
            return kind
    if staged.scenario.startswith("skid"):
        return "loss_of_control"
    pose = track.pose_at(contact.time_s - 0.02)
    turn = math.remainder(float(pose[contact.touch.first, 2] - pose[contact.touch.second, 2]), 2 * math.pi)
    return "head_on" if abs(turn) > math.radians(145) else contact_kind(cars, track, contact)


def _with_tricks(plan: ScenePlan) -> ScenePlan:
    """The plan with its effects; a cut shows a normal drive of the first family before it."""
    conditions, rng = plan.conditions, stream(plan.seed, "tricks")
    tricks = draw_tricks(rng, conditions.view, conditions.duration_s, conditions.incident_s)
    before = None
    if tricks.cut_s is not None:
        seed = int(rng.integers(1 << 40, 1 << 41))
        while draw_conditions(seed).outcome != "normal":
            seed += 1
        before = plan_scene(seed)
    return replace(plan, tricks=tricks, before=before, times=_seen_times(plan.times, tricks))


def _seen_times(times: CrashTimes | None, tricks: Tricks) -> CrashTimes | None:
    """The times with the pre-crash start after the cut: nothing can be foreseen before it."""
    if times is None or tricks.cut_s is None:
        return times
    return replace(times, pre_crash_start_s=max(times.pre_crash_start_s, min(tricks.cut_s, times.crash_start_s)))
