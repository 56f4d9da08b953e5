"""From a recipe to a calibrated student bundle: render, train, calibrate, add the demo clip; or tune or refit one.

The steps live in rooms that do not import each other; this module opens them by name and passes folders between them.
Each step skips what an earlier, interrupted run has finished.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_sdk.bundle import Bundle, open_bundle, rewrite
from edge_sdk.bundle.demo_clip import DEMO
from edge_sdk.bundle.manifest import OperatingPoint
from edge_sdk.clips import (
    LABELS_NAME,
    LabelledClip,
    content_of,
    label_line,
    read_folder,
    read_groups,
    read_labels,
    read_scenes,
)
from edge_sdk.console import Progress
from edge_sdk.errors import ConfigError
from edge_sdk.files import check_folder, check_new
from edge_sdk.perception.operating import points_of
from edge_sdk.registry import open_room
from edge_sdk.runtime import SessionOptions
from edge_sdk.toolchain import ranks
from edge_sdk.toolchain.cautions import warn_of_answers, warn_of_seen, warn_of_slow
from edge_sdk.toolchain.evaluating import VIDEO_SUFFIXES
from edge_sdk.toolchain.sides import check_sides
from edge_sdk.types import Value

DEMO_SIZE = (400, 240)
DEMO_FPS = 30.0


class StudentReport(Value, frozen=True, kw_only=True):
    """The result of training a student."""

    bundle: str
    sha256: str
    training_clips: int
    validation_f1: float
    validation_start_mae_s: float | None


class TeachingReport(Value, frozen=True, kw_only=True):
    """The result of filling a teacher's cache."""

    cache: str
    clips: int
    teacher: str
    teacher_sha256: str


def teach(
    bundle: Path,
    clips: Path,
    out: Path,
    *,
    window_s: float = 4.0,
    stride_s: float = 1.0,
    profile: str | None = None,
    runtime: str = "ort",
    device: str = "cpu",
    threads: int = 1,
    quiet: bool = False,
) -> TeachingReport:
    """Let the video LLM of `bundle` watch the clips in the folder `clips`, and keep what it says in the folder `out`.

    A stopped run resumes. Raises `ConfigError` for a folder without clips and for an `out` of another teacher,
    `BundleError` for a bundle without a video LLM, `SourceError` at the end if some clips could not be read, and
    what the runtime raises.
    """
    paths = clips_of(clips)
    room, options = open_room("export.distil.teaching"), SessionOptions(threads=threads, device=device)
    asking = room.Asking(window_s=window_s, stride_s=stride_s)
    with Progress("teach", quiet=quiet) as progress:
        cache = room.teach(
            open_bundle(bundle),
            paths,
            out,
            asking=asking,
            profile=profile,
            runtime=runtime,
            options=options,
            on_progress=progress,
        )
    return TeachingReport(
        cache=str(out), clips=len(paths), teacher=cache.info.bundle, teacher_sha256=cache.info.bundle_sha256
    )


def clips_of(folder: Path) -> list[Path]:
    """Return the clips of a folder's label table, else every video in it. Raises `ConfigError` if there are none."""
    if (folder / LABELS_NAME).is_file():
        return sorted(read_groups(folder / LABELS_NAME))
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    paths = [path for path in found if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")]
    if not paths:
        raise ConfigError(f"{folder} holds no clip to teach on; expected videos such as *.mp4, or {LABELS_NAME}")
    return paths


def _without_labels(folder: Path) -> list[LabelledClip]:
    """Return the clips of a folder as unlabelled ones; of a label table only the recordings (groups) are read."""
    table = folder / LABELS_NAME
    groups = read_groups(table) if table.is_file() else {}
    return [
        LabelledClip(
            path=path,
            view="dashcam",
            crash=False,
            start_s=None,
            end_s=None,
            pre_crash_s=None,
            group=groups.get(path, path.stem),
            labelled=False,
        )
        for path in clips_of(folder)
    ]


class RefitReport(Value, frozen=True, kw_only=True):
    """The result of a refit. `held_out` is how the operating points perform on clips that their fits had not seen."""

    bundle: str
    sha256: str
    clips: int
    operating_points: tuple[OperatingPoint, ...]
    # Any: a value of the calibration room.
    held_out: Any


def make_student(
    recipe: str,
    work: Path,
    out: Path,
    *,
    teacher: Path | None = None,
    start: Path | None = None,
    quiet: bool = False,
) -> StudentReport | None:
    """Make the student of `recipe` in the folder `work` and write its bundle to `out`.

    `teacher` is a cache that `teach` made of the training clips, for a recipe with a table [teacher]. Several processes
    share the stages before [late]; one of them does the rest and returns the report, the others return None. `start` is
    a bundle with the result of the recipe's stages before [onward], on these or other scenes; those stages are then
    skipped. Raises `ConfigError` for an unknown recipe, for a `start` that another recipe made, or if `out` exists;
    `MissingDependencyError` for a package that is not installed.
    """
    check_new(out)
    if start is not None:
        ranks.check_alone("of the last stage alone (--from)")
    plan, text = open_room("export.distil.recipe").load_recipe(recipe)
    begun = None if start is None else open_bundle(start)
    open_room("export.distil.student").check(plan, teacher, begun)
    with ranks.main_first():
        training = _render(plan.scenes.training, work, quiet)
        cache = None if teacher is None else open_room("export.distil.teacher_cache").TeacherCache.open(teacher)
        if cache is not None:
            open_room("export.distil.teacher_targets").require_lessons(cache, [clip.path for clip in training])
        validation = _render(plan.scenes.validation, work, quiet)
        further = [] if plan.scenes.further is None else _render(plan.scenes.further, work, quiet)
    check_sides([*training, *further], validation)
    if begun is not None:
        warn_of_seen(begun, validation)
    # The name depends on the recipe, so that a draft of another recipe in `work` does not count as finished.
    taught = [] if cache is None else [cache.digest]
    draft = work / f"draft-{_digest([text, *taught, *([begun.sha256] if begun else [])])}"
    if not draft.exists():
        with Progress("train", quiet=quiet) as progress:
            made = open_room("export.distil.student").train(
                plan, text, training, validation, draft, work, progress, teacher=teacher, further=further, start=begun
            )
            if made is None:
                return None
    else:
        ranks.leave()
        if not ranks.is_main():
            return None
    clip = _demo_clip(plan.scenes.demo_seed, work / "demo", quiet)
    return _calibrated(
        draft,
        out,
        validation,
        len(training) + len(further),
        quiet,
        demo=DEMO,
        extra_files={DEMO.video: clip, DEMO.record: clip.with_suffix(".json")},
    )


def tune_student(
    start: Path | None,
    training: Path,
    validation: Path,
    out: Path,
    work: Path,
    *,
    rehearsal: Path | None = None,
    recipe: str | None = None,
    level: bool = False,
    teacher: Path | None = None,
    unlabelled: Path | None = None,
    quiet: bool = False,
) -> StudentReport:
    """Fine-tune the student of the bundle `start` (the demo bundle if None) on the clips of a folder.

    `training` and `validation` are folders with a `labels.csv`, or of rendered scenes. The operating point is fitted on
    `validation`, which needs at least 20 clips, both crashes and others. `rehearsal` is a folder of rendered scenes to
    mix in, which teach boxes. With `level`, clips are brought to one detail and codec before training; the operating
    point is still fitted on unchanged clips of `validation`. `teacher` is a cache that `teach` made of the clips in
    `training`, `rehearsal` and `unlabelled`, for a recipe with a table [teacher]. `recipe` defaults to "tune-student",
    or to "tune-student-taught" with a teacher. Videos in the folder `unlabelled` are labelled by the teacher only;
    labels that lie there are not read. Raises `ConfigError` for folders without clips, too few clips to fit an
    operating point, clips of one recording or equal files on both sides, clips that the teacher has not seen, `level`
    together with a teacher, `unlabelled` without a teacher, or if `out` exists.
    """
    check_new(out)
    if level and teacher is not None:
        raise ConfigError("--level makes other clips, which the teacher has not seen; leave --level or --teacher out")
    ranks.check_alone("on labelled clips")
    clips, held_out = read_folder(training), read_folder(validation)
    scenes = read_scenes(rehearsal) if rehearsal else []
    more = [] if unlabelled is None else _without_labels(unlabelled)
    check_sides([*clips, *scenes], held_out, more, unlabelled)
    open_room("calibration.operating_points").check_clips(held_out)
    begun = open_bundle(start)
    usual = "tune-student" if teacher is None else "tune-student-taught"
    plan, text = open_room("export.distil.tuning").load_tuning(recipe or usual)
    warn_of_seen(begun, held_out)
    cache = open_room("export.distil.tune").open_lessons(plan, teacher, for_unlabelled=bool(more))
    learnt = [] if cache is None else [cache.digest]
    watched = held_out
    if level:
        with Progress("level", quiet=quiet) as progress:
            clips, watched = (
                open_room("export.distil.levelled").level_clips(some, work / "levelled", on_progress=progress)
                for some in (clips, held_out)
            )
    sides = {"training": clips, "held out": watched, "rehearsal": scenes, "without labels": more}
    lines = [line for name, side in sides.items() for line in (name, *map(_line, side))]
    draft = work / f"draft-{_digest([text, *learnt, begun.sha256, *lines])}"
    if not draft.exists():
        with Progress("train", quiet=quiet) as progress:
            open_room("export.distil.tune").tune(
                begun, plan, text, clips, watched, scenes, draft, work, progress, teacher, more
            )
    # Fitted on unchanged clips, because that is how the device sees them.
    return _calibrated(draft, out, held_out, len(clips) + len(more), quiet)


def refit(
    bundle: Path | None,
    clips: Path,
    out: Path,
    *,
    picture: Path | None = None,
    budgets: Mapping[str, float] | None = None,
    quiet: bool = False,
) -> RefitReport:
    """Write `bundle` (the demo bundle if None) to `out` with operating points refitted on labelled `clips`.

    `clips` is a folder of scenes, or a label table (`read_labels`); the student must not have been trained on them.
    `budgets` are false alarms per hour for `quiet`, `balanced` and `sensitive`; those not given have their defaults.
    `picture` is the file for a reliability diagram. Raises `ConfigError` if `out` exists, for budgets that do not
    increase, and for too few clips.
    """
    check_new(out)
    if picture is not None:
        # Imported here because it needs an optional package, and before scoring so that a missing one is noticed early.
        from edge_sdk.picture import draw_reliability

        check_folder(picture.parent)
    opened, labelled = open_bundle(bundle), read_labels(clips) if clips.is_file() else read_folder(clips)
    asked = open_room("calibration.alarm_budgets").Budgets(**(budgets or {}))
    warn_of_seen(opened, labelled)
    with Progress("score", quiet=quiet) as progress:
        fitted = open_room("calibration.refit").calibrate_bundle(opened, labelled, progress, asked)
    student, fit, held_out, slow = fitted
    warn_of_slow(slow)
    warn_of_answers(opened)
    made = rewrite(opened, out, student=student, provenance={"operating_point": fit, "held_out": held_out})
    if picture is not None and held_out is not None:
        draw_reliability({"as scored": held_out.raw, "calibrated": held_out.calibrated}, picture)
    return RefitReport(
        bundle=str(out),
        sha256=made.sha256,
        clips=fit.clips,
        operating_points=tuple(points_of(student).values()),
        held_out=held_out,
    )


def describe_refit(report: RefitReport) -> str:
    """Describe a refit for a terminal: a table of the operating points on clips that their fits had not seen."""
    found = report.held_out
    few = "too few clips to hold any out: the fit is not judged, and no picture of it is drawn"
    said = open_room("calibration.held_out").describe(found) if found else few
    return f"{report.bundle}: operating points fitted on {report.clips} clips\n{said}"


# Any: further arguments of `rewrite`, each of its own type.
def _calibrated(
    draft: Path, out: Path, clips: Sequence[LabelledClip], trained_on: int, quiet: bool, **parts: Any
) -> StudentReport:
    """Write the bundle `draft` to `out` with operating points fitted on `clips`, and with `parts`."""
    bundle = Bundle.open(draft)
    with Progress("calibrate", quiet=quiet) as progress:
        student, fit, judged, slow = open_room("calibration.refit").calibrate_bundle(bundle, clips, progress)
    warn_of_slow(slow)
    made = rewrite(bundle, out, student=student, provenance={"operating_point": fit, "held_out": judged}, **parts)
    return StudentReport(
        bundle=str(out),
        sha256=made.sha256,
        training_clips=trained_on,
        validation_f1=fit.f1,
        validation_start_mae_s=fit.start_mae_s,
    )


def _line(clip: LabelledClip) -> str:
    return f"{content_of(clip)} {label_line(clip)}"


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


# Any: the seeds come from a recipe, whose type belongs to the room that reads it.
def _render(seeds: Any, work: Path, quiet: bool) -> list[LabelledClip]:
    kind = "" if seeds.of == "any" else f"-{seeds.of}"
    kind += "" if seeds.family == "first" else f"-{seeds.family}"
    folder = work / f"scenes-{seeds.first}-{seeds.count}{kind}"
    chosen = open_room("calibration.scenes.choice").choose_seeds(seeds.first, seeds.count, seeds.of)
    with Progress(f"render {folder.name}", quiet=quiet) as progress:
        open_room("calibration.scenes.render").render(
            chosen, folder, family=seeds.family, on_progress=lambda at: progress(at.done, at.total)
        )
    return read_scenes(folder)


def _demo_clip(seed: int, folder: Path, quiet: bool) -> Path:
    with Progress("render demo clip", quiet=quiet) as progress:
        records = open_room("calibration.scenes.render").render(
            [seed], folder, fps=DEMO_FPS, size=DEMO_SIZE, on_progress=lambda at: progress(at.done, at.total)
        )
    return folder / f"{records[0].name}.mp4"
