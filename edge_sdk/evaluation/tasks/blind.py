"""The best answers that see nothing: one answer for every clip, chosen on one set of annotations, scored on another.

A third of the clips share one sentence and many crashes begin in the same second, so such answers beat every model that
was not tuned on this data. Whoever chooses them on the very clips they are scored on states an upper bound.
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
# Of texts every answer is tried where there are no more different ones than this, which takes a minute; else the
# commonest.
TRIED_ALL = 120
CANDIDATES = 20
STEP_S = 0.1


class Blind(Value, frozen=True, kw_only=True):
    """Best constant answers by what they were chosen from; None or absent where the annotations do not say.

    By text task and score, the one answer with the highest score: `of_all` on all clips, `of_crashes` on those with a
    crash, `with_verdict` on all where the right sentence is said of every clip without a crash.
    """

    recognition: bool | None
    interval_s: tuple[float, float] | None
    sign_s: float | None
    of_all: dict[str, dict[str, str]]
    of_crashes: dict[str, dict[str, str]]
    with_verdict: dict[str, dict[str, str]]


def choose(annotations: Annotations) -> Blind:
    """The best constant answers for `annotations`."""
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
    """The one time, in tenths of a second, with the highest pre-crash IoU over all clips with both labels."""
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
    """By score, which of the `answers` scores highest when given for all of them; of too many the commonest are tried.

    `right` are further clips of which the right answer is given.
    """
    counted = Counter(answers)
    truths, weights = list(counted), np.array(list(counted.values()), np.float64)
    most = None if len(counted) <= TRIED_ALL else CANDIDATES
    candidates = [answer for answer, _ in counted.most_common(most)]
    beside = text.clip_sums(right, right).sum(axis=0)
    sums = np.stack([weights @ text.clip_sums(truths, [each] * len(truths)) for each in candidates]) + beside
    return {name: candidates[int(np.argmax(values))] for name, values in text.of_sums(sums).items()}


def _divide(task: str, answers: Sequence[str]) -> tuple[list[str], list[str]]:
    """Answers that speak of a crash, and the others."""
    crashes = [answer for answer in answers if is_positive(task, answer)]
    return crashes, [answer for answer in answers if not is_positive(task, answer)]
