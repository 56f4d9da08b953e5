"""The verbs used on a device: check it, watch and analyse video, verify outputs, plan and measure speed."""

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
    """Show what this machine can run, why anything is missing, and how to fix it."""
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
    out: Annotated[Path, typer.Option(help="Output folder for the picture.")] = Path("demo"),
    json: JsonOption = False,
) -> None:
    """Analyse the bundle's demo clip (scores, event, answers, a picture), then watch a normal drive."""
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
        typer.Argument(help="One or more files, or rtsp://, v4l2://, csi:// or test:// addresses.", show_default=False),
    ] = None,
    sources: Annotated[
        Path | None, typer.Option(help="File with more sources, one per line; keeps passwords off the command line.")
    ] = None,
    bundle: BundleOption = None,
    expect: ExpectOption = None,
    trust: TrustOption = None,
    runtime: RuntimeOption = "ort",
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 1,
    operating_point: PointOption = None,
    rate_hz: Annotated[
        float | None, typer.Option(help="Frames per second scored for live sources; default: the student's rate.")
    ] = None,
    stall_timeout_s: Annotated[
        float, typer.Option(help="Seconds without a frame after which a live source is rebuilt.")
    ] = 2.0,
    protocol: Annotated[str, typer.Option(help="RTSP transport: tcp or udp.")] = "tcp",
    save: Annotated[
        Path | None, typer.Option(help="Folder for events of live sources: a playable clip and its JSON for each.")
    ] = None,
    pre_roll: Annotated[
        float | None, typer.Option(help="Seconds kept before the crash or trigger; default: 10.")
    ] = None,
    post_roll: Annotated[float | None, typer.Option(help="Seconds kept after the event closes; default: 5.")] = None,
    save_mb: Annotated[
        float | None, typer.Option(help="Limit for saved events, MB; removes the oldest first. Default: no limit.")
    ] = None,
    ring_mb: Annotated[
        float | None, typer.Option(help="Memory for video not yet saved, MB per source; default: 64.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Watch every SOURCE; print event revisions and source states as JSON lines.

    Ctrl-C and SIGTERM close and print open events before the run ends. SIGUSR1 triggers an event by hand.
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
    if summary.signal == "SIGINT":
        raise typer.Exit(130)


@app.command()
def analyze(
    clip: Annotated[str, typer.Argument(help="Video file, or file:// URI.")],
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
        typer.Option(min=0, help="Seconds for the answers, from the last score on; unfinished ones are cut short."),
    ] = None,
    no_reasoning: Annotated[bool, typer.Option("--no-reasoning", help="Do not ask the video LLM.")] = False,
    json: JsonOption = False,
) -> None:
    """Analyse a whole file: whether and when it shows a crash, and what the bundle's video LLM, if any, says about it.

    If the video LLM fails, what was found without it is still printed.
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
        typer.Argument(help="Clip, or output of `run` or `analyze --json` (text or file), whose last event counts."),
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
        float | None,
        typer.Option(min=0, help="Seconds for the answers, from the start; unfinished ones are cut short."),
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print text as it is generated.")] = False,
    json: JsonOption = False,
) -> None:
    """Ask the bundle's video LLM about a clip, or about an event that `edge-sdk run` or `analyze` found in one."""
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
    against: Annotated[Path | None, typer.Option(help="Checkpoint to recompute and compare every stage with.")] = None,
    adapter: Annotated[
        list[str] | None, typer.Option(help="With --against: NAME=DIR of an adapter of the bundle; repeatable.")
    ] = None,
    base_projector: Annotated[
        bool, typer.Option("--base-projector", help="With --against: the adapters have no projector of their own.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="With --against: file for the JSON report.")] = None,
    json: JsonOption = False,
) -> None:
    """Compare a runtime's outputs on this machine with the bundle's references, or every stage with a checkpoint."""
    from edge_sdk.bundle import open_bundle
    from edge_sdk.runtime import SessionOptions
    from edge_sdk.verify import verify as verify_bundle

    options = SessionOptions(threads=threads, device=device)
    if against is None and (adapter or out or base_projector):
        raise ConfigError("--adapter, --base-projector and --out need --against CHECKPOINT; give it, or leave them out")
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
    target: Annotated[str, typer.Option(help="Name of a known target, or `here` to measure this machine's CPU.")],
    bundle: BundleOption = None,
    tensorrt: Annotated[str | None, typer.Option(help="TensorRT version installed on the target.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU targets: number of cores used; default: all.")] = None,
    json: JsonOption = False,
) -> None:
    """Estimate whether the bundle fits on a target, how fast it will run and what limits it; nothing is built."""
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
        str, typer.Option(help="single: frames back to back; paced: frames at --fps, with queueing delay counted.")
    ] = "single",
    fps: Annotated[float, typer.Option(help="Frames per second of the scenario paced.")] = 10.0,
    warmup_s: Annotated[float, typer.Option(help="Seconds of warm-up, not measured.")] = 10.0,
    duration_s: Annotated[float, typer.Option(help="Seconds measured, or longer for --min-samples.")] = 60.0,
    min_samples: Annotated[int, typer.Option(help="Minimum number of frames; p99 needs 662, p99.9 needs 6636.")] = 662,
    threads: ThreadsOption = 1,
    out: Annotated[Path, typer.Option(help="Output folder for the report and its raw values.")] = Path("out/bench"),
    json: JsonOption = False,
) -> None:
    """Measure the student's latency on this machine; report its conditions and keep the raw values.

    Only the student is timed, from a frame in host memory to its scores there; capture and decoding are excluded.
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
    old: Annotated[Path, typer.Argument(help="JSON report of the earlier bench.")],
    new: Annotated[Path, typer.Argument(help="JSON report of the later bench.")],
    fail: Annotated[
        list[str] | None,
        typer.Option(help="Largest slowdown allowed, such as p50:3%; repeatable; default: p50:3% and p95:5%."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare two measurements; exit with 5 if NEW is slower than `--fail` allows."""
    result = open_room("benchmarks.compare").compare(old, new, fail=tuple(fail or ()))
    say(msgspec.json.encode(result).decode() if json else str(result))
    if not result.ok:
        raise typer.Exit(5)
