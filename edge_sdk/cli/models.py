"""The verbs that make a bundle's models: engines, exports, statistics, few bits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from edge_sdk.cli.app import BundleOption, ExpectOption, JsonOption, TrustOption, app
from edge_sdk.cli.options import refuse_stray
from edge_sdk.console import say
from edge_sdk.errors import ConfigError

DeviceOption = Annotated[
    str | None, typer.Option(help="Where layers compute: cpu, cuda, cuda:N; auto takes CUDA where torch sees it.")
]


@app.command()
def build(
    bundle: BundleOption = None,
    expect: ExpectOption = None,
    trust: TrustOption = None,
    runtime: Annotated[str, typer.Option(help="trt, the TensorRT of this device, or rtx, TensorRT-RTX.")] = "trt",
    target: Annotated[str | None, typer.Option(help="With rtx: a known target; this device by default.")] = None,
    graph: Annotated[list[str] | None, typer.Option(help="Only this graph; may be repeated. Without --slots.")] = None,
    slots: Annotated[list[int] | None, typer.Option(help="Cache sizes of decoders; the largest by default.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of engines. Other verbs look into the user's only: XDG_CACHE_HOME.")
    ] = None,
    streams: Annotated[
        int, typer.Option(min=1, max=64, help="Most sources that one `run` watches; the student takes them together.")
    ] = 4,
    level: Annotated[int, typer.Option(min=0, max=5, help="TensorRT's optimisation level.")] = 3,
    workspace_mb: Annotated[float | None, typer.Option(help="Most that one kernel may use; a quarter of free.")] = None,
    tf32: Annotated[bool, typer.Option("--tf32", help="Let float32 products round their factors.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Go on where memory or the disk looks too small.")] = False,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Build what the cache has too, and replace it: for another --workspace-mb."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Build TensorRT engines from the bundle, and compare them with its reference outputs on this device."""
    from edge_sdk.bundle import open_bundle
    from edge_sdk.engine.shapes import Limits
    from edge_sdk.toolchain.building import BuildOptions
    from edge_sdk.toolchain.building import build as build_engines
    from edge_sdk.toolchain.building import describe as describe_build

    if runtime not in ("trt", "rtx"):
        raise ConfigError(f"--runtime must be trt or rtx, found {runtime!r}")
    options = BuildOptions(
        level=level,
        workspace_mb=workspace_mb,
        tf32=tf32,
        slots=tuple(slots or ()),
        graphs=tuple(graph or ()),
        limits=Limits(streams=streams),
        force=force,
        rebuild=rebuild,
    )
    flavour: Literal["trt", "rtx"] = "trt" if runtime == "trt" else "rtx"
    opened = open_bundle(bundle, expect=expect, trust=trust)
    report = build_engines(opened, flavour, target=target, cache=cache, options=options, quiet=json)
    say(msgspec.json.encode(report).decode() if json else describe_build(report))


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a VideoLLaMA3 checkpoint.")],
    out: Annotated[Path, typer.Option(help="The bundle's folder; it must not exist.")],
    adapter: Annotated[list[str] | None, typer.Option(help="NAME=DIR of an adapter; may be repeated.")] = None,
    merge: Annotated[list[str] | None, typer.Option(help="Sum this adapter into decoder weights of its own.")] = None,
    switchable: Annotated[bool, typer.Option("--switchable", help="LoRA matrices as inputs of one decoder.")] = False,
    base_projector: Annotated[bool, typer.Option("--base-projector", help="The adapters bring none.")] = False,
    profile: Annotated[list[str] | None, typer.Option(help="Frames of a clip: 96f, 48f; both by default.")] = None,
    dialect: Annotated[list[str] | None, typer.Option(help="native, decomposed; both by default.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float16, float32; float16 by default.")] = None,
    slots: Annotated[list[int] | None, typer.Option(help="Cache sizes; 2048, 4096 and 10752 by default.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Name or file of the settings that the others override.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder of finished stages; OUT.work by default.")] = None,
    student: Annotated[Path | None, typer.Option(help="Bundle whose student goes into this one.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the finished stages where they are.")] = False,
    json: JsonOption = False,
) -> None:
    """Export a checkpoint and its adapters as a bundle. A run that was stopped goes on when it is started again."""
    from edge_sdk.toolchain.exporting import describe as describe_export
    from edge_sdk.toolchain.exporting import export_bundle

    report = export_bundle(
        checkpoint,
        out,
        adapters=tuple(adapter or ()),
        merge=tuple(merge or ()),
        recipe=recipe,
        work=work,
        student=student,
        keep=keep,
        quiet=json,
        switchable=switchable or None,
        base_projector=base_projector or None,
        profiles=tuple(profile or ()),
        dialects=tuple(dialect or ()),
        dtype=dtype,
        slots=tuple(slots or ()),
    )
    say(msgspec.json.encode(report).decode() if json else describe_export(report))


@app.command()
def calibrate(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a VideoLLaMA3 checkpoint; of a bundle with --answers.")],
    clips: Annotated[Path, typer.Option(help="Folder of clips, rendered or your own.")],
    out: Annotated[Path, typer.Option(help="Folder for the statistics or the bundle; it must not exist.")],
    count: Annotated[int, typer.Option(min=1, help="Most clips that are taken, balanced by their labels.")] = 64,
    frames: Annotated[int | None, typer.Option(min=1, help="Most frames of a clip; the profile's by default.")] = None,
    profile: Annotated[str | None, typer.Option(help="Size of the frames: 96f, 48f; 96f by default.")] = None,
    settings: Annotated[str | None, typer.Option("--export", help="Export recipe that the bundle will have.")] = None,
    adapter: Annotated[list[str] | None, typer.Option(help="NAME=DIR of an adapter; may be repeated.")] = None,
    merge: Annotated[list[str] | None, typer.Option(help="Sum this adapter into decoder weights of its own.")] = None,
    switchable: Annotated[bool, typer.Option("--switchable", help="LoRA matrices as inputs of one decoder.")] = False,
    device: DeviceOption = None,
    answers: Annotated[bool, typer.Option("--answers", help="Fit what a bundle's answers are worth.")] = False,
    least: Annotated[float | None, typer.Option(min=0, max=1, help="With --answers: abstain below; 0.5.")] = None,
    runtime: Annotated[str | None, typer.Option(help="With --answers: ort, trt or rtx; ort by default.")] = None,
    add: Annotated[list[Path] | None, typer.Option(help="Statistics of other clips to add up.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder of finished steps; OUT.work by default.")] = None,
    json: JsonOption = False,
) -> None:
    """Run a checkpoint on clips and keep statistics of its activations, for `quantise`. A stopped run goes on.

    With `--answers`, ask a bundle about rendered scenes instead, and write it with what its answers are worth.
    """
    if answers:
        refuse_stray(
            f"--answers asks the bundle {checkpoint}",
            {
                "--frames": frames,
                "--profile": profile,
                "--export": settings,
                "--adapter": adapter,
                "--merge": merge,
                "--switchable": switchable,
                "--add": add,
            },
        )
        from edge_sdk.toolchain.calibrating import calibrate_answers, describe_answers

        fitted = calibrate_answers(
            checkpoint,
            clips,
            out,
            count=count,
            least=least,
            runtime=runtime or "ort",
            device=device or "cpu",
            work=work,
            quiet=json,
        )
        say(msgspec.json.encode(fitted).decode() if json else describe_answers(fitted))
        return
    refuse_stray(f"{checkpoint} is a checkpoint without --answers", {"--least": least, "--runtime": runtime})
    from edge_sdk.toolchain.calibrating import calibrate as calibrate_model
    from edge_sdk.toolchain.calibrating import describe as describe_calibration

    report = calibrate_model(
        checkpoint,
        clips,
        out,
        count=count,
        frames=frames,
        profile=profile,
        export=settings,
        adapters=tuple(adapter or ()),
        merge=tuple(merge or ()),
        add=tuple(add or ()),
        device=device or "auto",
        work=work,
        quiet=json,
        switchable=switchable or None,
    )
    say(msgspec.json.encode(report).decode() if json else describe_calibration(report))


@app.command()
def quantise(
    source: Annotated[Path, typer.Argument(help="Folder of a VideoLLaMA3 checkpoint, or of a bundle with a student.")],
    out: Annotated[Path, typer.Option(help="The bundle's folder; it must not exist.")],
    recipe: Annotated[str, typer.Option(help="Name or file of the recipe: w4, w8, ...; student-int8 for a bundle.")],
    clips: Annotated[
        Path | None, typer.Option(help="Clips to calibrate a bundle's student on, or to train LoRA inputs on.")
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option(help="Of a bundle: rendered scenes to score before and after.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Of a bundle: most clips that are calibrated on; 64 by default.")
    ] = None,
    settings: Annotated[str | None, typer.Option("--export", help="Export recipe; by default the recipe's.")] = None,
    statistics: Annotated[Path | None, typer.Option(help="Folder that `edge-sdk calibrate` has written.")] = None,
    max_kl: Annotated[float | None, typer.Option(help="Keep layers higher until KL a token is at most this.")] = None,
    budget_mb: Annotated[float | None, typer.Option(help="Most that the decoder may take, MB of 10^6 bytes.")] = None,
    sensitivity: Annotated[bool, typer.Option("--sensitivity", help="Measure what each layer costs alone.")] = False,
    target: Annotated[
        str | None, typer.Option(help="Refuses what it cannot run; the export recipe's by default.")
    ] = None,
    device: DeviceOption = None,
    adapter: Annotated[list[str] | None, typer.Option(help="NAME=DIR of an adapter; may be repeated.")] = None,
    merge: Annotated[list[str] | None, typer.Option(help="Sum this adapter into decoder weights of its own.")] = None,
    switchable: Annotated[bool, typer.Option("--switchable", help="LoRA matrices as inputs of one decoder.")] = False,
    profile: Annotated[list[str] | None, typer.Option(help="Frames of a clip: 96f, 48f; both by default.")] = None,
    dialect: Annotated[list[str] | None, typer.Option(help="native, decomposed; both by default.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float16, float32; float16 by default.")] = None,
    slots: Annotated[list[int] | None, typer.Option(help="Cache sizes; 2048, 4096 and 10752 by default.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder of finished stages; OUT.work by default.")] = None,
    student: Annotated[Path | None, typer.Option(help="Bundle whose student goes into this one.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the finished stages where they are.")] = False,
    json: JsonOption = False,
) -> None:
    """Export a checkpoint as a bundle in few bits, layer by layer, or bring a bundle's student to 8 bits.

    A stopped run on a checkpoint goes on.
    """
    from edge_sdk.bundle.manifest_text import MANIFEST_NAME

    if (source / MANIFEST_NAME).is_file():
        refuse_stray(
            f"{source} is a bundle, whose student is quantised",
            {
                "--export": settings,
                "--statistics": statistics,
                "--max-kl": max_kl,
                "--budget-mb": budget_mb,
                "--sensitivity": sensitivity,
                "--target": target,
                "--device": device,
                "--adapter": adapter,
                "--merge": merge,
                "--switchable": switchable,
                "--profile": profile,
                "--dialect": dialect,
                "--dtype": dtype,
                "--slots": slots,
                "--work": work,
                "--student": student,
                "--keep": keep,
            },
        )
        _quantise_student(source, out, recipe, clips, held_out, count, json)
        return
    refuse_stray(f"{source} is a checkpoint, not a bundle with a student", {"--held-out": held_out, "--count": count})
    from edge_sdk.toolchain.exporting import describe as describe_export
    from edge_sdk.toolchain.quantising import quantise_bundle

    report = quantise_bundle(
        source,
        out,
        recipe,
        export=settings,
        statistics=statistics,
        clips=clips,
        max_kl=max_kl,
        budget_mb=budget_mb,
        sensitivity=sensitivity,
        target=target,
        device=device or "auto",
        adapters=tuple(adapter or ()),
        merge=tuple(merge or ()),
        work=work,
        student=student,
        keep=keep,
        quiet=json,
        switchable=switchable or None,
        profiles=tuple(profile or ()),
        dialects=tuple(dialect or ()),
        dtype=dtype,
        slots=tuple(slots or ()),
    )
    say(msgspec.json.encode(report).decode() if json else describe_export(report))


def _quantise_student(
    bundle: Path, out: Path, recipe: str, clips: Path | None, held_out: Path | None, count: int | None, json: bool
) -> None:
    from edge_sdk.toolchain.quantising_student import COUNT, quantise_student
    from edge_sdk.toolchain.quantising_student import describe as describe_student

    if clips is None:
        raise ConfigError(f"{bundle}: the student of a bundle is calibrated on clips; give a folder with --clips")
    report = quantise_student(bundle, out, recipe, clips, held_out=held_out, count=count or COUNT, quiet=json)
    say(msgspec.json.encode(report).decode() if json else describe_student(report))
