"""CrashChat's six answers for a rendered scene, from its truth.

A language model is tuned and scored on rendered scenes with these answers. The formats and the words for parties are
CrashChat's. The sentences about causes and prevention are this SDK's own: one sentence and one paragraph per cause,
because in CrashChat's annotations, too, the paragraph follows from the cause in 98 of 100 cases. No answer mentions
left or right, because half of the scenes are mirrored.
"""

from __future__ import annotations

from edge_sdk.clips import Cause, Party, SceneRecord, SceneTruth
from edge_sdk.errors import ConfigError
from edge_sdk.tasks import TASKS
from edge_sdk.types import Value

_SHORTEST_S = 0.1


class Window(Value, frozen=True, kw_only=True):
    """The part of a clip that the model sees, in seconds of the clip; times in answers count from `start_s`."""

    start_s: float
    end_s: float


def scene_answers(record: SceneRecord, truth: SceneTruth, window: Window | None = None) -> dict[str, str]:
    """Return the answer to every task that has one, by task id: six for a crash, four otherwise.

    A window that ends before the crash starts has no crash. Raises `ConfigError` for a window that begins after the
    crash starts (the crash is then neither wholly shown nor absent) and for a crash without a cause.
    """
    shown = window or Window(start_s=0.0, end_s=record.duration_s)
    start_s, end_s = record.crash_start_s, record.crash_end_s
    if not record.crash or start_s is None or start_s >= shown.end_s:
        return {task.id: task.negative for task in TASKS if task.negative is not None}
    if start_s < shown.start_s:
        raise ConfigError(f"scene {record.name}: the window starts at {shown.start_s} s, after the crash ({start_s} s)")
    if truth.cause is None or truth.culprit is None:
        raise ConfigError(f"scene {record.name}: a crash without a cause; write the truths: edge-sdk scenes truth")
    foreseen_s = start_s if record.pre_crash_start_s is None else record.pre_crash_start_s
    first = round(start_s - shown.start_s, 1)
    last = max(round(min(end_s or shown.end_s, shown.end_s) - shown.start_s, 1), first + _SHORTEST_S)
    return {
        "recognition": "Yes",
        "description": describe(record, truth),
        "cause": cause_sentence(truth.cause, truth.culprit),
        "prevention": prevention(truth.cause, truth.culprit),
        "crash_interval": f"{first:.1f} - {last:.1f} seconds",
        "pre_crash_time": f"{max(foreseen_s - shown.start_s, 0.0):.1f} seconds",
    }


def describe(record: SceneRecord, truth: SceneTruth) -> str:
    """Describe the crash in one clause, without a full stop: [subject] [verb] [object].

    As in CrashChat, whoever struck whom, the subject is the camera's car if it takes part, else the vehicle in a crash
    with a pedestrian or cyclist.
    """
    striker, struck = truth.striker, truth.struck
    if record.kind == "loss_of_control":
        return f"{truth.culprit} is out of control"
    if striker in ("pedestrian", "cyclist"):
        striker, struck = struck, striker
    if "ego-car" not in (striker, struck):
        return f"{striker} hits {struck}"
    other = struck if striker == "ego-car" else striker
    article = "an" if other == "object" else "a"
    return f"ego-car hits a crossing {other}" if truth.crossing else f"ego-car hits {article} {other}"


def cause_sentence(cause: Cause, culprit: Party) -> str:
    """Describe the cause in one sentence about the party that caused the crash."""
    return _CAUSES[cause].format(who=_SUBJECTS[culprit])


def prevention(cause: Cause, culprit: Party) -> str:
    """Describe in one paragraph what would have prevented the crash, given its cause and the party that caused it."""
    return _PREVENTIONS[cause].format(drivers=_DRIVERS[culprit])


_SUBJECTS: dict[Party, str] = {
    "ego-car": "Ego-car",
    "car": "The car",
    "truck": "The truck",
    "bus": "The bus",
    "cyclist": "The cyclist",
    "pedestrian": "The pedestrian",
    "barrier": "The barrier",
    "object": "The object",
}
_DRIVERS: dict[Party, str] = {
    "ego-car": "Ego-car drivers",
    "car": "Car drivers",
    "truck": "Truck drivers",
    "bus": "Bus drivers",
    "cyclist": "Cyclists",
    "pedestrian": "Pedestrians",
    "barrier": "Drivers",
    "object": "Drivers",
}
_CAUSES: dict[Cause, str] = {
    "following_too_closely": "{who} keeps too short a distance to the vehicle in front.",
    "late_reaction": "{who} reacts too late to the braking of the vehicle in front.",
    "standing_ahead": "{who} does not brake for a vehicle that stands in the lane.",
    "unsafe_lane_change": "{who} moves into the lane of a faster vehicle without leaving room.",
    "lane_drift": "{who} drifts out of its lane towards the vehicle beside it.",
    "pulled_out": "{who} pulls out from the roadside without letting traffic pass.",
    "no_right_of_way": "{who} enters the main road without giving way to passing traffic.",
    "turned_across": "{who} turns across the path of an oncoming vehicle.",
    "crossed_centre_line": "{who} strays over the centre line into oncoming traffic.",
    "unsafe_overtaking": "{who} overtakes although another vehicle is coming.",
    "pedestrian_stepped_out": "{who} steps into the road without looking at the traffic.",
    "pedestrian_not_given_way": "{who} does not stop for a pedestrian on the road.",
    "cyclist_swerved": "{who} swerves into the path of the vehicle behind.",
    "cyclist_no_right_of_way": "{who} rides across the road without giving way.",
    "passed_too_closely": "{who} passes the cyclist without enough distance to the side.",
    "slippery_road": "{who} loses grip on the slippery road.",
    "abrupt_steering": "{who} is steered too abruptly and skids.",
    "object_on_road": "{who} notices an object on the road too late.",
}
_PREVENTIONS: dict[Cause, str] = {
    "following_too_closely": (
        "{drivers} should keep at least two seconds of distance to the vehicle in front, and more at high speed or on "
        "a wet road. A foot held ready over the brake shortens the way to a stop."
    ),
    "late_reaction": (
        "{drivers} should keep their eyes on the traffic ahead and watch for brake lights. Telephones and other "
        "distractions must wait. When the vehicle in front slows down, brake at once and firmly."
    ),
    "standing_ahead": (
        "{drivers} should look far ahead and slow down early where traffic may be standing. Vehicles that have to stop "
        "in a lane should switch on their hazard lights to warn those who follow."
    ),
    "unsafe_lane_change": (
        "{drivers} should signal before changing lanes, look into the mirrors and over the shoulder, and wait for a "
        "gap that is long enough. Nobody should move in front of a vehicle that is faster."
    ),
    "lane_drift": (
        "{drivers} should stay in the middle of their lane, keep both hands on the wheel, and rest when they are "
        "tired. A lane keeping assistant can warn them in time."
    ),
    "pulled_out": (
        "{drivers} should signal before leaving a parking place, look behind, and let all passing traffic go first. "
        "Passing vehicles should leave room beside parked ones and be ready to brake."
    ),
    "no_right_of_way": (
        "{drivers} should slow down before a crossing, look both ways, and give way to the traffic on the main road. "
        "Those who have the right of way should still watch the side roads and be ready to brake."
    ),
    "turned_across": (
        "{drivers} should stop before they turn, let all oncoming traffic pass, and judge its speed with care. "
        "Oncoming vehicles should slow down when somebody waits to turn."
    ),
    "crossed_centre_line": (
        "{drivers} should keep to their own side of the road and never drive when tired or distracted. Those who meet "
        "a vehicle on the wrong side should brake, sound the horn, and move to the edge of the road."
    ),
    "unsafe_overtaking": (
        "{drivers} should overtake only where the oncoming lane is free as far as needed, and fall back when it is "
        "not. Others can help by slowing down and letting them in."
    ),
    "pedestrian_stepped_out": (
        "{drivers} should stop at the edge of the road, look both ways, and cross at marked places only. Vehicles "
        "should slow down where people walk close to the road."
    ),
    "pedestrian_not_given_way": (
        "{drivers} should slow down when somebody is about to cross and stop until the road is clear. Pedestrians "
        "should make sure that they have been seen before they walk on."
    ),
    "cyclist_swerved": (
        "{drivers} should look behind and give a hand signal before they move to the side. Vehicles should stay well "
        "behind a bicycle and pass it slowly and with much room."
    ),
    "cyclist_no_right_of_way": (
        "{drivers} should stop before crossing a road and wait until it is free. Vehicles should expect bicycles from "
        "side roads, reduce their speed there, and be ready to brake."
    ),
    "passed_too_closely": (
        "{drivers} should leave at least one and a half metres to the side when they pass a bicycle, and wait behind "
        "it where the road is too narrow."
    ),
    "slippery_road": (
        "{drivers} should drive slowly on wet or icy roads, steer and brake gently, and keep their tyres in good "
        "condition. When the vehicle slides, take the foot off the pedals and steer where it should go."
    ),
    "abrupt_steering": (
        "{drivers} should hold the wheel with both hands and steer smoothly, most of all at high speed. In an "
        "emergency brake first and stay in the lane."
    ),
    "object_on_road": (
        "{drivers} should look far ahead, keep a speed at which they can stop within the road they see, and brake "
        "rather than swerve. Loads must be tied down so that nothing falls on the road."
    ),
}
