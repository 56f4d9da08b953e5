"""The six tasks as values for JSON, and as tables for people, with the paper's lines beside our own.

A line says how many clips it covers; a number computed here has its 95 % interval.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from edge_sdk.evaluation.boundaries import Delay
from edge_sdk.evaluation.report import Measure
from edge_sdk.evaluation.tasks import rouge
from edge_sdk.evaluation.tasks.alarms import AlarmRate
from edge_sdk.evaluation.tasks.calibration import Calibration, error_in_words
from edge_sdk.evaluation.tasks.recognition import Confusion
from edge_sdk.types import Value

SCHEMA = 1
LineKind = Literal["paper", "blind", "reference", "repaired", "condition"]


class Line(Value, frozen=True, kw_only=True):
    """One line of a task's table.

    `kind` is "paper" for published numbers, whose intervals and `clips` are null; "blind" for one answer for every
    clip, given by score in `answers`; "reference" and "repaired" for the model's answers in the two readings; and
    "condition" for the repaired reading on some of the clips.
    """

    kind: LineKind
    name: str
    clips: int | None = None
    scores: dict[str, Measure]
    answers: dict[str, str] = msgspec.field(default_factory=dict)


class TaskReport(Value, frozen=True, kw_only=True):
    """One task: the numbers of labelled, unanswered, reference-unreadable and unscorable clips, and its table's lines.

    `confusion` is that of the repaired reading, for recognition only.
    """

    task: str
    clips: int
    missing: int
    dropped: int
    unscorable: int
    confusion: Confusion | None
    lines: tuple[Line, ...]


class AlarmReport(Value, frozen=True, kw_only=True):
    """False alarms and the delay of alarms on `clips` of one condition; `name` is "all" for all clips.

    `left_out` clips count for neither, because their length or the start of their crash is unknown. A crash in a clip
    of unknown length counts only for the delay.
    """

    name: str
    clips: int
    left_out: int = 0
    false_alarms: AlarmRate
    delay: Delay | None


class TasksReport(Value, frozen=True, kw_only=True):
    """The result of `evaluate_tasks`. `unknown` is the number of predicted videos that no annotation names."""

    schema: int = SCHEMA
    seed: int
    bootstrap: int
    videos: int
    unknown: int
    tasks: tuple[TaskReport, ...]
    alarms: tuple[AlarmReport, ...]
    calibration: Calibration | None
    notes: tuple[str, ...]


COLUMNS: dict[str, str] = {
    "macro_recall": "macro recall",
    "macro_precision": "macro precision",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "yes_recall": "recall of yes",
    "yes_precision": "precision of yes",
    "yes_f1": "F1 of yes",
    "no_recall": "recall of no",
    "no_precision": "precision of no",
    "no_f1": "F1 of no",
    "bleu4": "BLEU-4",
    "rouge1_f": "ROUGE-1",
    "rouge2_f": "ROUGE-2",
    "rougeL_f": "ROUGE-L",
    "rouge_unstated": "ROUGE (1 or L)",
    "exact": "exact",
    "miou": "mIoU",
    "iou_30": "IoU >= .3",
    "iou_50": "IoU >= .5",
    "iou_70": "IoU >= .7",
    "start_mae_s": "start MAE s",
    "start_1s": "start <= 1 s",
    "tta_true_s": "TTA true s",
    "tta_s": "TTA s",
    "tta_mae_s": "TTA MAE s",
}
"""Headings of the scores in tables, in order; other scores follow. ROUGE's precision and recall are only in JSON."""

_JSON_ONLY = frozenset(rouge.NAMES)


def to_markdown(report: TasksReport) -> str:
    """Render every task's table, then alarms, calibration and notes."""
    parts = [_task(task) for task in report.tasks]
    if report.alarms:
        parts.append(_alarms(report.alarms))
    if report.calibration is not None:
        parts.append(_calibration(report.calibration))
    parts.append("\n".join(f"- {note}" for note in report.notes))
    return "\n\n".join(parts)


def _task(task: TaskReport) -> str:
    names = _shown([name for line in task.lines for name in line.scores])
    lines = ["| line | clips | " + " | ".join(COLUMNS.get(name, name) for name in names) + " |"]
    lines.append("|---|--:" + "|--:" * len(names) + "|")
    for line in task.lines:
        cells = [_measure(line.scores.get(name)) for name in names]
        lines.append(f"| {line.name} | {'' if line.clips is None else line.clips} | " + " | ".join(cells) + " |")
    return "\n".join([f"### {task.task}", "", *lines, "", _counts(task)])


def _counts(task: TaskReport) -> str:
    text = (
        f"{task.clips} labelled clips; {task.missing} not answered, {task.dropped} more dropped by the reference, "
        f"{task.unscorable} that no answer could score on."
    )
    if task.confusion is None:
        return text
    cells = task.confusion
    return f"{text} Repaired: TP {cells.tp}, FN {cells.fn}, FP {cells.fp}, TN {cells.tn}."


def _alarms(reports: tuple[AlarmReport, ...]) -> str:
    lines = [
        "### alarms",
        "",
        "| clips | n | false alarms | minutes without a crash | per hour (95 %) | in time (95 %) | delay p50 / p90 s |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(_alarm_line(report) for report in reports),
        "",
        f"{reports[0].left_out} clips left out: of unknown length, or with a crash of unknown start.",
    ]
    return "\n".join(lines)


def _alarm_line(report: AlarmReport) -> str:
    rate, delay = report.false_alarms, report.delay
    per_hour = "" if rate.per_hour is None else f"{rate.per_hour:.1f} ({rate.lo:.1f}-{rate.hi:.1f})"
    in_time = late = ""
    if delay is not None:
        recall = delay.recall
        in_time = f"{recall.hits} of {recall.n} ({recall.lo:.2f}-{recall.hi:.2f})"
    if delay is not None and delay.median_s is not None:
        late = f"{delay.median_s:.2f} / {delay.p90_s:.2f}"
    minutes = f"{rate.hours * 60:.1f}"
    return f"| {report.name} | {report.clips} | {rate.count} | {minutes} | {per_hour} | {in_time} | {late} |"


def _calibration(found: Calibration) -> str:
    lines = [f"| {each.clips} | {each.said:.3f} | {each.happened:.3f} |" for each in found.bins]
    head = (
        f"Brier score {_measure(found.brier)} (always the share of crashes: {found.brier_constant:.3f}), calibration "
        f"error {error_in_words(found)}, {found.clips} clips."
    )
    table = ["| clips | probability said | crashes |", "|--:|--:|--:|", *lines]
    return "\n".join(["### calibration", "", head, "", *table])


def _shown(names: list[str]) -> list[str]:
    known = [name for name in COLUMNS if name in names]
    rest = [name for name in dict.fromkeys(names) if name not in COLUMNS and name not in _JSON_ONLY]
    return known + rest


def _measure(found: Measure | None) -> str:
    if found is None or found.value is None:
        return ""
    if found.lo is None or found.hi is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.lo:.3f}-{found.hi:.3f})"
