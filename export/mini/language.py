"""From rendered scenes to a mini and its answers: train, save in the layout of the public weights, ask held-out clips.

Finished pictures, stages, checkpoints and answers are kept in the work folder, and skipped by the next run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.tasks import VideoAnswers
from edge_sdk.export.mini.answering import Answerer
from edge_sdk.export.mini.checkpoints import save_adapter, save_base
from edge_sdk.export.mini.course import Course
from edge_sdk.export.mini.curves import draw_curves
from edge_sdk.export.mini.from_bundle import check_start
from edge_sdk.export.mini.material import Material, digest, load_material
from edge_sdk.export.mini.model import parameters
from edge_sdk.export.mini.recipe import Recipe
from edge_sdk.export.mini.scoring import as_row, write_annotations, write_predictions
from edge_sdk.export.mini.training import Report, check_processes, leave, processes
from edge_sdk.export.mini.tuning import tasks_of, trainable
from edge_sdk.export.mini.windows import whole
from edge_sdk.reasoning.grid import find_profile
from edge_sdk.tasks import TASK_IDS, AdapterKind
from edge_sdk.types import Value

ADAPTERS: tuple[AdapterKind, ...] = ("linguistic", "perception")


class Trained(Value, frozen=True, kw_only=True):
    """Where a course has written its results: checkpoint, adapters by name, truths, and answers by who gave them.

    `main`: whether this process goes on; of several, only one does. `clips_sha256` is the digest of the clips, see
    `material.digest`; `training_clips` is their number.
    """

    main: bool

    base: str
    adapters: dict[str, str]
    annotations: str
    predictions: dict[str, str]
    clips_sha256: str
    training_clips: int
    parameters: int
    seconds: dict[str, float]


def train_language(
    recipe: Recipe,
    training: Path,
    held_out: Path,
    work: Path,
    report: Report,
    *,
    start: Bundle | None = None,
    most: int | None = None,
) -> Trained:
    """Train by `recipe` on the scenes in the folder `training`; answer the first `most` of `held_out`, None for all.

    `start`: the bundle whose model training continues from. Raises `ConfigError` for scenes that lack a record, a truth
    or boxes, for a `start` of other sizes or in few bits, for none where the recipe needs one, and for more processes
    than a batch has examples.
    """
    check_start(start, recipe)
    cache = work / "pictures"
    alone = processes()
    check_processes(recipe.stages, alone.num_processes)

    def decoded(done: int, total: int) -> None:
        report(done, total, "decode")

    with alone.main_process_first():
        clips = load_material(training, cache / training.name, decoded)
        asked = load_material(held_out, cache / held_out.name, decoded)[:most]
        _check_long_enough(clips, recipe)
        for kind in ADAPTERS:
            trainable(kind, clips)
        course = Course(recipe, clips, work, report if alone.is_main_process else _silent, start)
        course.tokenizer.size  # noqa: B018  # trained by the first process, found by the others
    place, said = course.checkpoints, course.checkpoints / f"answers-{digest(asked)[:12]}"
    base, tuned = course.base, {kind: course.adapter(kind) for kind in ADAPTERS}
    leave()
    if alone.is_main_process:
        _save(course, tuned, place)
        _ask(course, tuned, asked, said, report)
        draw_curves(work / "curves.png", {name: record.losses for name, record in course.records.items()})
    return Trained(
        main=alone.is_main_process,
        base=str(place / "base"),
        adapters={kind: str(place / kind) for kind in ADAPTERS},
        annotations=str(said / "truths.json"),
        predictions={name: str(said / f"{name}.json") for name in ("base", "adapters")},
        clips_sha256=course.clips_sha256,
        training_clips=len(clips),
        parameters=parameters(base),
        seconds={name: record.seconds for name, record in course.records.items()},
    )


def _check_long_enough(clips: Sequence[Material], recipe: Recipe) -> None:
    """Raise `ConfigError` where some clips show fewer frames than others: a batch needs the same number of each."""
    profile = find_profile(recipe.profile)
    shown = {clip.path.name: len(whole(clip, profile).pictures) for clip in clips}
    short = [name for name, frames in shown.items() if frames < profile.frames]
    if len(set(shown.values())) > 1:
        raise ConfigError(
            f"profile {recipe.profile} shows {profile.frames} frames at {profile.rate_hz:g} a second, and {len(short)} "
            f"of {len(clips)} clips have fewer, {short[0]} first; take longer clips or another profile"
        )


# Any: transformers' models in peft's wrapper.
def _save(course: Course, tuned: Mapping[AdapterKind, Any], place: Path) -> None:
    """Write the checkpoints that do not exist yet."""
    if not (place / "base").exists():
        save_base(course.base, course.vocabulary, place / "base")
    for kind, model in tuned.items():
        if not (place / kind).exists():
            save_adapter(model, place / "base", place / kind)


# Any: as above.
def _ask(
    course: Course, tuned: Mapping[AdapterKind, Any], asked: Sequence[Material], said: Path, report: Report
) -> None:
    """Write answers and truths for the clips `asked`; existing answers are kept."""
    said.mkdir(parents=True, exist_ok=True)
    _answers(course, course.base, asked, TASK_IDS, said / "base.json", report)
    words, times = (
        _answers(course, tuned[kind], asked, tasks_of(kind), said / f"{kind}.json", report) for kind in ADAPTERS
    )
    write_predictions(_joined(words, times), said / "adapters.json")
    write_annotations(asked, said / "truths.json")


def _silent(done: int, total: int, note: str) -> None:
    """Report nothing: of several processes only one reports."""


# Any: a transformers model, or peft's wrapper of one.
def _answers(
    course: Course, model: Any, clips: Sequence[Material], tasks: Sequence[str], path: Path, report: Report
) -> dict[str, VideoAnswers]:
    """Each clip's answers, read from `path` if it exists."""
    if path.is_file():
        return msgspec.json.decode(path.read_bytes(), type=dict[str, VideoAnswers])
    answerer = Answerer(model, course.tokenizer, course.writer, course.profile, course.tower)
    found = {}
    for done, clip in enumerate(clips, start=1):
        found[clip.path.name] = as_row(clip, *answerer.answers(clip, tasks))
        report(done, len(clips), f"answers, {path.stem}")
    write_predictions(found, path)
    return found


def _joined(first: dict[str, VideoAnswers], second: dict[str, VideoAnswers]) -> dict[str, VideoAnswers]:
    """Join the answers of two adapters for each clip."""
    found = {}
    for name, row in first.items():
        others = {task: second[name].answer(task) for task in TASK_IDS}
        found[name] = msgspec.structs.replace(row, **{task: said for task, said in others.items() if said is not None})
    return found
