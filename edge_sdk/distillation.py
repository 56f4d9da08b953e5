"""The way from a recipe to a calibrated student bundle: render, train, calibrate, add the demo clip.

The steps live in rooms that do not know each other; this module opens them by name and passes folders between them.
Each step skips what an earlier, interrupted run has finished.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path
from typing import Any

from edge_sdk.bundle import Bundle, rewrite
from edge_sdk.clips import LabelledClip, read_scenes
from edge_sdk.console import Progress
from edge_sdk.errors import ConfigError
from edge_sdk.manifest import DemoClip
from edge_sdk.types import Value

DEMO_SIZE = (400, 240)
DEMO_FPS = 30.0


class StudentReport(Value, frozen=True, kw_only=True):
    """What became of a recipe."""

    bundle: str
    sha256: str
    training_clips: int
    validation_f1: float
    validation_start_mae_s: float | None


def make_student(recipe: str, work: Path, out: Path, *, quiet: bool = False) -> StudentReport:
    """Make the student of `recipe` in the folder `work` and write its bundle to `out`.

    Raises `ConfigError` for an unknown recipe or when `out` exists, `MissingDependencyError` for what is not installed.
    """
    if out.exists():
        raise ConfigError(f"{out} exists already; choose another folder or remove it")
    plan, text = _room("export.distil.recipe").load_recipe(recipe)
    training = _render(plan.scenes.training, work, quiet)
    validation = _render(plan.scenes.validation, work, quiet)
    # Named by the recipe: what another recipe left in `work` must not pass for finished.
    draft = work / f"draft-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if not draft.exists():
        with Progress("train", quiet=quiet) as progress:
            _room("export.distil.student").train(plan, text, training, validation, draft, work, progress)
    bundle = Bundle.open(draft)
    with Progress("calibrate", quiet=quiet) as progress:
        student, fit = _room("calibration.operating_points").calibrate_bundle(bundle, validation, progress)
    clip = _demo_clip(plan.scenes.demo_seed, work / "demo", quiet)
    made = rewrite(
        bundle,
        out,
        student=student,
        demo=DemoClip(video="demo/clip.mp4", record="demo/clip.json"),
        extra_files={"demo/clip.mp4": clip, "demo/clip.json": clip.with_suffix(".json")},
        provenance={"operating_point": fit},
    )
    return StudentReport(
        bundle=str(out),
        sha256=made.sha256,
        training_clips=len(training),
        validation_f1=fit.f1,
        validation_start_mae_s=fit.start_mae_s,
    )


# Any: the seeds are a recipe's, whose type belongs to the room that reads it.
def _render(seeds: Any, work: Path, quiet: bool) -> list[LabelledClip]:
    folder = work / f"scenes-{seeds.first}-{seeds.count}"
    with Progress(f"render {folder.name}", quiet=quiet) as progress:
        _room("calibration.scenes.render").render(
            range(seeds.first, seeds.first + seeds.count), folder, on_progress=lambda at: progress(at.done, at.total)
        )
    return read_scenes(folder)


def _demo_clip(seed: int, folder: Path, quiet: bool) -> Path:
    with Progress("render demo clip", quiet=quiet) as progress:
        records = _room("calibration.scenes.render").render(
            [seed], folder, fps=DEMO_FPS, size=DEMO_SIZE, on_progress=lambda at: progress(at.done, at.total)
        )
    return folder / f"{records[0].name}.mp4"


# Any: a room is opened by name, so that the ground depends on none.
def _room(module: str) -> Any:
    return import_module(f"edge_sdk.{module}")
