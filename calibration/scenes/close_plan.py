"""Plans a scene of the close family: incidents of the broad one, near enough for a model that sees 60 patches.

Parties are large in the picture, contacts are hard, light is good and bystanders are few, so that 140x84 pixels show
who hits whom. The family is for training and judging a small video LLM; students for real use learn from the other
families.
"""

from __future__ import annotations

import math
from dataclasses import replace

from edge_sdk.calibration.scenes.broad_incidents import BROAD_SCENARIOS
from edge_sdk.calibration.scenes.broad_plan import broad_kind, pick
from edge_sdk.calibration.scenes.cameras import Mount, dashcam, roadside, sees_car
from edge_sdk.calibration.scenes.incidents import Incident
from edge_sdk.calibration.scenes.labels import impact_mps
from edge_sdk.calibration.scenes.physics import Car, simulate
from edge_sdk.calibration.scenes.plan import (
    REFERENCE_ASPECT,
    Conditions,
    ScenePlan,
    Staged,
    accept,
    draw_incident,
    search_severity,
    seen_stretch,
    starts_overlap,
)
from edge_sdk.calibration.scenes.roads import Road
from edge_sdk.calibration.scenes.search import first_plan
from edge_sdk.calibration.scenes.streams import Rng, chance, stream, uniform
from edge_sdk.calibration.scenes.traffic import fill, observer

FIRST_CLOSE_SUITE_SEED, CLOSE_SUITE_SIZE = 19_000_000, 200
OUTCOME_SHARES = {"crash": 0.50, "near_miss": 0.12, "normal": 0.38}
# Shares among the scenes that stage a conflict; each kind gives its crashes one cause, or two that differ in distance.
CLOSE_SHARES = {
    "lead_brake": 0.14,
    "stopped_queue": 0.12,
    "pull_out": 0.10,
    "crossing": 0.16,
    "left_turn": 0.12,
    "wrong_lane": 0.12,
    "step_out": 0.13,
    "cyclist_crossing": 0.11,
}
# Among scenes of a normal outcome, the shares that stage no conflict; the rest stage one that stays mild.
CALM_SHARES = {"cruise": 0.25, "lone_brake": 0.10}
_LIGHT_SHARES = {"day": 0.8, "dusk": 0.2}
_WEATHER_SHARES = {"clear": 0.85, "rain": 0.15}
# Least widths in pixels of a 320 pixel wide image: about twice what the broad family asks for.
_FEWEST_PX = {"pedestrian": 14.0, "cyclist": 26.0}
_FEWEST_CAR_PX = 50.0
# Softer contacts hardly change how anybody moves.
_SOFTEST_MPS = 3.0
# The width in metres that a pole camera's picture spans at the incident, and a dashcam's field of view in degrees.
_ACROSS_M = (11.0, 19.0)
_DASHCAM_DEG = (52.0, 80.0)
_MOST_CARS = 5
# Few attempts, then another scenario: for some conditions no traffic is found for the drawn one.
_ATTEMPTS, _ROUNDS = 12, 40


def close_suite_seeds() -> list[int]:
    """The seeds kept for judging: never trained on, and the first of their range, so that none was hand-picked."""
    return list(range(FIRST_CLOSE_SUITE_SEED, FIRST_CLOSE_SUITE_SEED + CLOSE_SUITE_SIZE))


def draw_close_conditions(seed: int) -> Conditions:
    """Draw the conditions of a seed."""
    rng = stream(seed, "close conditions")
    duration = round(uniform(rng, 6.0, 7.5), 1)
    light, weather = pick(rng, _LIGHT_SHARES), pick(rng, _WEATHER_SHARES)
    return Conditions(
        view="dashcam" if chance(rng, 0.5) else "roadside",
        outcome=pick(rng, OUTCOME_SHARES),
        ego_takes_part=chance(rng, 0.75),
        light="dusk" if light == "dusk" else "day",
        weather="rain" if weather == "rain" else "clear",
        duration_s=duration,
        incident_s=uniform(rng, 1.5, duration - 1.7),
    )


def draw_close_scenario(seed: int, turn: int = 0) -> str:
    """Draw what a seed stages; `turn` counts how often no traffic was found for the drawn scenario."""
    rng = stream(seed, f"close scenario {turn}")
    if draw_close_conditions(seed).outcome == "normal" and chance(rng, sum(CALM_SHARES.values())):
        return pick(rng, CALM_SHARES)
    return pick(rng, CLOSE_SHARES)


def plan_close(seed: int) -> ScenePlan:
    """Plan the close scene of a seed; the same seed always gives the same plan."""
    conditions = draw_close_conditions(seed)
    return first_plan(seed, conditions, "close", draw_close_scenario, _attempt, rounds=_ROUNDS, attempts=_ATTEMPTS)


def _attempt(seed: int, conditions: Conditions, name: str, rng: Rng) -> ScenePlan | None:
    road, incident = draw_incident(rng, BROAD_SCENARIOS[name], conditions)
    severity = search_severity(rng, incident, conditions, road)
    if severity is None:
        return None
    actors = incident.stage(severity)
    ego: int | None = None
    cars = list(actors)
    layout = "crossing" if name == "cyclist_crossing" and road.cross_lanes else name
    if conditions.view == "dashcam":
        ego = 0 if conditions.ego_takes_part else 2
        if ego == 2:
            cars.append(observer(rng, road, incident, actors, layout))
    mount = _close_camera(rng, road, incident, cars, ego)
    stretch = seen_stretch(incident, cars, ego, conditions)
    cars += fill(rng, road, incident, cars, stretch, _MOST_CARS - len(cars), layout)
    if starts_overlap(cars):
        return None
    track = simulate(cars, conditions.duration_s, road.grip)
    staged = Staged(
        seed=seed, conditions=conditions, scenario=name, road=road, cars=tuple(cars), ego=ego, track=track, mount=mount
    )
    return accept(staged, _shows, broad_kind)


def _close_camera(rng: Rng, road: Road, incident: Incident, cars: list[Car], ego: int | None) -> Mount:
    """The usual cameras with a narrower view: through a windscreen, or from a pole that looks at the incident."""
    if ego is not None:
        mount = dashcam(rng, ego, cars[ego], REFERENCE_ASPECT)
        return replace(mount, fov_y_rad=_fov_y(math.radians(uniform(rng, *_DASHCAM_DEG))))
    mount = roadside(rng, (incident.x_m, incident.y_m), road.half_m, road.cross_half_m, REFERENCE_ASPECT)
    away_x, away_y = incident.x_m - mount.x_m, incident.y_m - mount.y_m
    away = math.hypot(away_x, away_y, mount.z_m)
    fov_x = 2 * math.atan(uniform(rng, *_ACROSS_M) / 2 / away)
    fov_y = _fov_y(fov_x)
    return replace(
        mount,
        yaw_rad=math.atan2(away_y, away_x) + 0.12 * fov_x * uniform(rng, -1, 1),
        pitch_rad=-math.atan2(mount.z_m - 0.7, math.hypot(away_x, away_y)) + 0.12 * fov_y * uniform(rng, -1, 1),
        fov_y_rad=fov_y,
    )


def _fov_y(fov_x_rad: float) -> float:
    return 2 * math.atan(math.tan(fov_x_rad / 2) / REFERENCE_ASPECT)


def _shows(staged: Staged, moments: list[float]) -> bool:
    """Whether a crash is hard enough to be seen, and both actors are large; a cruise need not show anything."""
    track, cars = staged.track, staged.cars
    if track.contacts and impact_mps(track, track.contacts[0]) < _SOFTEST_MPS:
        return False
    if staged.scenario in CALM_SHARES:
        return True
    targets = [number for number in (0, 1) if number != staged.mount.car]
    return all(
        sees_car(
            staged.mount,
            cars,
            track.pose_at(at_s),
            target,
            _FEWEST_PX.get(cars[target].vehicle.kind, _FEWEST_CAR_PX),
        )
        for at_s in moments
        for target in targets
    )
