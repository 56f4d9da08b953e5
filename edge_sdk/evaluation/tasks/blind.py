"""The best blind answers: one answer for every clip, chosen on one set of annotations and scored on another.

A third of the clips share one sentence, and many crashes begin in the same second, so blind answers beat every model
that was not tuned on this data. If they are chosen on the same clips that they are scored on, they are upper bounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from edge_sdk.evaluation.boundaries import TOLERANCE, best_constant_interval
from edge_sdk.evaluation.tasks import pre_crash, text
from edge_sdk.evaluation.tasks.annotations import Annotations, is_positive
from edge_sdk.tasks import TASKS
from edge_sdk.types import Value

TEXT_TASKS = tuple(task.id for task in TASKS if task.form == "text")
# For texts, every different answer is tried if there are at most this many, which takes a minute; otherwise only the
# most common `CANDIDATES`.
TRIED_ALL = 120
CANDIDATES = 20
STEP_S = 0.1


class Blind(Value, frozen=True, kw_only=True):
    """The best constant answers to each task; None or absent if the annotations do not have the task.

    For text tasks they are the answer with the highest score, by task and score: `of_all` on all clips, `of_crashes` on
    clips with a crash, and `with_verdict` on all clips if every clip without a crash gets the right sentence.
    """

    recognition: bool | None
    interval_s: tuple[float, float] | None
    sign_s: float | None
    of_all: dict[str, dict[str, str]]
    of_crashes: dict[str, dict[str, str]]
    with_verdict: dict[str, dict[str, str]]


def choose(annotations: Annotations) -> Blind:
    """Choose the best constant answers for `annotations`."""
    verdicts = [annotations.crash(video) for video in annotations.of("recognition")]
    spans = [annotations.interval_s(video) for video in annotations.of("crash_interval")]
    known = [span for span in spans if span is not None and span[1] > span[0]]
    texts = {task: [truth.answer for truth in annotations.of(task).values()] for task in TEXT_TASKS}
    divided = {task: _divide(task, answers) for task, answers in texts.items()}
    return Blind(
        recognition=sum(verdict is True for verdict in verdicts) * 2 >= len(verdicts) if verdicts else None,
        interval_s=best_constant_interval(known, STEP_S) if known else None,
        sign_s=best_sign_s(annotations),
        of_all={task: best_texts(answers) for task, answers in texts.items() if answers},
        of_crashes={task: best_texts(crashes) for task, (crashes, _) in divided.items() if crashes},
        with_verdict={task: best_texts(crashes, others) for task, (crashes, others) in divided.items() if crashes},
    )


def tried_all(annotations: Annotations) -> bool:
    """Whether `choose` tries every answer to every text task, so that no constant is better."""
    different = (len({truth.answer for truth in annotations.of(task).values()}) for task in TEXT_TASKS)
    return max(different) <= TRIED_ALL


def best_sign_s(annotations: Annotations) -> float | None:
    """Find the time, in tenths of a second, with the highest mean pre-crash IoU over all clips with both labels."""
    pairs = [(annotations.sign_s(video), annotations.interval_s(video)) for video in annotations.of("pre_crash_time")]
    known = [(sign, span[0]) for sign, span in pairs if sign is not None and span is not None]
    if not known:
        return None
    sign, crash = np.array(known, np.float64).T
    ticks = np.arange(0.0, float(crash.max()) + STEP_S, STEP_S).round(1)
    said = [np.full_like(sign, tick) for tick in ticks]
    iou = [pre_crash.reference_iou(sign, each, crash, tolerance_s=TOLERANCE) for each in said]
    return float(ticks[int(np.argmax(np.mean(iou, axis=1)))])


def best_texts(answers: Sequence[str], right: Sequence[str] = ()) -> dict[str, str]:
    """Find, by score, which of `answers` scores highest if it is given for all of them.

    If there are too many, only the most common are tried. `right` are further clips that get the right answer.
    """
    counted = Counter(answers)
    truths, weights = list(counted), np.array(list(counted.values()), np.float64)
    most = None if len(counted) <= TRIED_ALL else CANDIDATES
    candidates = [answer for answer, _ in counted.most_common(most)]
    beside = text.clip_sums(right, right).sum(axis=0)
    sums = np.stack([weights @ text.clip_sums(truths, [each] * len(truths)) for each in candidates]) + beside
    return {name: candidates[int(np.argmax(values))] for name, values in text.of_sums(sums).items()}


def _divide(task: str, answers: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide answers into those that describe a crash, and the others."""
    crashes = [answer for answer in answers if is_positive(task, answer)]
    return crashes, [answer for answer in answers if not is_positive(task, answer)]
