"""Trains a student on labelled clips and writes its bundle.

The run can be interrupted at any time: a checkpoint is written after every epoch, and every window is drawn from the
seed, the step and its number, so a resumed run continues with the windows it would have seen.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
import torch

from edge_sdk.bundle import Bundle
from edge_sdk.clips import LabelledClip, content_of, label_line
from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.curves import draw_curves
from edge_sdk.export.distil.data import CachedClip, load_clips
from edge_sdk.export.distil.distilled import Distillation
from edge_sdk.export.distil.evaluate import measure, score_clip
from edge_sdk.export.distil.from_bundle import as_start, load_student
from edge_sdk.export.distil.head import train_head
from edge_sdk.export.distil.late import train_late
from edge_sdk.export.distil.late_features import LateFeatures
from edge_sdk.export.distil.onward import train_onward
from edge_sdk.export.distil.recipe import Recipe, Stage, Teacher
from edge_sdk.export.distil.run import Run, begin
from edge_sdk.export.distil.steps import train_step
from edge_sdk.export.distil.teacher_cache import TeacherCache, cache_for
from edge_sdk.export.distil.teacher_targets import Lessons
from edge_sdk.export.distil.windows import WindowSampler
from edge_sdk.export.distil.workers import WORKERS, Workers
from edge_sdk.export.graphs.student import Student
from edge_sdk.export.mini.training import leave, processes
from edge_sdk.export.student_bundle import write_student_bundle
from edge_sdk.files import check_new, write_json

# (done, total, note)
Progress = Callable[[int, int, str], object]
# Validation clips scored after an epoch; all of them after the last one.
QUICK_VALIDATION = 60
# Letters of a digest in a file name.
_LETTERS = 12


def train(
    recipe: Recipe,
    recipe_text: str,
    clips: Sequence[LabelledClip],
    validation: Sequence[LabelledClip],
    out: Path,
    work: Path,
    on_progress: Progress | None = None,
    teacher: Path | None = None,
    further: Sequence[LabelledClip] = (),
    start: Bundle | None = None,
) -> Path | None:
    """Train by `recipe` and write the bundle to `out`; caches, checkpoints and curves go to `work`. Returns `out`.

    `teacher` is a teacher's cache, for a recipe with a table [teacher]. `further` clips are shown only in the stage
    [onward]. `start` holds a student made by the stages before [onward]; with it, only [onward] is run. Of several
    processes one writes the bundle, and the others return None. Raises `ConfigError` when there are no clips to train
    or to validate on, when `out` exists, for clips without labels and without a teacher, for a recipe and a cache that
    do not match, and for a `start` of another recipe or a recipe without [onward].
    """
    cache = open_cache(recipe, teacher)
    if cache is None and not all(clip.labelled for clip in clips):
        raise ConfigError("expected a teacher, because some clips have no labels, found none; give --teacher CACHE")
    if not clips or not validation:
        raise ConfigError(f"expected clips on both sides, found {len(clips)} to train on and {len(validation)} to test")
    check_new(out)
    given = None if start is None else begun(recipe, start)
    report = on_progress or silent
    with processes().main_process_first() if spread(cache) else nullcontext():
        training_clips = load_clips(
            clips, work, recipe.pictures, lambda done, all_: report(done, all_, "decode, training")
        )
        held_out = load_clips(
            validation, work, recipe.pictures, lambda done, all_: report(done, all_, "decode, held out")
        )
        more = load_clips(further, work, recipe.pictures, lambda done, all_: report(done, all_, "decode, further"))
    if given is None or start is None:
        early = _early_stages(recipe, clips, training_clips, held_out, work, report, cache)
        if early is None:
            return None
        run, begin_with = early
        student = run.averaged()
    else:
        run, student, begin_with = None, given, start.sha256[:_LETTERS]
    if recipe.onward is not None:
        made = f"{digest(recipe, [*clips, *further])}-{begin_with}{taught(cache)}"
        shown, checkpoint = [*training_clips, *more], work / f"onward-{made}.pt"
        run = train_onward(run, student, recipe, recipe.onward, shown, held_out, checkpoint, report)
    if run is None:
        raise RuntimeError("without [onward] there is no start, and the stages before were run")
    draw_curves(work / "curves.png", run.losses, run.metrics)
    model, losses = run.averaged(), run.losses
    scores = [score_clip(model, clip, recipe, recipe.pictures.height, recipe.pictures.width) for clip in held_out]
    metrics = measure(scores, held_out, recipe)
    write_json(work / "metrics.json", metrics, indent=1)
    provenance = {
        "recipe": recipe_text,
        "clips_sha256": digest(recipe, [*clips, *further]),
        "training_clips": len(clips) + len(further),
        "losses": [round(loss, 5) for loss in losses],
        "validation": msgspec.to_builtins(metrics),
        "torch": str(torch.__version__),
    }
    if cache is not None:
        provenance["teacher"] = msgspec.to_builtins(cache.info)
    if start is not None:
        provenance["start"] = as_start(start)
    write_student_bundle(out, model, recipe, provenance)
    return out


def check(recipe: Recipe, teacher: Path | None, start: Bundle | None) -> None:
    """Raise what `train` raises for a `teacher` or a `start` that does not match `recipe`; needs no clips."""
    open_cache(recipe, teacher)
    if start is not None:
        begun(recipe, start)


def begun(recipe: Recipe, start: Bundle) -> Student:
    """Load the student of `start`, which the stages of `recipe` before [onward] must have made, on any scenes.

    Raises `ConfigError` if they did not, and for a recipe without [onward].
    """
    if recipe.onward is None:
        raise ConfigError(
            f"recipe {recipe.name!r} has no table [onward], the only stage that continues another student; add one, "
            "or train without a start"
        )
    student, made_by = load_student(start)

    def early(some: Recipe) -> Recipe:
        change = msgspec.structs.replace
        return change(some, name="", version="", onward=None, shape=recipe.shape, scenes=recipe.scenes)

    known = early(made_by)
    wanted = early(recipe)
    unlike = [name for name in Recipe.__struct_fields__ if getattr(known, name) != getattr(wanted, name)]
    before = msgspec.structs.replace(recipe, onward=None).final_shape
    if unlike or student.shape != before:
        raise ConfigError(
            f"bundle {start.manifest.name!r} was made by a recipe that differs in {', '.join(unlike) or 'shape'}; "
            "give one that the stages of this recipe before [onward] made"
        )
    return student


def _early_stages(
    recipe: Recipe,
    clips: Sequence[LabelledClip],
    cached: Sequence[CachedClip],
    held_out: Sequence[CachedClip],
    work: Path,
    report: Progress,
    cache: TeacherCache | None,
) -> tuple[Run, str] | None:
    """Run all stages before [onward]; returns the run, and a digest of the weights that [[stages]] made.

    [[stages]] and [late] resume from their checkpoints. Files of the stages after [[stages]] are named by the digest: a
    GPU and a CPU make different weights from one recipe and its clips. Returns None in all processes but the main one.
    """
    recipe = msgspec.structs.replace(recipe, onward=None)
    made_early = digest(msgspec.structs.replace(recipe, late=None, head=None), clips)
    torch.manual_seed(recipe.seed)
    run = begin(Student(recipe.shape), recipe)
    checkpoint = work / f"checkpoint-{made_early}.pt"
    if spread(cache):
        checkpoint = work / f"distilled-{made_early}{taught(cache)}.pt"
        teacher = Teacher() if recipe.teacher is msgspec.UNSET else recipe.teacher
        lessons = None if cache is None else Lessons(cache, cached, recipe, teacher)
        main = Distillation(run, recipe, teacher, cached, lessons, checkpoint).train(held_out, report)
        leave()
        if not main:
            return None
    else:
        run.restore(checkpoint)
        train_stages(run, recipe, cached, held_out, checkpoint, report)
    weights = run.digest[:_LETTERS]
    if recipe.late is not None:
        features = LateFeatures(
            run.averaged(),
            recipe,
            cached,
            work / f"picture-features-{made_early}-{weights}{taught(cache)}",
            lambda done, total: report(done, total, "picture features"),
        )
        made_late = digest(msgspec.structs.replace(recipe, head=None), clips)
        checkpoint = work / f"late-{made_late}-{weights}{taught(cache)}.pt"
        run = train_late(run, recipe, features, held_out, checkpoint, report)
        if recipe.head is not None:
            run = train_head(run, recipe, features, held_out, report)
    return run, weights


def spread(cache: TeacherCache | None) -> bool:
    """Whether the stages before [late] run under `accelerate`: with a teacher, on a GPU, or in several processes.

    On one CPU and with labels only, two threads are faster, see `workers`.
    """
    return cache is not None or torch.cuda.is_available() or int(os.environ.get("WORLD_SIZE", "1")) > 1


def taught(cache: TeacherCache | None) -> str:
    """The suffix in names of files made with a teacher's lessons; empty without a teacher."""
    return "" if cache is None else f"-{cache.digest}"


def open_cache(recipe: Recipe, teacher: Path | None) -> TeacherCache | None:
    """Open the cache that `recipe` is trained with. Raises `ConfigError` where the two do not match."""
    return cache_for(recipe.name, recipe.teacher is not msgspec.UNSET, teacher)


def train_stages(
    run: Run,
    recipe: Recipe,
    clips: Sequence[CachedClip],
    held_out: Sequence[CachedClip],
    checkpoint: Path,
    report: Progress,
) -> None:
    """Train the remaining epochs of the recipe's stages; a checkpoint and the curves are written after each epoch."""
    plan = [stage for stage in recipe.stages for _ in range(stage.epochs)]
    steps = [_steps(clips, recipe, stage) for stage in plan]
    sampler: WindowSampler | None = None
    with Workers(run.model, WORKERS) as workers:
        for epoch in range(len(run.losses), len(plan)):
            if sampler is None or plan[epoch] != plan[epoch - 1]:
                sampler = WindowSampler(clips, recipe, plan[epoch].height, plan[epoch].width)
            run.losses.append(_epoch(run, recipe, sampler, workers, plan[epoch], (epoch, steps), report))
            last = epoch + 1 == len(plan) or plan[epoch + 1] != plan[epoch]
            quick = held_out if last else held_out[:QUICK_VALIDATION]
            model = run.averaged()
            scores = [score_clip(model, clip, recipe, plan[epoch].height, plan[epoch].width) for clip in quick]
            run.metrics.append(measure(scores, quick, recipe))
            report(sum(steps[: epoch + 1]), sum(steps), run.note())
            run.save(checkpoint)
            draw_curves(checkpoint.with_name("curves.png"), run.losses, run.metrics)


def _steps(clips: Sequence[CachedClip], recipe: Recipe, stage: Stage) -> int:
    """Steps per epoch: one window ends in each clip, so a frame is seen about once."""
    return max(1, len(clips) // stage.windows)


def _epoch(
    run: Run,
    recipe: Recipe,
    sampler: WindowSampler,
    workers: Workers,
    stage: Stage,
    position: tuple[int, list[int]],
    report: Progress,
) -> float:
    epoch, steps = position
    order = np.random.default_rng([recipe.seed, epoch]).permutation(sampler.clips)
    run.model.train()
    total = 0.0
    for index in range(steps[epoch]):
        chosen = order[index * stage.windows : (index + 1) * stage.windows]
        run.set_rate(recipe.optimiser.learning_rate, recipe.optimiser.warm_up_share, sum(steps))
        total += train_step(run, recipe, sampler, workers, stage.micro, chosen)
        report(run.step, sum(steps), f"epoch {epoch + 1}/{len(steps)} loss {total / (index + 1):.4f}")
    return total / steps[epoch]


def digest(recipe: Recipe, clips: Sequence[LabelledClip]) -> str:
    """The digest of the recipe, the clips and their labels: a checkpoint may be resumed only for the same ones."""
    rows = [f"{_content(clip)} {label_line(clip)}" for clip in clips]
    return hashlib.sha256("\n".join([msgspec.json.encode(recipe).decode(), *rows]).encode()).hexdigest()[:16]


@lru_cache(maxsize=100_000)
def _content(clip: LabelledClip) -> str:
    """Cached `content_of`: a run asks several times, and its clips do not change."""
    return content_of(clip)


def silent(done: int, total: int, note: str) -> None:
    """Ignore the progress."""
