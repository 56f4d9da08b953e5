"""A model's answers, as JSON: {"x.mp4": {"recognition": "Yes", "description": "car hits a truck", ...}, ...}.

Only the answers are needed; a probability or alarms give further scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.tasks.annotations import video_name
from edge_sdk.files import write_json
from edge_sdk.tasks import TASK_IDS
from edge_sdk.types import Value


class AnsweredBy(Value, frozen=True, kw_only=True):
    """Who answered: a bundle on a runtime and device, and which of its models answered the six tasks."""

    bundle: str
    bundle_sha256: str
    runtime: str
    device: str
    tasks_by: Literal["video LLM", "student"]


class VideoAnswers(Value, frozen=True, kw_only=True):
    """The answers about one video; a task that was not asked is left out.

    `crash_probability` is that of a crash anywhere in the video, 0..1. `alarms_s` are the times of alarms, in seconds
    since the first decoded frame: an empty list means that no alarm was raised; left out means that the model raises no
    alarms. `duration_s` is the video's length. `scores` holds your own scores by task, such as
    {"description": {"bertscore_f1": 0.97}}, which are averaged and shown beside the others. `answered_by` is the bundle
    that answered, if one did, and `clip_sha256` the hash of the file. `unread` says why a file could not be read; there
    are then no answers.
    """

    recognition: str | None = None
    description: str | None = None
    cause: str | None = None
    prevention: str | None = None
    crash_interval: str | None = None
    pre_crash_time: str | None = None
    crash_probability: float | None = None
    alarms_s: tuple[float, ...] | None = None
    duration_s: float | None = None
    scores: dict[str, dict[str, float]] = msgspec.field(default_factory=dict)
    answered_by: AnsweredBy | None = None
    clip_sha256: str | None = None
    unread: str | None = None

    def answer(self, task: str) -> str | None:
        """Return the answer to `task`, None if it was not asked."""
        said: str | None = getattr(self, task) if task in TASK_IDS else None
        return said


def read_predictions(path: Path) -> dict[str, VideoAnswers]:
    """Read answers by video name (the last part of its path). Raises `ConfigError` naming the video and the key."""
    try:
        rows = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
    except OSError as error:
        raise ConfigError(f"cannot read predictions {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} is not a file of answers by video and task: {error}") from error
    found: dict[str, VideoAnswers] = {}
    for key, raw in rows.items():
        name = video_name(key)
        if name in found:
            raise ConfigError(f"{path}: two videos are named {name!r}; the last part of each path must be unique")
        found[name] = _row(raw, f"{path}, video {name}")
    return found


def write_predictions(path: Path, rows: Mapping[str, VideoAnswers]) -> None:
    """Write answers by video for `read_predictions`; an existing file is replaced atomically."""
    told = {video: _told(msgspec.to_builtins(row)) for video, row in rows.items()}
    write_json(path, told)


def _told(row: dict[str, object]) -> dict[str, object]:
    """Drop the row's empty values."""
    return {key: value for key, value in row.items() if value is not None and value != {}}


def _row(raw: msgspec.Raw, where: str) -> VideoAnswers:
    try:
        row = msgspec.json.decode(raw, type=VideoAnswers)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{where}: {error}; expected answers by task: {', '.join(TASK_IDS)}") from error
    _check(row, where)
    return row


def _check(row: VideoAnswers, where: str) -> None:
    probability = row.crash_probability
    if probability is not None and not 0 <= probability <= 1:
        raise ConfigError(f"{where}: crash_probability must lie between 0 and 1, found {probability}")
    if row.duration_s is not None and row.duration_s <= 0:
        raise ConfigError(f"{where}: duration_s must be more than 0, found {row.duration_s}")
    if any(alarm < 0 for alarm in row.alarms_s or ()):
        raise ConfigError(f"{where}: alarms_s must be times of at least 0 s, found {row.alarms_s}")
    unknown = [task for task in row.scores if task not in TASK_IDS]
    if unknown:
        raise ConfigError(f"{where}: scores names {unknown[0]!r}; expected one of {', '.join(TASK_IDS)}")
