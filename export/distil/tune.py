"""Runs a fine-tuning: clips in, a checkpoint after every epoch, a bundle out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest import OperatingPoint
from edge_sdk.bundle.student_origin import CLIPS_SEEN, clips_seen
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.data import CachedClip, load_clips
from edge_sdk.export.distil.distilled import Distillation
from edge_sdk.export.distil.evaluate import measure, score_clip
from edge_sdk.export.distil.from_bundle import load_student, origin, recipe_text
from edge_sdk.export.distil.recipe import Recipe
from edge_sdk.export.distil.run import Run, begin
from edge_sdk.export.distil.student import Progress, digest, silent, taught, train_stages
from edge_sdk.export.distil.teacher_cache import TeacherCache, cache_for
from edge_sdk.export.distil.teacher_targets import Lessons, require_lessons
from edge_sdk.export.distil.tuning import Tuning, balanced, rehearsed, tuned_recipe
from edge_sdk.export.graphs.student import Student
from edge_sdk.export.student_bundle import write_student_bundle
from edge_sdk.files import check_new


def tune(
    start: Bundle,
    plan: Tuning,
    plan_text: str,
    clips: Sequence[LabelledClip],
    validation: Sequence[LabelledClip],
    rehearsal: Sequence[LabelledClip],
    out: Path,
    work: Path,
    on_progress: Progress | None = None,
    teacher: Path | None = None,
    unlabelled: Sequence[LabelledClip] = (),
) -> Path:
    """Train the student of `start` on `clips` by `plan` and write the bundle `out`; the operating point is kept.

    `rehearsal` holds rendered scenes; the plan says how many are used. Caches and checkpoints go to `work`. `teacher`
    is a teacher's cache of all clips that are trained on, for a plan with a table [teacher]; it is the only source of
    targets for `unlabelled` clips. Returns `out`. Raises `ConfigError` when there are no clips to train or to validate
    on, no crash among those to train on, when `out` exists, for a plan and a cache that do not match, for clips without
    labels and without a teacher, and for a clip that the teacher has not seen.
    """
    cache = open_lessons(plan, teacher, for_unlabelled=bool(unlabelled))
    if not validation or not any(clip.crash for clip in clips):
        raise ConfigError(
            f"expected clips on both sides and a crash to train on, found {len(clips)} and {len(validation)} clips, "
            f"{sum(clip.crash for clip in clips)} crashes to train on"
        )
    check_new(out)
    report = on_progress or silent
    if cache is not None:
        require_lessons(cache, [clip.path for clip in [*clips, *rehearsal, *unlabelled]])
    model, base = load_student(start)
    recipe = tuned_recipe(base, plan)

    def load(some: Sequence[LabelledClip], what: str) -> list[CachedClip]:
        return load_clips(some, work, recipe.pictures, lambda done, total: report(done, total, f"decode, {what}"))

    own, held_out = balanced(load(clips, "training")), load(validation, "held out")
    chosen = rehearsed(plan.rehearsal_share, len(own) + len(unlabelled), len(rehearsal))
    shown = [*own, *load([rehearsal[i] for i in chosen], "rehearsal"), *load(unlabelled, "without labels")]
    checkpoint = tuning_checkpoint(work, start.sha256, recipe, plan, shown, cache)
    run = run_tuning(model, recipe, plan, shown, held_out, checkpoint, report, cache)
    tuned = blended(run.averaged(), load_student(start)[0], plan.blend)
    noted = {
        "labelled_clips": len(clips),
        "unlabelled_clips": len(unlabelled),
        CLIPS_SEEN: clips_seen(start, [*clips, *(rehearsal[i] for i in chosen), *unlabelled]),
    }
    return write_tuned(out, start, recipe, plan_text, tuned, run.losses, held_out, cache, noted)


def open_lessons(plan: Tuning, teacher: Path | None, *, for_unlabelled: bool = False) -> TeacherCache | None:
    """Open the cache that `plan` is tuned with; `for_unlabelled` says whether there are clips without labels.

    Raises `ConfigError` where plan and cache do not match, and for clips without labels and without a cache.
    """
    if for_unlabelled and teacher is None:
        raise ConfigError(
            "expected a teacher, because some clips have no labels, found none; teach them with: "
            "edge-sdk distil teach BUNDLE --clips DIR --out CACHE, and give --teacher CACHE"
        )
    return cache_for("of this tuning", plan.teacher is not msgspec.UNSET, teacher)


def run_tuning(
    model: Student,
    recipe: Recipe,
    plan: Tuning,
    shown: Sequence[CachedClip],
    held_out: Sequence[CachedClip],
    checkpoint: Path,
    report: Progress,
    cache: TeacherCache | None = None,
) -> Run:
    """Train `model` on one window that ends in each of `shown` per epoch; resume from `checkpoint` if it exists.

    With the `cache` of a teacher that has seen all of `shown`, it learns from the teacher in addition to the labels.
    """
    run = begin(model.drop(*plan.dropout), recipe)
    if cache is not None and plan.teacher is not msgspec.UNSET:
        lessons = Lessons(cache, shown, recipe, plan.teacher)
        Distillation(run, recipe, plan.teacher, shown, lessons, checkpoint).train(held_out, report)
        return run
    run.restore(checkpoint)
    train_stages(run, recipe, shown, held_out, checkpoint, report)
    return run


def tuning_checkpoint(
    work: Path,
    begun: str,
    recipe: Recipe,
    plan: Tuning,
    shown: Sequence[CachedClip],
    cache: TeacherCache | None = None,
) -> Path:
    """The path of a run's checkpoint, named by everything that decides its weights; `blend` does not.

    `begun` is the SHA-256 of the bundle whose student the run begins with, or "scratch"; `cache` is the teacher's.
    """
    learnt = msgspec.structs.replace(plan, blend=1.0)
    planned = hashlib.sha256(msgspec.json.encode(learnt)).hexdigest()[:12]
    seen = digest(recipe, [clip.label for clip in shown])
    return work / f"tuned-{begun[:12]}-{planned}-{seen}{taught(cache)}.pt"


@torch.no_grad()
def blended(tuned: Student, before: Student, share: float) -> Student:
    """Blend the weights of `tuned`, with weight `share`, and those of `before`, in place. Returns `tuned`."""
    others = before.state_dict()
    for name, value in tuned.state_dict().items():
        if value.is_floating_point():
            value.lerp_(others[name], 1 - share)
    return tuned


def write_tuned(
    out: Path,
    start: Bundle,
    recipe: Recipe,
    plan_text: str,
    model: Student,
    losses: Sequence[float],
    held_out: Sequence[CachedClip],
    cache: TeacherCache | None = None,
    further: Mapping[str, Any] | None = None,
) -> Path:
    """Write a tuned student as the bundle `out`, with the operating point of `start`. Returns `out`.

    Provenance names the teacher, if its `cache` was used, and includes `further`.
    """
    size = recipe.pictures.height, recipe.pictures.width
    metrics = measure([score_clip(model, clip, recipe, *size) for clip in held_out], held_out, recipe)
    # Any: see Manifest.provenance.
    provenance: Mapping[str, Any] = {
        "recipe": recipe_text(start),
        "tuning": plan_text,
        "tuned_from": {"bundle": start.manifest.name, "sha256": start.sha256},
        **origin(start),
        "losses": [round(loss, 5) for loss in losses],
        "validation": msgspec.to_builtins(metrics),
        **(further or {}),
    }
    if cache is not None:
        provenance = {**provenance, "teacher": msgspec.to_builtins(cache.info)}
    entry = start.manifest.student
    write_student_bundle(out, model, recipe, provenance, OperatingPoint() if entry is None else entry.operating_point)
    return out
