"""The verbs that make a bundle's models: build engines, export, calibrate, quantise."""

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
    str | None, typer.Option(help="Device for computing layers: cpu, cuda, cuda:N, or auto for CUDA if torch sees it.")
]


@app.command()
def build(
    bundle: BundleOption = None,
    expect: ExpectOption = None,
    trust: TrustOption = None,
    runtime: Annotated[str, typer.Option(help="trt (TensorRT, for this device) or rtx (TensorRT-RTX).")] = "trt",
    target: Annotated[str | None, typer.Option(help="With rtx: a known target; default: this device.")] = None,
    graph: Annotated[
        list[str] | None, typer.Option(help="Build only this graph; repeatable. Not with --slots.")
    ] = None,
    slots: Annotated[
        list[int] | None, typer.Option(help="KV cache length of a decoder, tokens; repeatable; default: the largest.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Engine folder; default: the user's (XDG_CACHE_HOME), the only one other verbs read."),
    ] = None,
    streams: Annotated[
        int,
        typer.Option(min=1, max=64, help="Maximum number of sources in one `run`, which the student scores together."),
    ] = 4,
    level: Annotated[int, typer.Option(min=0, max=5, help="TensorRT optimisation level.")] = 3,
    workspace_mb: Annotated[
        float | None, typer.Option(help="Memory limit per kernel, MB; default: 1/4 of free.")
    ] = None,
    tf32: Annotated[bool, typer.Option("--tf32", help="Let float32 products round their factors (TF32).")] = False,
    force: Annotated[bool, typer.Option("--force", help="Continue even if memory or disk looks too small.")] = False,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild", help="Rebuild and replace engines already in the cache, e.g. for another --workspace-mb."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Build TensorRT engines from the bundle, and compare their outputs on this device with its references."""
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
    out: Annotated[Path, typer.Option(help="Output folder of the bundle; must not exist.")],
    adapter: Annotated[list[str] | None, typer.Option(help="NAME=DIR of an adapter; repeatable.")] = None,
    merge: Annotated[
        list[str] | None, typer.Option(help="Merge this adapter into its own decoder; repeatable.")
    ] = None,
    switchable: Annotated[bool, typer.Option("--switchable", help="One decoder with LoRA matrices as inputs.")] = False,
    base_projector: Annotated[bool, typer.Option("--base-projector", help="Adapters have no own projector.")] = False,
    profile: Annotated[list[str] | None, typer.Option(help="Frames per clip: 96f or 48f; default: both.")] = None,
    dialect: Annotated[list[str] | None, typer.Option(help="native or decomposed; default: both.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float16 or float32; default: float16.")] = None,
    slots: Annotated[list[int] | None, typer.Option(help="KV cache lengths; default: 2048, 4096, 10752.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Export recipe (name or file); options override it.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for finished stages; default: OUT.work.")] = None,
    student: Annotated[Path | None, typer.Option(help="Bundle whose student is added to OUT.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the finished stages.")] = False,
    json: JsonOption = False,
) -> None:
    """Export a checkpoint and its adapters as a bundle. Start a stopped run again to resume it."""
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
    checkpoint: Annotated[Path, typer.Argument(help="VideoLLaMA3 checkpoint folder; with --answers, bundle folder.")],
    clips: Annotated[Path, typer.Option(help="Folder of clips, rendered or your own.")],
    out: Annotated[Path, typer.Option(help="Output folder for the statistics or bundle; must not exist.")],
    count: Annotated[int, typer.Option(min=1, help="Maximum number of clips, balanced by label.")] = 64,
    frames: Annotated[int | None, typer.Option(min=1, help="Maximum frames per clip; default: the profile's.")] = None,
    profile: Annotated[str | None, typer.Option(help="Frame size: 96f or 48f; default: 96f.")] = None,
    settings: Annotated[str | None, typer.Option("--export", help="Export recipe of the future bundle.")] = None,
    adapter: Annotated[list[str] | None, typer.Option(help="NAME=DIR of an adapter; repeatable.")] = None,
    merge: Annotated[
        list[str] | None, typer.Option(help="Merge this adapter into its own decoder; repeatable.")
    ] = None,
    switchable: Annotated[bool, typer.Option("--switchable", help="One decoder with LoRA matrices as inputs.")] = False,
    device: DeviceOption = None,
    answers: Annotated[bool, typer.Option("--answers", help="Calibrate a bundle's answers instead.")] = False,
    least: Annotated[
        float | None, typer.Option(min=0, max=1, help="With --answers: abstain below this probability; default: 0.5.")
    ] = None,
    runtime: Annotated[str | None, typer.Option(help="With --answers: ort, trt or rtx; default: ort.")] = None,
    add: Annotated[list[Path] | None, typer.Option(help="Statistics folder of other clips to add; repeatable.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for finished steps; default: OUT.work.")] = None,
    json: JsonOption = False,
) -> None:
    """Run a checkpoint on clips and write statistics of its activations, for `quantise`. A stopped run resumes.

    With `--answers`, ask a bundle about rendered scenes instead, and write a copy with calibrated answers.
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
    refuse_stray(f"without --answers, {checkpoint} is read as a checkpoint", {"--least": least, "--runtime": runtime})
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
    out: Annotated[Path, typer.Option(help="Output folder of the bundle; must not exist.")],
    recipe: Annotated[str, typer.Option(help="Recipe (name or file): w4, w8, ...; student-int8 for a bundle.")],
    clips: Annotated[
        Path | None, typer.Option(help="Folder of clips to calibrate a bundle's student or train LoRA inputs on.")
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option(help="For a bundle: folder of rendered scenes to score before and after.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="For a bundle: maximum number of calibration clips; default: 64.")
    ] = None,
    settings: Annotated[str | None, typer.Option("--export", help="Export recipe; default: the recipe's.")] = None,
    statistics: Annotated[Path | None, typer.Option(help="Folder written by `edge-sdk calibrate`.")] = None,
    max_kl: Annotated[
        float | None, typer.Option(help="Limit of KL, nats per token; keeps layers in more bits.")
    ] = None,
    budget_mb: Annotated[float | None, typer.Option(help="Limit of the decoders' files, MB of 10^6 bytes.")] = None,
    sensitivity: Annotated[bool, typer.Option("--sensitivity", help="Measure the cost of each layer alone.")] = False,
    target: Annotated[
        str | None, typer.Option(help="Target that must support the recipe; default: the export recipe's.")
    ] = None,
    device: DeviceOption = None,
    adapter: Annotated[list[str] | None, typer.Option(help="NAME=DIR of an adapter; repeatable.")] = None,
    merge: Annotated[
        list[str] | None, typer.Option(help="Merge this adapter into its own decoder; repeatable.")
    ] = None,
    switchable: Annotated[bool, typer.Option("--switchable", help="One decoder with LoRA matrices as inputs.")] = False,
    profile: Annotated[list[str] | None, typer.Option(help="Frames per clip: 96f or 48f; default: both.")] = None,
    dialect: Annotated[list[str] | None, typer.Option(help="native or decomposed; default: both.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float16 or float32; default: float16.")] = None,
    slots: Annotated[list[int] | None, typer.Option(help="KV cache lengths; default: 2048, 4096, 10752.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for finished stages; default: OUT.work.")] = None,
    student: Annotated[Path | None, typer.Option(help="Bundle whose student is added to OUT.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the finished stages.")] = False,
    json: JsonOption = False,
) -> None:
    """Export a checkpoint as a quantised bundle, layer by layer, or quantise a bundle's student to 8 bits.

    A stopped run on a checkpoint resumes.
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
