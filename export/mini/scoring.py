"""Truths and answers of rendered scenes in CrashChat's file layouts, which the SDK's evaluation of its tasks reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from edge_sdk.evaluation.tasks import VideoAnswers
from edge_sdk.evaluation.tasks.scene_answers import scene_answers
from edge_sdk.export.mini.material import Material
from edge_sdk.files import write_json
from edge_sdk.tasks import TASKS, find_task

SOURCE = "rendered"


def write_annotations(clips: Iterable[Material], path: Path) -> None:
    """Write the right answers for each whole clip, in the layout of CrashChat's annotation files."""
    rows = [
        {
            "video": [f"videos/{clip.path.name}"],
            "conversations": [
                {"from": "human", "value": f"<video>\n{find_task(task).prompt}"},
                {"from": "gpt", "value": answer},
            ],
            "source": SOURCE,
        }
        for clip in clips
        for task, answer in scene_answers(clip.record, clip.truth).items()
    ]
    write_json(path, rows, indent=1)


def write_predictions(said: Mapping[str, VideoAnswers], path: Path) -> None:
    """Write answers by video, as `edge-sdk evaluate --predictions` reads them."""
    rows = {name: msgspec.to_builtins(row) for name, row in said.items()}
    write_json(path, rows, indent=1)


def as_row(clip: Material, answers: Mapping[str, str], probability: float | None) -> VideoAnswers:
    """One clip's answers; tasks that need a crash are left out for clips without one, as in the annotations."""
    asked: Sequence[str] = [task.id for task in TASKS if clip.record.crash or task.negative is not None]
    kept = {task: answer for task, answer in answers.items() if task in asked}
    return msgspec.convert(
        {**kept, "crash_probability": probability, "duration_s": clip.record.duration_s}, VideoAnswers
    )
