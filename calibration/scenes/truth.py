"""Who hit whom and why, taken from the plan of a scene: its drivers' orders and the physics that follow from them.

The cause names the order that led to the crash: each generator of incidents gives one party an order that a careful
driver would not follow, and severity only says how far it goes. Where two causes share a generator, the plan or the
motion before the contact decides between them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from edge_sdk.calibration.scenes import GENERATOR_VERSION
from edge_sdk.calibration.scenes.geometry import gap_m
from edge_sdk.calibration.scenes.physics import RECORD_S, Contact
from edge_sdk.calibration.scenes.plan import ScenePlan, plan_scene
from edge_sdk.clips import (
    TRUTHS_NAME,
    Cause,
    Effect,
    Party,
    SceneRecord,
    SceneTruth,
    TruthLine,
    read_record,
    read_truths,
)
from edge_sdk.errors import ConfigError
from edge_sdk.files import write_bytes

# With a smaller time gap to the vehicle ahead, no driver of ordinary reaction can respond to its hard braking.
CLOSE_HEADWAY_S = 0.7
_PARTIES: dict[str, Party] = {
    "truck": "truck",
    "bus": "bus",
    "pedestrian": "pedestrian",
    "cyclist": "cyclist",
    "barrier": "barrier",
    "object": "object",
}
# The scenario's cause, and which of the two actors (0 or 1) is responsible for it.
_CAUSES: dict[str, tuple[Cause, int]] = {
    "lead_brake": ("late_reaction", 0),
    "stopped_queue": ("standing_ahead", 0),
    "cut_in": ("unsafe_lane_change", 1),
    "lane_drift": ("lane_drift", 1),
    "pull_out": ("pulled_out", 1),
    "crossing": ("no_right_of_way", 1),
    "left_turn": ("turned_across", 1),
    "wrong_lane": ("crossed_centre_line", 1),
    "overtaking": ("unsafe_overtaking", 1),
    "step_out": ("pedestrian_stepped_out", 1),
    "zebra": ("pedestrian_not_given_way", 0),
    "cyclist_crossing": ("cyclist_no_right_of_way", 1),
    "cyclist_ahead": ("passed_too_closely", 0),
    "skid": ("abrupt_steering", 0),
    "skid_parked": ("abrupt_steering", 0),
    "lost_load": ("object_on_road", 0),
}
_STAGED_EFFECTS: dict[str, tuple[Effect, ...]] = {"lone_brake": ("hard_braking",), "passing": ("parked_overlap",)}
_CROSSING = ("crossing", "left_turn", "step_out", "zebra", "cyclist_crossing")


def scene_truth(plan: ScenePlan) -> SceneTruth:
    """The truth of a plan; without parties and cause where nothing touched."""
    effects = () if plan.tricks is None else plan.tricks.effects + _STAGED_EFFECTS.get(plan.scenario, ())
    if not plan.track.contacts:
        return SceneTruth(effects=effects)
    striker, struck = _striker(plan, plan.track.contacts[0])
    cause, culprit = _cause(plan)
    return SceneTruth(
        striker=party(plan, striker),
        struck=party(plan, struck),
        crossing=plan.scenario in _CROSSING and plan.kind in ("side", "pedestrian", "cyclist"),
        cause=cause,
        culprit=party(plan, culprit),
        effects=effects,
    )


def _cause(plan: ScenePlan) -> tuple[Cause, int]:
    """The cause, and the actor responsible for it."""
    cause, culprit = _CAUSES[plan.scenario]
    if cause == "late_reaction" and _headway_s(plan) < CLOSE_HEADWAY_S:
        return "following_too_closely", culprit
    if cause == "abrupt_steering" and plan.conditions.weather == "rain":
        return "slippery_road", culprit
    # Only one of the two was told to leave its line.
    if plan.scenario == "cyclist_ahead" and plan.cars[1].driver.shifts:
        return "cyclist_swerved", 1
    return cause, culprit


def party(plan: ScenePlan, car: int) -> Party:
    """The name of a car of the plan as a party."""
    return "ego-car" if car == plan.ego else _PARTIES.get(plan.cars[car].vehicle.kind, "car")


def _striker(plan: ScenePlan, contact: Contact) -> tuple[int, int]:
    """The pair of a contact; the first is the car whose own velocity points more towards the place of contact."""
    pair = contact.touch.first, contact.touch.second
    pose, velocity = plan.track.pose_at(contact.time_s), plan.track.velocity_at(contact.time_s - RECORD_S)
    place = np.array([contact.touch.x_m, contact.touch.y_m])
    ways = [place - pose[car, :2] for car in pair]
    towards = [
        float(velocity[car, :2] @ way) / max(float(np.hypot(*way)), 0.1) for car, way in zip(pair, ways, strict=True)
    ]
    return pair if towards[0] >= towards[1] else (pair[1], pair[0])


def _headway_s(plan: ScenePlan) -> float:
    """Bumper to bumper gap over the follower's speed when the car ahead starts to brake."""
    until = max(int(plan.track.contacts[0].time_s / RECORD_S), 1)
    at = int(np.argmax(plan.track.braking[:until, 1] > 0))
    outlines = [car.vehicle.outline for car in plan.cars[:2]]
    gap = float(gap_m(plan.track.pose[at, 0], outlines[0], plan.track.pose[at, 1], outlines[1]))
    return gap / max(float(np.hypot(*plan.track.velocity[at, 0, :2])), 0.1)


def truth_of(record: SceneRecord) -> SceneTruth:
    """The truth of a rendered scene: its record's, or that of its seed, planned again without rendering.

    A record's own truth belongs to the plan that was rendered. Raises ConfigError for a record of another generator
    version, and where the new plan differs from the record.
    """
    if isinstance(record.truth, SceneTruth):
        return record.truth
    if record.generator != GENERATOR_VERSION:
        raise ConfigError(
            f"scene {record.name} is of generator {record.generator!r}, this is {GENERATOR_VERSION!r}; render it again"
        )
    if not record.crash:
        return SceneTruth()
    plan = plan_scene(record.seed)
    _check_same(record, plan)
    return scene_truth(plan)


def _check_same(record: SceneRecord, plan: ScenePlan) -> None:
    """Raise ConfigError for a plan of other traffic than the record's, which other versions of mujoco may give."""
    start_s = None if plan.times is None else round(plan.times.crash_start_s, 3)
    pairs = {
        "kind": (record.kind, plan.kind),
        "scenario": (record.scenario, plan.scenario),
        "crash_start_s": (record.crash_start_s, start_s),
        "ego_involved": (record.ego_involved, plan.ego_involved),
    }
    if differing := {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}:
        expected = ", ".join(f"{name} {recorded}" for name, (recorded, _) in differing.items())
        found = ", ".join(f"{name} {planned}" for name, (_, planned) in differing.items())
        raise ConfigError(
            f"scene {record.name}: expected its seed to be planned as recorded, with {expected}, found {found}; other "
            f"versions of numpy or mujoco plan other traffic: render seed {record.seed} again with these libraries"
        )


def write_truths(
    folder: Path, on_progress: Callable[[int, int], None] | None = None, save_every: int = 100
) -> dict[str, SceneTruth]:
    """Write `truths.jsonl` of a folder of rendered scenes and return the truths by name.

    A crash costs a few tenths of a second; existing truths are kept, so that an interrupted run resumes. Raises
    ConfigError for a folder without records, and as `truth_of`.
    """
    found = read_truths(folder)
    paths = sorted(folder.glob("[!.]*.json"))
    if not paths:
        raise ConfigError(f"scene folder {folder} holds no scene record (*.json)")
    for done, record in enumerate(map(read_record, paths), start=1):
        if record.name not in found:
            found[record.name] = truth_of(record)
        if on_progress is not None:
            on_progress(done, len(paths))
        if done % save_every == 0:
            _save(folder, found)
    _save(folder, found)
    return found


def _save(folder: Path, found: dict[str, SceneTruth]) -> None:
    lines = [TruthLine(name=name, truth=truth) for name, truth in sorted(found.items())]
    write_bytes(folder / TRUTHS_NAME, msgspec.json.Encoder().encode_lines(lines))
