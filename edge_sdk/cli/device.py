"""The verbs of the device: what it has, what it sees, how fast and how right it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from edge_sdk.cli.app import (
    BundleOption,
    DeviceOption,
    ExpectOption,
    JsonOption,
    MemoryOption,
    PointOption,
    ProfileOption,
    RuntimeOption,
    TaskOption,
    ThreadsOption,
    TrustOption,
    app,
    bench_app,
)
from edge_sdk.cli.options import refuse_stray
from edge_sdk.console import Progress, say, warn
from edge_sdk.errors import ConfigError
from edge_sdk.registry import open_room


@app.command()
def doctor(bundle: BundleOption = None, json: JsonOption = False) -> None:
    """What this machine can run, and why the rest is missing."""
    from edge_sdk.cli.doctor import examine

    checks = examine(bundle)
    if json:
        say(msgspec.json.encode(checks).decode())
        return
    for check in checks:
        say(f"{check.status:8} {check.name:18} {check.found}" + (f"\n{'':27} -> {check.fix}" if check.fix else ""))


@app.command()
def demo(
    bundle: BundleOption = None,
    expect: ExpectOption = None,
    trust: TrustOption = None,
    device: DeviceOption = "cpu",
    operating_point: PointOption = None,
    out: Annotated[Path, typer.Option(help="Folder for the picture.")] = Path("demo"),
    json: JsonOption = False,
) -> None:
    """Run the bundle's own clip through everything: scores, event, answers, a picture; then a normal drive."""
    from edge_sdk.bundle import open_bundle
    from edge_sdk.cli.demo import run_demo

    opened = open_bundle(bundle, expect=expect, trust=trust)
    report = run_demo(opened, out, device=device, operating_point=operating_point, quiet=json)
    if json:
        say(msgspec.json.encode(report).decode())


@app.command()
def run(
    source: Annotated[
        list[str] | None,
        typer.Argument(help="Files, rtsp://, v4l2://, csi://, test://; several at once.", show_default=False),
    ] = None,
    sources: Annotated[
        Path | None, typer.Option(help="A file with more of them, one a line: passwords are then on no command line.")
    ] = None,
    bundle: BundleOption = None,
    expect: ExpectOption = None,
    trust: TrustOption = None,
    runtime: RuntimeOption = "ort",
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 1,
    operating_point: PointOption = None,
    rate_hz: Annotated[float | None, typer.Option(help="Rounds a second of live sources; the student's rate.")] = None,
    stall_timeout_s: Annotated[float, typer.Option(help="Silence after which a live source is rebuilt.")] = 2.0,
    protocol: Annotated[str, typer.Option(help="RTSP transport: tcp, udp.")] = "tcp",
    save: Annotated[
        Path | None, typer.Option(help="Folder for each event of a live source: a clip that plays, and its JSON.")
    ] = None,
    pre_roll: Annotated[float | None, typer.Option(help="Seconds of a clip before the crash or trigger; 10.")] = None,
    post_roll: Annotated[float | None, typer.Option(help="Seconds of a clip after the event's end; 5.")] = None,
    save_mb: Annotated[
        float | None, typer.Option(help="What the folder may hold; the oldest events are removed for the newest.")
    ] = None,
    ring_mb: Annotated[
        float | None, typer.Option(help="Memory for the pictures that are kept to be saved, for each source; 64.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Watch every SOURCE; print event revisions and source states as JSON lines.

    Ctrl-C and SIGTERM close what is open and print it before they end the run. SIGUSR1 triggers an event by hand.
    """
    from edge_sdk.bundle import open_bundle
    from edge_sdk.capture import LiveSettings
    from edge_sdk.cli.saving import saving_of
    from edge_sdk.cli.sources_file import with_listed
    from edge_sdk.cli.watch import run_sources

    if protocol not in ("tcp", "udp"):
        raise ConfigError(f"--protocol must be tcp or udp, found {protocol!r}")
    settings = LiveSettings(stall_timeout_s=stall_timeout_s, protocol="udp" if protocol == "udp" else "tcp")
    summary = run_sources(
        with_listed(source or [], sources),
        open_bundle(bundle, expect=expect, trust=trust),
        runtime=runtime,
        threads=threads,
        device=device,
        live=settings,
        rate_hz=rate_hz,
        operating_point=operating_point,
        saving=saving_of(save, pre_roll, post_roll, save_mb, ring_mb),
        quiet=json,
    )
    if json:
        say(msgspec.json.encode(summary).decode())
    if summary.signal == "SIGINT":
        raise typer.Exit(130)


@app.command()
def analyze(
    clip: Annotated[str, typer.Argument(help="A video file, or file:// URI.")],
    bundle: BundleOption = None,
    expect: ExpectOption = None,
    trust: TrustOption = None,
    runtime: RuntimeOption = "ort",
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 1,
    operating_point: PointOption = None,
    task: TaskOption = None,
    profile: ProfileOption = None,
    memory_mb: MemoryOption = None,
    deadline_s: Annotated[
        float | None,
        typer.Option(min=0, help="Answers are given as far as they went by then, counted from the last score."),
    ] = None,
    no_reasoning: Annotated[bool, typer.Option("--no-reasoning", help="Ask the video LLM nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Analyse a whole file: was there a crash, when, and what the bundle's video LLM says of it, if it has one.

    Where the video LLM fails, what was found without it is printed all the same.
    """
    from edge_sdk.analysis import AnalysedClip, asked_of, describe
    from edge_sdk.analysis import analyze as analyze_clip
    from edge_sdk.bundle import open_bundle
    from edge_sdk.explaining import AnswersView, ReasonerSettings, language_of

    asking = {"--task": task, "--profile": profile, "--memory-mb": memory_mb, "--deadline-s": deadline_s}
    if no_reasoning:
        refuse_stray("--no-reasoning asks nothing", asking)
    tasks = () if no_reasoning else tuple(task) if task else None
    opened = open_bundle(bundle, expect=expect, trust=trust)
    if any(given is not None for given in asking.values()):
        language_of(opened)
    settings = ReasonerSettings(runtime=runtime, threads=threads, device=device, profile=profile, budget_mb=memory_mb)
    found: AnalysedClip | None = None

    def watched(each: AnalysedClip) -> None:
        nonlocal found
        found = each
        if not json:
            say(describe(each.analysis))

    try:
        with AnswersView(asked_of(opened, tasks)) as view:
            found = analyze_clip(
                clip,
                opened,
                runtime=runtime,
                threads=threads,
                device=device,
                operating_point=operating_point,
                tasks=tasks,
                reasoning=settings,
                deadline_s=deadline_s,
                on_watched=watched,
                on_spoken=None if json else view,
            )
    finally:
        if found is not None:
            warn(found.analysis.warnings)
            if json:
                say(msgspec.json.encode(found.analysis).decode())


@app.command()
def explain(
    what: Annotated[
        str,
        typer.Argument(help="A clip, or what `run` or `analyze --json` printed, as text or as a file: its last event."),
    ],
    bundle: BundleOption = None,
    expect: ExpectOption = None,
    trust: TrustOption = None,
    runtime: RuntimeOption = "ort",
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 1,
    task: TaskOption = None,
    profile: ProfileOption = None,
    memory_mb: MemoryOption = None,
    deadline_s: Annotated[
        float | None, typer.Option(min=0, help="Answers are given as far as they went by then, counted from the start.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Show text as it comes.")] = False,
    json: JsonOption = False,
) -> None:
    """Ask the bundle's video LLM about a clip, or about an event that `edge-sdk run` or `analyze` has found in one."""
    from edge_sdk.bundle import open_bundle
    from edge_sdk.cli.explain import explain as explain_clip
    from edge_sdk.explaining import AnswersView, ReasonerSettings, language_of, tasks_of

    opened = open_bundle(bundle, expect=expect, trust=trust)
    asked = tasks_of(language_of(opened), task)
    settings = ReasonerSettings(runtime=runtime, threads=threads, device=device, profile=profile, budget_mb=memory_mb)
    with AnswersView(asked, stream=stream) as view:
        found = explain_clip(
            what, opened, tasks=asked, settings=settings, deadline_s=deadline_s, on_spoken=None if json else view
        )
    if json:
        say(msgspec.json.encode(found).decode())


@app.command()
def verify(
    bundle: BundleOption = None,
    expect: ExpectOption = None,
    trust: TrustOption = None,
    runtime: RuntimeOption = "ort",
    device: DeviceOption = "cpu",
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

    options = SessionOptions(threads=threads, device=device)
    if against is None and (adapter or out or base_projector):
        raise ConfigError("--adapter, --base-projector and --out belong to a comparison with --against CHECKPOINT")
    opened = open_bundle(bundle, expect=expect, trust=trust)
    if against is None:
        report = verify_bundle(opened, runtime, options)
    else:
        with Progress("verify", quiet=json) as progress:
            report = open_room("export.verify").verify_against(
                opened,
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
    from edge_sdk.hardware.plan import describe as describe_plan
    from edge_sdk.hardware.plan import plan as make_plan

    place = measure_host() if target == "here" else find_target(target)
    if place.sm is None:
        refuse_stray(f"{place.name} has no GPU that TensorRT builds for", {"--tensorrt": tensorrt})
    else:
        refuse_stray(f"{place.name} computes on its GPU", {"--threads": threads})
    found = make_plan(open_bundle(bundle), place, tensorrt=tensorrt, threads=threads)
    say(msgspec.json.encode(found).decode() if json else describe_plan(found))


@bench_app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    bundle: BundleOption = None,
    expect: ExpectOption = None,
    trust: TrustOption = None,
    runtime: RuntimeOption = "ort",
    device: DeviceOption = "cpu",
    scenario: Annotated[
        str, typer.Option(help="single: pictures back to back; paced: at --fps, late answers charged to what waits.")
    ] = "single",
    fps: Annotated[float, typer.Option(help="Pictures a second of the scenario paced.")] = 10.0,
    warmup_s: Annotated[float, typer.Option(help="Seconds that do not count.")] = 10.0,
    duration_s: Annotated[float, typer.Option(help="Seconds that are measured, or longer for --min-samples.")] = 60.0,
    min_samples: Annotated[int, typer.Option(help="Least frames; p99 is told from 662 on, p99.9 from 6636.")] = 662,
    threads: ThreadsOption = 1,
    out: Annotated[Path, typer.Option(help="Folder for the report and its raw values.")] = Path("out/bench"),
    json: JsonOption = False,
) -> None:
    """Measure the student on this machine: latency with its conditions, raw values kept.

    Timed is the student alone, from a picture on the host to its scores there, without capture and decoding.
    """
    if context.invoked_subcommand is not None:
        return
    from edge_sdk.bundle import open_bundle
    from edge_sdk.files import check_folder

    check_folder(out)
    path = open_room("benchmarks.run").run_bench(
        open_bundle(bundle, expect=expect, trust=trust),
        runtime=runtime,
        scenario=scenario,
        fps=fps,
        warmup_s=warmup_s,
        duration_s=duration_s,
        min_samples=min_samples,
        threads=threads,
        device=device,
        out=out,
    )
    say(
        path.read_text().replace("\n", "")
        if json
        else f"{open_room('benchmarks.report').table([path])}\nreport: {path}"
    )


@bench_app.command("compare")
def bench_compare(
    old: Annotated[Path, typer.Argument(help="JSON of an earlier bench.")],
    new: Annotated[Path, typer.Argument(help="JSON of a later one.")],
    fail: Annotated[
        list[str] | None,
        typer.Option(help="How much slower is too much; may be repeated; p50:3% and p95:5% if not given."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare two measurements; leaves with 5 where NEW is slower than `--fail` allows."""
    result = open_room("benchmarks.compare").compare(old, new, fail=tuple(fail or ()))
    say(msgspec.json.encode(result).decode() if json else str(result))
    if not result.ok:
        raise typer.Exit(5)
