"""Evaluation of the six tasks: the reference's metrics unchanged, repaired ones beside them, and further ones.

`parse` reads answers; `recognition`, `text`, `intervals` and `pre_crash` score them; `judges` applies both readings;
`blind` finds the best blind answers; `constants` holds published numbers; `alarms` and `calibration` add what the
reference lacks. `bleu` needs nltk and `rouge` needs rouge-score, both in the extra `evaluate`.
"""

from __future__ import annotations

from edge_sdk.evaluation.tasks.annotations import Annotations, Truth, read_annotations
from edge_sdk.evaluation.tasks.evaluate import evaluate_files, evaluate_tasks
from edge_sdk.evaluation.tasks.predictions import (
    AnsweredBy,
    VideoAnswers,
    read_predictions,
    write_predictions,
)
from edge_sdk.evaluation.tasks.report import Line, TaskReport, TasksReport, to_markdown

__all__ = [
    "Annotations",
    "AnsweredBy",
    "Line",
    "TaskReport",
    "TasksReport",
    "Truth",
    "VideoAnswers",
    "evaluate_files",
    "evaluate_tasks",
    "read_annotations",
    "read_predictions",
    "to_markdown",
    "write_predictions",
]
