"""`edge-sdk VERB`: the API spoken aloud, one function a verb with the same argument names.

Every verb takes `--json`; then the last line of stdout is one JSON document. Exit codes: 0 ok, 1 our bug, 2 usage or
config, 3 hardware or runtime missing, 4 model or bundle, 5 degraded, 130 interrupted.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer

from edge_sdk import __version__
from edge_sdk.console import Progress, parse_size, say, warn
from edge_sdk.errors import ConfigError, EdgeError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
scenes_app = typer.Typer(no_args_is_help=True, help="Rendered traffic scenes with labels from physics.")
distil_app = typer.Typer(no_args_is_help=True, help="Train the models that run on the device.")
bundle_app = typer.Typer(no_args_is_help=True, help="Look into a bundle.")
bench_app = typer.Typer(help="Measure, compare.")
app.add_typer(scenes_app, name="scenes")
app.add_typer(distil_app, name="distil")
app.add_typer(bundle_app, name="bundle")
app.add_typer(bench_app, name="bench")

BundleOption = Annotated[Path | None, typer.Option("--bundle", help="Bundle folder; the demo bundle by default.")]
RuntimeOption = Annotated[str, typer.Option(help="Inference runtime: ort, null.")]
ThreadsOption = Annotated[int, typer.Option(min=0, help="Threads of the runtime; 0 leaves it to the runtime.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """CrashChat Edge SDK: recognise and localise traffic crashes in video, on the device."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def doctor(json: JsonOption = False) -> None:
    """What this machine can run, and why the rest is missing."""
    from edge_sdk.doctor import examine

    checks = examine()
    if json:
        say(msgspec.json.encode(checks).decode())
        return
    for check in checks:
        say(f"{check.status:8} {check.name:18} {check.found}" + (f"\n{'':27} -> {check.fix}" if check.fix else ""))


@app.command()
def demo(bundle: BundleOption = None, out: Path = Path("demo"), json: JsonOption = False) -> None:
    """Run the bundle's own clip through everything: live scores, the event, and a picture."""
    from edge_sdk.demo import run_demo

    report = run_demo(bundle, out, quiet=json)
    if json:
        say(msgspec.json.encode(report).decode())


@app.command()
def run(
    source: Annotated[list[str], typer.Argument(help="Files, rtsp://, v4l2://, csi://, test://; several at once.")],
    bundle: BundleOption = None,
    runtime: RuntimeOption = "ort",
    threads: ThreadsOption = 1,
    rate_hz: Annotated[float | None, typer.Option(help="Rounds a second of live sources; the student's rate.")] = None,
    stall_timeout_s: Annotated[float, typer.Option(help="Silence after which a live source is rebuilt.")] = 2.0,
    protocol: Annotated[str, typer.Option(help="RTSP transport: tcp, udp.")] = "tcp",
    json: JsonOption = False,
) -> None:
    """Watch every SOURCE; print event revisions and source states as JSON lines.

    Ctrl-C and SIGTERM close what is open and print it before they end the run.
    """
    from edge_sdk.capture import LiveSettings
    from edge_sdk.watch import run_sources

    if protocol not in ("tcp", "udp"):
        raise ConfigError(f"--protocol must be tcp or udp, found {protocol!r}")
    settings = LiveSettings(stall_timeout_s=stall_timeout_s, protocol="udp" if protocol == "udp" else "tcp")
    summary = run_sources(source, bundle, runtime=runtime, threads=threads, live=settings, rate_hz=rate_hz, quiet=json)
    if json:
        say(msgspec.json.encode(summary).decode())
    if summary.signal == "SIGINT":
        raise typer.Exit(130)


@app.command()
def analyze(
    clip: str,
    bundle: BundleOption = None,
    runtime: RuntimeOption = "ort",
    threads: ThreadsOption = 1,
    json: JsonOption = False,
) -> None:
    """Analyse a whole file: was there a crash, and when."""
    from edge_sdk.analysis import analyze as analyze_clip
    from edge_sdk.analysis import describe

    found = analyze_clip(clip, bundle, runtime=runtime, threads=threads)
    warn(found.warnings)
    say(msgspec.json.encode(found.analysis).decode() if json else describe(found.analysis))


@app.command()
def verify(
    bundle: BundleOption = None,
    runtime: RuntimeOption = "ort",
    threads: ThreadsOption = 1,
    against: Annotated[Path | None, typer.Option(help="Checkpoint that everything is computed from anew.")] = None,
    adapter: Annotated[list[str] | None, typer.Option(help="NAME=DIR of each of its adapters, with --against.")] = None,
    base_projector: Annotated[bool, typer.Option("--base-projector", help="The adapters bring none.")] = False,
    out: Annotated[Path | None, typer.Option(help="File for the report as JSON, with --against.")] = None,
    json: JsonOption = False,
) -> None:
    """Compare a runtime's outputs with the bundle's references, or every stage with a checkpoint, on this machine."""
    from edge_sdk.bundle import open_bundle
    from edge_sdk.runtime import SessionOptions
    from edge_sdk.verify import verify as verify_bundle

    options = SessionOptions(threads=threads)
    if against is None:
        if adapter or out or base_projector:
            raise ConfigError("--adapter, --base-projector and --out belong to a comparison with --against CHECKPOINT")
        report = verify_bundle(open_bundle(bundle), runtime, options)
    else:
        with Progress("verify", quiet=json) as progress:
            report = _room("export.verify").verify_against(
                open_bundle(bundle),
                against,
                adapters=tuple(adapter or ()),
                base_projector=base_projector,
                runtime=runtime,
                options=options,
                out=out,
                on_progress=progress,
            )
    say(msgspec.json.encode(report).decode() if json else str(report))
    if not report.ok:
        raise typer.Exit(4)


@app.command()
def plan(
    target: Annotated[str, typer.Option(help="A known target's name, or `here` for this machine's CPU, measured.")],
    bundle: BundleOption = None,
    tensorrt: Annotated[str | None, typer.Option(help="TensorRT version that is installed there.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores of a CPU that take part; all by default.")] = None,
    json: JsonOption = False,
) -> None:
    """Say whether the bundle fits on a target, how fast it will be, and what bounds it; nothing is built."""
    from edge_sdk.bundle import open_bundle
    from edge_sdk.hardware import find_target
    from edge_sdk.hardware.host import measure_host
    from edge_sdk.plan import describe as describe_plan
    from edge_sdk.plan import plan as make_plan

    place = measure_host() if target == "here" else find_target(target)
    found = make_plan(open_bundle(bundle), place, tensorrt=tensorrt, threads=threads)
    say(msgspec.json.encode(found).decode() if json else describe_plan(found))


@app.command()
def build(
    bundle: BundleOption = None,
    runtime: Annotated[str, typer.Option(help="trt, the TensorRT of this device, or rtx, TensorRT-RTX.")] = "trt",
    target: Annotated[str | None, typer.Option(help="With rtx: a known target; this device by default.")] = None,
    graph: Annotated[list[str] | None, typer.Option(help="Only this graph; may be repeated.")] = None,
    slots: Annotated[list[int] | None, typer.Option(help="Cache sizes of decoders; the largest by default.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of engines; the user's cache by default.")] = None,
    level: Annotated[int, typer.Option(min=0, max=5, help="TensorRT's optimisation level.")] = 3,
    workspace_mb: Annotated[float | None, typer.Option(help="Most that one kernel may use; a quarter of free.")] = None,
    tf32: Annotated[bool, typer.Option("--tf32", help="Let float32 products round their factors.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Go on where memory looks too small.")] = False,
    json: JsonOption = False,
) -> None:
    """Build TensorRT engines from the bundle, and compare them with its reference outputs on this device."""
    from edge_sdk.building import BuildOptions
    from edge_sdk.building import build as build_engines
    from edge_sdk.building import describe as describe_build

    if runtime not in ("trt", "rtx"):
        raise ConfigError(f"--runtime must be trt or rtx, found {runtime!r}")
    options = BuildOptions(
        level=level,
        workspace_mb=workspace_mb,
        tf32=tf32,
        slots=tuple(slots or ()),
        graphs=tuple(graph or ()),
        force=force,
    )
    flavour: Literal["trt", "rtx"] = "trt" if runtime == "trt" else "rtx"
    report = build_engines(bundle, flavour, target=target, cache=cache, options=options, quiet=json)
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
    from edge_sdk.exporting import describe as describe_export
    from edge_sdk.exporting import export_bundle

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
def evaluate(
    annotations: Annotated[Path, typer.Option(help="CrashChat annotations: a file, or a folder of *.json.")],
    predictions: Annotated[Path, typer.Option(help="JSON of a model's answers by video and task.")],
    constants_from: Annotated[Path | None, typer.Option(help="Annotations on which blind answers are chosen.")] = None,
    records: Annotated[Path | None, typer.Option(help="Folder of scene records, for rows by condition.")] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Rounds of the bootstrap; 0 gives no intervals.")] = 1000,
    seed: int = 0,
    json: JsonOption = False,
) -> None:
    """Score a model's answers to the six tasks, beside the paper's table and the best answers that see nothing."""
    from edge_sdk.evaluation.tasks import evaluate_files, to_markdown

    report = evaluate_files(
        annotations, predictions, constants_from=constants_from, records=records, bootstrap=bootstrap, seed=seed
    )
    say(msgspec.json.encode(report).decode() if json else to_markdown(report))


@bundle_app.command("show")
def bundle_show(bundle: BundleOption = None, json: JsonOption = False) -> None:
    """Print what the bundle holds."""
    from edge_sdk.bundle import open_bundle
    from edge_sdk.bundle_show import describe as describe_bundle

    opened = open_bundle(bundle)
    say(msgspec.json.encode(opened.manifest).decode() if json else "\n".join(describe_bundle(opened)))


@bundle_app.command("check")
def bundle_check(bundle: BundleOption = None, json: JsonOption = False) -> None:
    """Check every file of the bundle against its manifest."""
    from edge_sdk.bundle import open_bundle

    opened = open_bundle(bundle)
    found = {"ok": True, "name": opened.manifest.name, "sha256": opened.sha256, "files": len(opened.manifest.files)}
    say(msgspec.json.encode(found).decode() if json else f"ok: {opened.manifest.name}, {found['files']} files")


@scenes_app.command("render")
def scenes_render(
    out: Path,
    first_seed: int = 0,
    count: Annotated[int, typer.Option(min=1)] = 10,
    suite: bool = False,
    fps: float = 10.0,
    size: str = "320x192",
    jobs: Annotated[int, typer.Option(min=1)] = 2,
    json: JsonOption = False,
) -> None:
    """Render labelled scenes into OUT; `--suite` renders the committed test suite instead of COUNT seeds."""
    seeds = _room("calibration.scenes.suite").suite_seeds() if suite else range(first_seed, first_seed + count)
    with Progress("render", quiet=json) as progress:
        records = _room("calibration.scenes.render").render(
            seeds, out, fps=fps, size=parse_size(size), jobs=jobs, on_progress=lambda at: progress(at.done, at.total)
        )
    crashes = sum(record.crash for record in records)
    found = {"out": str(out), "clips": len(records), "crashes": crashes}
    say(msgspec.json.encode(found).decode() if json else f"{len(records)} clips in {out}, {crashes} with a crash")


@distil_app.command("student")
def distil_student(
    out: Path,
    labels: Annotated[bool, typer.Option("--labels", help="Train on the scenes' own labels.")] = False,
    recipe: str = "student-demo",
    work: Path = Path("out/student"),
    json: JsonOption = False,
) -> None:
    """Render the recipe's scenes, train the student on them, calibrate it and write the bundle OUT."""
    if not labels:
        raise ConfigError("a student is trained on labels in this version; run: edge-sdk distil student OUT --labels")
    from edge_sdk.distillation import make_student

    report = make_student(recipe, work, out, quiet=json)
    say(msgspec.json.encode(report).decode() if json else f"bundle {out}: {report}")


@bench_app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    bundle: BundleOption = None,
    runtime: RuntimeOption = "ort",
    scenario: str = "single",
    fps: float = 10.0,
    warmup_s: float = 10.0,
    duration_s: float = 60.0,
    min_samples: int = 662,
    threads: ThreadsOption = 1,
    out: Path = Path("out/bench"),
    json: JsonOption = False,
) -> None:
    """Measure the student on this machine: latency with its conditions, raw values kept."""
    if context.invoked_subcommand is not None:
        return
    from edge_sdk.bundle import default_bundle

    path = _room("benchmarks.run").run_bench(
        bundle or default_bundle(),
        runtime=runtime,
        scenario=scenario,
        fps=fps,
        warmup_s=warmup_s,
        duration_s=duration_s,
        min_samples=min_samples,
        threads=threads,
        out=out,
    )
    say(path.read_text().replace("\n", "") if json else _room("benchmarks.report").table([path]))


@bench_app.command("compare")
def bench_compare(
    old: Path,
    new: Path,
    fail: Annotated[list[str] | None, typer.Option(help="Such as p50:3%.")] = None,
    json: JsonOption = False,
) -> None:
    """Compare two measurements; leaves with 5 where NEW is slower than `--fail` allows."""
    result = _room("benchmarks.compare").compare(old, new, fail=tuple(fail or ()))
    say(msgspec.json.encode(result).decode() if json else str(result))
    if not result.ok:
        raise typer.Exit(5)


# Any: a room is opened by name, so that the ground depends on none; its functions are typed where they stand.
def _room(module: str) -> Any:
    return import_module(f"edge_sdk.{module}")


def main() -> None:
    """Entry point of the `edge-sdk` command."""
    try:
        app()
    except EdgeError as error:
        typer.echo(f"edge-sdk: {error}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        typer.echo(f"edge-sdk: {_missing(error)}", err=True)
        sys.exit(3)
    except KeyboardInterrupt:
        sys.exit(130)


# package -> extra that installs it
_EXTRAS = {"mujoco": "scenes", "torch": "export", "onnx": "export", "matplotlib": "plot", "onnxruntime": "cpu"}


def _missing(error: ModuleNotFoundError) -> str:
    package = (error.name or "").split(".")[0]
    if package not in _EXTRAS:
        raise error
    return (
        f"this needs the package {package!r}, which is not installed; run: pip install 'edge-sdk[{_EXTRAS[package]}]'"
    )
