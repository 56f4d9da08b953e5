"""Plans a scene of the soft family: traffic of the first family, with contacts that are hardest to recognise.

Two forms are staged, in shares that do not depend on the outcome. A *brush*: the contact is slow, and afterwards both
cars roll on as if nothing had happened. An *aftermath*: the camera does not see both cars when they meet, only what
follows. Near misses and mild drives are filmed in the same way. The family is for students that rely on a plain
contact, and miss crashes that show none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edge_sdk.calibration.scenes.broad_plan import pick
from edge_sdk.calibration.scenes.cameras import FEWEST_PIXELS, Mount, roadside, sees_car
from edge_sdk.calibration.scenes.incidents import SCENARIOS, Incident
from edge_sdk.calibration.scenes.labels import impact_mps
from edge_sdk.calibration.scenes.physics import Car, Track, simulate
from edge_sdk.calibration.scenes.plan import (
    REFERENCE_ASPECT,
    Conditions,
    ScenePlan,
    Staged,
    accept,
    draw_incident,
    first_kind,
    place_camera,
    search_severity,
    seen_stretch,
    starts_overlap,
)
from edge_sdk.calibration.scenes.roads import Road
from edge_sdk.calibration.scenes.search import first_plan
from edge_sdk.calibration.scenes.streams import Rng, chance, stream, uniform
from edge_sdk.calibration.scenes.traffic import fill, observer

FIRST_SOFT_SUITE_SEED, SOFT_SUITE_SIZE = 29_000_000, 200
OUTCOME_SHARES = {"crash": 0.45, "near_miss": 0.33, "normal": 0.22}
BRUSH_SHARES = {"lane_drift": 0.34, "cut_in": 0.26, "lead_brake": 0.20, "stopped_queue": 0.12, "pull_out": 0.08}
AFTERMATH_SHARES = {"lead_brake": 0.28, "stopped_queue": 0.22, "crossing": 0.30, "left_turn": 0.20}
_AFTERMATH_SHARE = 0.35
_LIGHT_SHARES = {"day": 0.48, "dusk": 0.15, "night": 0.37}
_WEATHER_SHARES = {"clear": 0.62, "rain": 0.24, "fog": 0.14}
# A brush: the highest impact speed of its two parties, how hard they brake afterwards, and how far they then steer.
_FASTEST_BRUSH_MPS, _BRUSH_BRAKE_MPS2, _BRUSH_STEER_RAD = 6.0, 1.0, 0.03
# Where one car runs into the other, the mildest contact is a brush; a car that drifts over must drift far to be felt.
_MILD_SHARES = {"lead_brake": 0.7, "stopped_queue": 0.7, "pull_out": 0.5}
# Least width in pixels of a 320 pixel wide image, a third more than elsewhere: nobody can recognise a small brush.
_FEWEST_BRUSH_PX = 32.0
# The times after the contact at which an aftermath must be seen.
_SEEN_AFTER_S = (0.6, 1.2)
# How far down the road from the incident a pole camera looks.
_ASIDE_M = (8.0, 22.0)
_NOWHERE_M = 1e6
_MOST_CARS = 11
# Few attempts per scenario, since some conditions have no traffic for it; each attempt tries so many camera places.
_ATTEMPTS, _ROUNDS, _PLACES = 12, 100, 8


def soft_suite_seeds() -> list[int]:
    """The seeds kept for judging: never trained on, and the first of their range, so that none was hand-picked."""
    return list(range(FIRST_SOFT_SUITE_SEED, FIRST_SOFT_SUITE_SEED + SOFT_SUITE_SIZE))


def draw_soft_conditions(seed: int) -> Conditions:
    """Draw the conditions of a seed."""
    rng = stream(seed, "soft conditions")
    duration = round(uniform(rng, 6.0, 10.0), 1)
    light, weather = pick(rng, _LIGHT_SHARES), pick(rng, _WEATHER_SHARES)
    return Conditions(
        view="dashcam" if chance(rng, 0.5) else "roadside",
        outcome=pick(rng, OUTCOME_SHARES),
        ego_takes_part=chance(rng, 0.35) and not shows_aftermath(seed),
        light=("day", "dusk", "night")[list(_LIGHT_SHARES).index(light)],
        weather=("clear", "rain", "fog")[list(_WEATHER_SHARES).index(weather)],
        duration_s=duration,
        incident_s=uniform(rng, 1.3, duration - 1.9),
    )


def shows_aftermath(seed: int) -> bool:
    """Whether a seed's camera sees only what follows the contact; otherwise a brush is staged."""
    return chance(stream(seed, "soft view"), _AFTERMATH_SHARE)


def draw_soft_scenario(seed: int, turn: int = 0) -> str:
    """Draw what a seed stages; `turn` counts how often no traffic was found for the drawn scenario."""
    shares = AFTERMATH_SHARES if shows_aftermath(seed) else BRUSH_SHARES
    return pick(stream(seed, f"soft scenario {turn}"), shares)


def plan_soft(seed: int) -> ScenePlan:
    """Plan the soft scene of a seed; the same seed always gives the same plan."""
    conditions = draw_soft_conditions(seed)
    return first_plan(seed, conditions, "soft", draw_soft_scenario, _attempt, rounds=_ROUNDS, attempts=_ATTEMPTS)


def _attempt(seed: int, conditions: Conditions, name: str, rng: Rng) -> ScenePlan | None:
    road, incident = draw_incident(rng, SCENARIOS[name], conditions)
    after = shows_aftermath(seed)
    if not after:
        incident = _brush(rng, incident)
    mild_share = 0.12 if after else _MILD_SHARES.get(name, 0.0)
    severity = search_severity(rng, incident, conditions, road, mild_share)
    if severity is None:
        return None
    view = _view(rng, road, incident, incident.stage(severity), conditions, name, after)
    if view is None:
        return None
    cars, ego, mount = view
    stretch = seen_stretch(incident, cars, ego, conditions)
    cars += fill(rng, road, incident, cars, stretch, _MOST_CARS - len(cars), name)
    if starts_overlap(cars):
        return None
    track = simulate(cars, conditions.duration_s, road.grip)
    staged = Staged(
        seed=seed, conditions=conditions, scenario=name, road=road, cars=tuple(cars), ego=ego, track=track, mount=mount
    )
    return accept(staged, _shows_aftermath if after else _shows_brush, first_kind)


def _view(
    rng: Rng, road: Road, incident: Incident, actors: tuple[Car, Car], conditions: Conditions, name: str, after: bool
) -> tuple[list[Car], int | None, Mount] | None:
    """The cast, the number of the car with the camera, and the camera; None if no camera place shows what it should.

    This is tried with the cast alone, which is fast; `accept` checks it with the whole traffic.
    """
    at_s, track = conditions.incident_s, None
    ego = (0 if conditions.ego_takes_part else 2) if conditions.view == "dashcam" else None
    for _ in range(_PLACES):
        cars = [*actors, observer(rng, road, incident, actors, name)] if ego == 2 else list(actors)
        aside = after and ego is None
        mount = _aside(rng, road, incident) if aside else place_camera(rng, road, incident, cars, ego)
        if track is None or ego == 2:
            track = simulate(cars, at_s + _SEEN_AFTER_S[-1] + 0.1, road.grip)
        if not after and not _slow(track):
            return None
        shown = _follows(mount, cars, track, at_s) if after else _sees_both(mount, cars, track, at_s, _FEWEST_BRUSH_PX)
        if shown:
            return cars, ego, mount
    return None


def _brush(rng: Rng, incident: Incident) -> Incident:
    """The incident, with drivers who hardly react to a contact."""
    habits = [(uniform(rng, 0.0, _BRUSH_BRAKE_MPS2), uniform(rng, -1, 1) * _BRUSH_STEER_RAD) for _ in range(2)]

    def stage(severity: float) -> tuple[Car, Car]:
        first, second = (
            replace(car, driver=replace(car.driver, habits=replace(car.driver.habits, **_after(*habit))))
            for car, habit in zip(incident.stage(severity), habits, strict=True)
        )
        return first, second

    return replace(incident, stage=stage)


def _after(brake_mps2: float, steer_rad: float) -> dict[str, float]:
    return {"crash_brake_mps2": brake_mps2, "crash_steer_rad": steer_rad}


def _aside(rng: Rng, road: Road, incident: Incident) -> Mount:
    """A pole that looks past the incident, at a stretch of the road where the cars may come to rest."""
    aside = uniform(rng, *_ASIDE_M) * (1 if chance(rng, 0.7) else -1)
    target = incident.x_m + aside, incident.y_m
    return roadside(rng, target, road.half_m, road.cross_half_m, REFERENCE_ASPECT)


def _sees_both(mount: Mount, cars: Sequence[Car], track: Track, at_s: float, fewest_px: float = FEWEST_PIXELS) -> bool:
    pose = track.pose_at(at_s)
    return all(sees_car(mount, cars, pose, car, fewest_px) for car in (0, 1) if car != mount.car)


def _misses_one(mount: Mount, cars: Sequence[Car], track: Track, at_s: float) -> bool:
    """Whether one of the two is out of view; hidden behind the other does not count, as that shows where they meet."""
    for car, other in ((0, 1), (1, 0)):
        pose = track.pose_at(at_s)
        pose[other, :2] = _NOWHERE_M
        if not sees_car(mount, cars, pose, car):
            return True
    return False


def _follows(mount: Mount, cars: Sequence[Car], track: Track, at_s: float) -> bool:
    """Whether both are seen after a moment, but one of them not at that moment."""
    later = [at_s + shift for shift in _SEEN_AFTER_S]
    if later[-1] > track.duration_s or not _misses_one(mount, cars, track, at_s):
        return False
    return all(_sees_both(mount, cars, track, moment) for moment in later)


def _slow(track: Track) -> bool:
    """Whether nothing touches, or only slowly."""
    return not track.contacts or impact_mps(track, track.contacts[0]) <= _FASTEST_BRUSH_MPS


def _shows_brush(staged: Staged, moments: list[float]) -> bool:
    """Whether both are seen as they meet, and any contact is slow."""
    track = staged.track
    return _slow(track) and all(
        _sees_both(staged.mount, staged.cars, track, at_s, _FEWEST_BRUSH_PX) for at_s in moments
    )


def _shows_aftermath(staged: Staged, moments: list[float]) -> bool:
    """Whether only what follows the decisive moment, the last of `moments`, is seen."""
    return _follows(staged.mount, staged.cars, staged.track, moments[-1])
