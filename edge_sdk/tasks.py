"""The six tasks of CrashChat as data: what is asked, which adapter answers, and what an answer looks like.

The model was tuned on exactly these prompts, so they are part of the contract and must not be tidied up. A sentence
that runs into the next, or a missing space before an example, was the same in training.

Prompts, answer forms and the sentences for clips without a crash come from the CrashChat data set, where each task has
one prompt throughout its test and validation files.
"""

from __future__ import annotations

from typing import Literal

from edge_sdk.errors import UnknownNameError
from edge_sdk.types import Value

AdapterKind = Literal["linguistic", "perception"]
AnswerForm = Literal["yes_no", "interval", "time", "text"]


class Task(Value, frozen=True, kw_only=True):
    """One question that can be asked about a clip.

    `adapter` is the kind of adapter that answers it best: `linguistic` says what happened, `perception` says when.
    `form`: `yes_no` is one of two words, `interval` "d.d - d.d seconds", `time` "d.d seconds", `text` free text.
    `negative` is the exact answer for a clip without a crash, None if the task was tuned on crashes alone.
    """

    id: str
    prompt: str
    adapter: AdapterKind
    form: AnswerForm
    negative: str | None = None


TASKS: tuple[Task, ...] = (
    Task(
        id="recognition",
        adapter="linguistic",
        form="yes_no",
        negative="No",
        prompt=(
            "You are a traffic accident engineer. Analyze the given traffic video and decide whether a collision or "
            "crash happens during the clip. Answer with only 'Yes' or 'No'. Example: If two vehicles collide, or a "
            "vehicle hits a pedestrian, answer 'Yes'; if all vehicles move normally without collision, answer 'No'."
        ),
    ),
    Task(
        id="description",
        adapter="linguistic",
        form="text",
        negative="no collision.",
        prompt=(
            "You are a traffic accident analyst. Look at the video and describe whether there is a traffic collision "
            "or abnormal vehicle behavior. If no accident appears, output exactly 'no collision.' If an accident "
            "occurs, describe it in one short sentence following this pattern: [subject] [verb] [object]. Use words "
            "such as ego-car, car, truck, motorbike, cyclist, pedestrian, and verbs such as hits, overtakes, falls "
            "down, is out of control, has failure of components. Example outputs: 'ego-car hits a pedestrian.' 'car "
            "hits a truck.' 'motorbike falls down.' 'truck has failure of components.' 'no collision.'"
        ),
    ),
    Task(
        id="cause",
        adapter="linguistic",
        form="text",
        negative="No accident, no cause.",
        prompt=(
            "You are a traffic accident analyst. Watch the video and determine the most likely cause of the traffic "
            "accident. If no accident appears in the clip, output exactly: 'No accident, no cause.' If an accident "
            "occurs, describe the most likely cause in ONE short sentence."
        ),
    ),
    Task(
        id="prevention",
        adapter="linguistic",
        form="text",
        negative="No accident, no prevention needed.",
        prompt=(
            "You are a traffic accident analyst. Watch the video carefully and provide detailed prevention measures "
            "based on the traffic accident video. If no accident appears in the clip, output exactly: 'No accident, "
            "no prevention needed.' If an accident occurs, describe the recommended prevention measures in a detailed "
            "paragraph. The prevention measures should be practical, specific, and expressed in full sentences. You "
            "may include multiple actions for drivers, pedestrians, cyclists, or other road users if appropriate. "
            "Example outputs:'When passing the zebra crossing, drivers must slow down. When pedestrians or non-motor "
            "vehicles cross the zebra crossing, they should stop and give way to other normal running vehicles; When "
            "crossing the road, pedestrians must follow the zebra crossing, carefully observe the traffic, and do not "
            "cross the road in a hurry.''Ego-car drivers should not answer or make phone calls, eat or smoke while "
            "riding, sleep, and drive in fatigue.''Cyclists should not ride on the motorway as much as possible, stop "
            "retrogradation or speeding. Cyclists should leave the motorway in time and observe the coming vehicles "
            "carefully. When the vehicle driver encounters a cyclist on the motorway, he should honk his horn to "
            "remind him to slow down.'"
        ),
    ),
    Task(
        id="crash_interval",
        adapter="perception",
        form="interval",
        prompt=(
            "You are a traffic accident analyst. Watch the video and identify the exact time range during which the "
            "crash occurs. If a collision or abnormal event (such as a vehicle losing control, skidding, or impact) "
            "happens, output the start and end timestamps in seconds. The output format must follow this pattern: "
            "'start - end seconds'. Example outputs: '20.8 - 30.0 seconds', '5.0 - 7.6 seconds'."
        ),
    ),
    Task(
        id="pre_crash_time",
        adapter="perception",
        form="time",
        prompt=(
            "You are a traffic accident analyst. Watch the video and identify the moment when the first visible sign "
            "of a potential crash or abnormal event appears. This may include situations such as the ego vehicle, "
            "another vehicle, a pedestrian, a cyclist, or any other traffic participant showing abnormal behavior, "
            "for example, sudden braking, swerving, loss of control, unexpected crossing, or any motion indicating "
            "that a collision is becoming inevitable. Output the timestamp in seconds when these early crash cues "
            "first appear. The output format must follow this pattern: 'timestamp seconds' Example outputs: '8.6 "
            "seconds', '12.4 seconds'."
        ),
    ),
)
"""All tasks, in the order in which they are asked."""

TASK_IDS: tuple[str, ...] = tuple(task.id for task in TASKS)


def in_words(value: bool | float | tuple[float, float] | None, text: str) -> str:
    """An answer in its task's form: `value` in words if it is a time or an interval (to 0.1 s), else `text`.

    For a yes or no, `text` is kept if it begins with the same word as `value`; otherwise only the word is returned.
    """
    if isinstance(value, bool):
        word = "Yes" if value else "No"
        return text if text.casefold().startswith(word.casefold()) else word
    if isinstance(value, tuple):
        return f"{value[0]:.1f} - {value[1]:.1f} seconds"
    return f"{value:.1f} seconds" if isinstance(value, float) else text


def find_task(task_id: str) -> Task:
    """The task called `task_id`. Raises `UnknownNameError`."""
    for task in TASKS:
        if task.id == task_id:
            return task
    raise UnknownNameError("task", task_id, [task.id for task in TASKS])
