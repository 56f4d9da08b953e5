"""CrashChat's annotation files: lists of {"video": ["videos/x.mp4"], "conversations": [question, answer], "source"}.

The reference finds a task by its file's name, but these names do not match its code everywhere. Here the question
identifies the task, so a file may have any name and hold several tasks.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType

import msgspec

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.tasks import parse
from edge_sdk.tasks import TASKS, find_task
from edge_sdk.types import Value

_TASK_OF = {task.prompt: task.id for task in TASKS}


class Truth(Value, frozen=True, kw_only=True):
    """The right answer to one task for one video, and the data set of the video ("" if unknown)."""

    answer: str
    source: str


class Annotations:
    """Right answers by task and video; a video is named by the last part of its path, as in the reference."""

    def __init__(self, truths: Mapping[str, Mapping[str, Truth]]) -> None:
        self.truths = MappingProxyType(dict(truths))

    def of(self, task: str) -> Mapping[str, Truth]:
        """Return the right answers to `task` by video; empty if the files have none."""
        return self.truths.get(task, {})

    @property
    def videos(self) -> tuple[str, ...]:
        """Every video, sorted."""
        return tuple(sorted({video for truths in self.truths.values() for video in truths}))

    @property
    def sources(self) -> dict[str, str]:
        """The data set of each video: the first one that its answers name."""
        found: dict[str, str] = {}
        for truths in self.truths.values():
            for video, truth in truths.items():
                found[video] = found.get(video) or truth.source
        return found

    def crash(self, video: str) -> bool | None:
        """Whether `video` shows a crash, by its recognition answer, else as another task implies; None if unknown."""
        verdict = self.of("recognition").get(video)
        if verdict is not None:
            return parse.yes_no(verdict.answer)
        for task, truths in self.truths.items():
            if video in truths:
                return is_positive(task, truths[video].answer)
        return None

    def interval_s(self, video: str) -> tuple[float, float] | None:
        """Return the labelled crash of `video`, (start, end) in seconds; None if there is no label."""
        truth = self.of("crash_interval").get(video)
        return None if truth is None else parse.interval(truth.answer)

    def sign_s(self, video: str) -> float | None:
        """Return the time of the labelled first warning sign of `video`, in seconds; None if there is no label."""
        truth = self.of("pre_crash_time").get(video)
        return None if truth is None else parse.time(truth.answer)


def is_positive(task: str, answer: str) -> bool:
    """Whether `answer` to `task` describes a crash, so is not the task's sentence for clips without a crash."""
    return answer.strip() != find_task(task).negative


def video_name(path: str) -> str:
    """Return the last part of a video's path."""
    return PurePosixPath(_plain(path)).name


def _plain(path: str) -> str:
    """Normalise a path: forward slashes, and no redundant ones."""
    return str(PurePosixPath(path.replace("\\", "/")))


def read_annotations(path: Path) -> Annotations:
    """Read one file, or every `*.json` of a folder.

    Raises `ConfigError` for a path without annotations, a file in another layout, a question of no task, two different
    answers to one question about one video, and two videos whose paths differ only in the folder.
    """
    files = sorted(path.glob("[!.]*.json")) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"{path} holds no annotations (*.json)")
    truths: dict[str, dict[str, Truth]] = {}
    paths: dict[str, str] = {}
    for file in files:
        for task, path_of_video, truth in _read(file):
            video = video_name(path_of_video)
            other = paths.setdefault(video, path_of_video)
            if other != path_of_video:
                raise ConfigError(
                    f"{file}: {other} and {path_of_video} have the same name, and answers are found by the "
                    "name alone; rename one of them"
                )
            known = truths.setdefault(task, {}).setdefault(video, truth)
            if known.answer != truth.answer:
                raise ConfigError(
                    f"{file}: {task} of {video} is {truth.answer!r} here, {known.answer!r} before; keep one of them"
                )
            if not known.source:
                truths[task][video] = truth
    if not truths:
        raise ConfigError(f"{path} holds annotation files, but no question in them")
    return Annotations(truths)


class _Turn(msgspec.Struct, frozen=True):
    speaker: str = msgspec.field(name="from")
    value: str


class _Item(msgspec.Struct, frozen=True):
    """One annotation; other keys are allowed, because files of other makers have an id or notes."""

    video: list[str]
    conversations: list[_Turn]
    source: str = ""


def _read(file: Path) -> Iterator[tuple[str, str, Truth]]:
    try:
        items = msgspec.json.decode(file.read_bytes().removeprefix(BOM_UTF8), type=list[_Item])
    except OSError as error:
        raise ConfigError(f"cannot read annotations {file}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{file} is not in CrashChat's annotation layout: {error}") from error
    for row, item in enumerate(items):
        where = f"{file}, item {row}"
        named = len(item.video) == 1 and video_name(item.video[0])
        if not named or not item.conversations or len(item.conversations) % 2:
            raise ConfigError(f"{where}: expected the path of one video, and pairs of question and answer")
        for asked, said in zip(item.conversations[::2], item.conversations[1::2], strict=True):
            yield _task_of(asked.value, where), _plain(item.video[0]), Truth(answer=said.value, source=item.source)


def _task_of(question: str, where: str) -> str:
    plain = question.replace("<video>", "").strip()
    if plain not in _TASK_OF:
        raise ConfigError(f"{where}: unknown question {plain[:80]!r}; expected one of edge_sdk.tasks")
    return _TASK_OF[plain]
