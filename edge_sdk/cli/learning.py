"""Verbs that render training scenes and train models: students and the small video LLM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from edge_sdk.cli.app import (
    BundleOption,
    DeviceOption,
    JsonOption,
    RuntimeOption,
    ThreadsOption,
    distil_app,
    scenes_app,
)
from edge_sdk.cli.options import refuse_stray
from edge_sdk.console import Progress, parse_size, say
from edge_sdk.errors import ConfigError
from edge_sdk.registry import open_room

if TYPE_CHECKING:
    from edge_sdk.clips import LabelledClip


@scenes_app.command("render")
def scenes_render(
    out: Path,
    first_seed: Annotated[int | None, typer.Option(help="First seed; default: 0.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Number of seeds; default: 10.")] = None,
    suite: Annotated[bool, typer.Option("--suite", help="Render the family's test suite, never trained on.")] = False,
    calibration_set: Annotated[
        bool, typer.Option("--calibration-set", help="Render the committed calibration scenes.")
    ] = False,
    family: Annotated[
        str | None,
        typer.Option(
            help="first (default); broad: more kinds of crashes and look-alikes; close: all parties large in the "
            "picture; soft: contacts that stop nobody, and crashes of which only the aftermath is seen."
        ),
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second; default: 10.")] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels; default: 320x192.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Scenes rendered in parallel.")] = 2,
    json: JsonOption = False,
) -> None:
    """Render labelled scenes into OUT: COUNT seeds, the family's test suite (`--suite`), or the calibration set."""
    if calibration_set:
        refuse_stray(
            "the calibration set is the same everywhere",
            {
                "--first-seed": first_seed,
                "--count": count,
                "--suite": suite,
                "--family": family,
                "--fps": fps,
                "--size": size,
            },
        )
        _render_calibration_set(out, jobs, json)
        return
    if suite:
        refuse_stray("a family's test suite has seeds of its own", {"--first-seed": first_seed, "--count": count})
    test_seeds = open_room("calibration.scenes.families").find_family(family or "first").suite
    begin = first_seed or 0
    seeds = test_seeds() if suite else range(begin, begin + (count or 10))
    with Progress("render", quiet=json) as progress:
        records = open_room("calibration.scenes.render").render(
            seeds,
            out,
            fps=10.0 if fps is None else fps,
            size=parse_size(size or "320x192"),
            jobs=jobs,
            family=family or "first",
            on_progress=lambda at: progress(at.done, at.total),
        )
    crashes = sum(record.crash for record in records)
    found = {"out": str(out), "clips": len(records), "crashes": crashes}
    say(msgspec.json.encode(found).decode() if json else f"{len(records)} clips in {out}, {crashes} with a crash")


def _render_calibration_set(out: Path, jobs: int, json: bool) -> None:
    with Progress("render", quiet=json) as progress:
        made = open_room("calibration.scenes.calibration_set").render_calibration_set(
            out, jobs=jobs, on_progress=lambda at: progress(at.done, at.total)
        )
    found = {
        "out": str(out),
        "clips": len(made.records),
        "crashes": sum(record.crash for record in made.records),
        "records_sha256": made.records_sha256,
        "changed": list(made.changed),
    }
    how = "every record is the committed one"
    if made.changed:
        how = f"{len(made.changed)} records are not the committed ones, so other libraries planned them: "
        how += ", ".join(made.changed)
    line = f"{found['clips']} clips in {out}, {found['crashes']} with a crash; {how}; list {made.records_sha256[:12]}"
    say(msgspec.json.encode(found).decode() if json else line)


@scenes_app.command("sheet")
def scenes_sheet(
    folder: Path,
    out: Path,
    kind: Annotated[str | None, typer.Option(help="Only scenes of this kind or scenario.")] = None,
    clip: Annotated[
        list[str] | None, typer.Option(help="Only the clip of this name, without suffix; repeatable.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Maximum number of rows, without --clip.")] = 12,
    json: JsonOption = False,
) -> None:
    """Write a contact sheet of the labelled clips in FOLDER as PNG: one row per clip, red edges during the crash."""
    from edge_sdk.clips import read_folder

    found_clips = {each.path.stem: each for each in read_folder(folder)}
    missing = [name for name in clip or () if name not in found_clips]
    if missing:
        raise ConfigError(f"{folder} has no clip named {missing[0]!r}; it has {len(found_clips)} clips")
    named = [found_clips[name] for name in clip] if clip else list(found_clips.values())
    shown = [each for each in named if kind is None or _of_kind(each, kind)]
    shown = shown if clip else shown[:most]
    open_room("calibration.scenes.sheet").write_sheet(shown, out)
    found = {"picture": str(out), "rows": [clip.path.stem for clip in shown]}
    say(msgspec.json.encode(found).decode() if json else f"{len(shown)} clips in {out}: {', '.join(found['rows'])}")


def _of_kind(clip: LabelledClip, kind: str) -> bool:
    return clip.record is not None and kind in (clip.record.kind, clip.record.scenario)


@scenes_app.command("truth")
def scenes_truth(folder: Path, json: JsonOption = False) -> None:
    """Write who hit whom, and why, for the rendered scenes in FOLDER; seeds are planned again, nothing is rendered."""
    with Progress("truth", quiet=json) as progress:
        truths = open_room("calibration.scenes.truth").write_truths(folder, on_progress=progress)
    crashes = sum(truth.cause is not None for truth in truths.values())
    found = {"folder": str(folder), "scenes": len(truths), "crashes": crashes}
    say(msgspec.json.encode(found).decode() if json else f"{len(truths)} scenes in {folder}, {crashes} with a crash")


@distil_app.command("student")
def distil_student(
    out: Path,
    labels: Annotated[bool, typer.Option("--labels", help="Train on the scenes' own labels.")] = False,
    recipe: Annotated[
        str | None,
        typer.Option(help="Name or file; default: student-demo, or tune-student(-taught) with --training (--teacher)."),
    ] = None,
    training: Annotated[Path | None, typer.Option(help="Fine-tune on this folder of labelled clips.")] = None,
    validation: Annotated[Path | None, typer.Option(help="With --training: labelled clips to calibrate on.")] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="Bundle to start from; with --labels, only the last stage is trained.")
    ] = None,
    rehearse: Annotated[Path | None, typer.Option(help="With --training: rendered scenes to mix in.")] = None,
    level: Annotated[bool, typer.Option("--level", help="First bring clips to one detail and codec.")] = False,
    work: Path = Path("out/student"),
    teacher: Annotated[Path | None, typer.Option(help="Cache of `distil teach`, for a recipe with a teacher.")] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(help="With --teacher: folder of videos that only the teacher labels.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train the student on a recipe's rendered scenes, or fine-tune it on your clips, and write the bundle OUT.

    A stopped run resumes. With --labels on several GPUs: `accelerate launch $(which edge-sdk) …`.
    """
    from edge_sdk.toolchain.distillation import StudentReport, make_student, tune_student

    if training is not None and validation is not None:
        refuse_stray("--training continues training on labelled clips", {"--labels": labels})
        report: StudentReport | None = tune_student(
            start,
            training,
            validation,
            out,
            work,
            rehearsal=rehearse,
            recipe=recipe,
            level=level,
            teacher=teacher,
            unlabelled=unlabelled,
            quiet=json,
        )
    elif (training is None) != (validation is None):
        given, missing = ("--validation", "--training") if training is None else ("--training", "--validation")
        raise ConfigError(f"{given} also needs {missing}: clips to train on, and other clips to calibrate on")
    elif not labels or training or validation or rehearse or unlabelled:
        raise ConfigError(
            "expected --labels, to train on rendered scenes, or --training DIR --validation DIR, to continue training "
            "on labelled clips; found neither"
        )
    else:
        refuse_stray("--labels trains on rendered scenes, which are of one origin", {"--level": level})
        report = make_student(recipe or "student-demo", work, out, teacher=teacher, start=start, quiet=json)
    if report:
        say(msgspec.json.encode(report).decode() if json else f"bundle {out}: {report}")


@distil_app.command("teach")
def distil_teach(
    bundle: Annotated[Path, typer.Argument(help="Bundle whose video LLM teaches.")],
    clips: Annotated[Path, typer.Option(help="Folder of clips, such as *.mp4.")],
    out: Annotated[Path, typer.Option(help="Cache folder; an earlier run's is resumed.")],
    window_s: Annotated[float, typer.Option(help="Length of the windows asked about, seconds.")] = 4.0,
    stride_s: Annotated[float, typer.Option(help="Time between the ends of windows, seconds.")] = 1.0,
    profile: Annotated[str | None, typer.Option(help="Vision profile of the bundle, such as 96f.")] = None,
    runtime: RuntimeOption = "ort",
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 1,
    json: JsonOption = False,
) -> None:
    """Let a bundle's video LLM watch CLIPS once, and keep what it says to train students. A stopped run resumes."""
    from edge_sdk.toolchain.distillation import teach

    report = teach(
        bundle,
        clips,
        out,
        window_s=window_s,
        stride_s=stride_s,
        profile=profile,
        runtime=runtime,
        device=device,
        threads=threads,
        quiet=json,
    )
    say(msgspec.json.encode(report).decode() if json else f"{report.cache}: {report.clips} clips, by {report.teacher}")


@distil_app.command("refit")
def distil_refit(
    out: Path,
    clips: Annotated[Path, typer.Option(help="Folder of labelled scenes, or a label table, unseen in training.")],
    bundle: BundleOption = None,
    quiet: Annotated[float, typer.Option(help="False alarms per ordinary hour for quiet.")] = 1.0,
    balanced: Annotated[float | None, typer.Option(help="The same for balanced; default: best F1.")] = None,
    sensitive: Annotated[float, typer.Option(help="The same for sensitive.")] = 30.0,
    picture: Annotated[Path | None, typer.Option(help="PNG to write: reliability diagram on held-out clips.")] = None,
    json: JsonOption = False,
) -> None:
    """Refit the student's scores, intervals and operating points on labelled CLIPS, and write the bundle OUT."""
    from edge_sdk.toolchain.distillation import describe_refit, refit

    budgets = {"quiet": quiet, "sensitive": sensitive} | ({} if balanced is None else {"balanced": balanced})
    report = refit(bundle, clips, out, picture=picture, budgets=budgets, quiet=json)
    say(msgspec.json.encode(report).decode() if json else describe_refit(report))


@distil_app.command("language")
def distil_language(
    out: Path,
    recipe: str = "language-mini",
    work: Path = Path("out/language"),
    training: Annotated[
        Path | None, typer.Option(help="Folder of training scenes; default: rendered by the recipe.")
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option(help="Folder of test scenes; default: rendered by the recipe.")
    ] = None,
    student: Annotated[Path | None, typer.Option(help="Bundle whose student is added to OUT.")] = None,
    start: Annotated[Path | None, typer.Option("--from", help="Bundle whose video LLM is trained further.")] = None,
    most: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of held-out clips answered; default: all.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train a small video LLM and its adapters on the recipe's scenes, write the bundle OUT and score its answers.

    Start a stopped run again to resume it. On several GPUs: `accelerate launch $(which edge-sdk) …`.
    """
    from edge_sdk.toolchain.language_training import describe as describe_training
    from edge_sdk.toolchain.language_training import make_language

    report = make_language(
        recipe, work, out, training=training, held_out=held_out, student=student, start=start, most=most, quiet=json
    )
    if report:
        say(msgspec.json.encode(report).decode() if json else describe_training(report))
