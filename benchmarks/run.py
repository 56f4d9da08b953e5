"""`edge-sdk bench`: open the bundle's student, time a scenario, write the report with its conditions."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edge_sdk.benchmarks.conditions import DIRTY, Watch, validity
from edge_sdk.benchmarks.energy import Meter
from edge_sdk.benchmarks.measure import TIMER, Limits, Samples, median_ms, percentiles, withheld
from edge_sdk.benchmarks.report import LatencyMs, Method, Report, write_report
from edge_sdk.benchmarks.scenarios import (
    SLEEP_SLACK_S,
    STAGES,
    Scenario,
    check_scenario,
    late_share,
    moving_pictures,
    run_scenario,
)
from edge_sdk.benchmarks.subject import model_bytes, on_gpu, subject_of, used_versions
from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.perception.recogniser import Recogniser, student_of
from edge_sdk.registry import DEFAULT_RUNTIME, open_runtime
from edge_sdk.runtime import SessionOptions


def run_bench(
    bundle: Bundle | Path,
    *,
    runtime: str = DEFAULT_RUNTIME,
    scenario: str = "single",
    fps: float = 10.0,
    warmup_s: float = 10.0,
    duration_s: float = 60.0,
    min_samples: int = 662,
    threads: int = 1,
    device: str = "cpu",
    out: Path = Path("out/bench"),
) -> Path:
    """Measure the student of `bundle`, opened or a folder, and write JSON and raw values into `out`.

    Returns the path of the JSON. `fps` is only used in the scenario `paced`; `threads` 0 lets the runtime choose,
    `device` is one of those of `SessionOptions`.
    Raises `UnknownNameError`, `ConfigError`, `BundleError` or `MissingDependencyError`.
    """
    known = check_scenario(scenario, fps)
    limits = Limits(warmup_s, duration_s, min_samples)
    limits.check()
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    student = student_of(opened)
    pictures = moving_pictures(student.height, student.width)
    # Before the model is opened, so that the memory that it takes is seen.
    watch = Watch(gpu=on_gpu(runtime, device))
    recogniser = Recogniser(opened, runtime, options=SessionOptions(threads=threads, device=device))
    try:
        started = datetime.now(timezone.utc)
        with Meter(watch) as meter:
            # Polling the clock takes power, which must not count as that of the student.
            poll_s = 0.0 if meter.idle else SLEEP_SLACK_S
            samples = run_scenario(known, recogniser, pictures, limits, fps=fps, poll_s=poll_s)
        state = watch.state(used_versions(open_runtime(runtime).describe(), device), samples.span_ns)
        memory = watch.memory(model_bytes(opened.graph(student.graph_on(runtime, device))[1], recogniser))
    finally:
        recogniser.close()
    ran_on = runtime if device == "cpu" else f"{runtime}-{device}"
    stem = f"{started:%Y-%m-%dT%H%M%S}-{opened.manifest.name}-{ran_on}-{known}"
    subject = subject_of(opened, recogniser, ran_on)
    notes = [*validity(state), *filter(None, [withheld(samples.latency.size)])]
    if (subject.commit or "").endswith(DIRTY):
        notes.append(f"commit {subject.commit}: the code that ran differs from it")
    report = Report(
        subject=subject,
        machine=state,
        method=_method(known, samples, limits, threads, fps, started),
        latency_ms=latency_ms(samples, fps if known == "paced" else None),
        memory_mb=memory,
        energy=meter.energy(samples),
        validity=tuple(notes),
        raw=f"{stem}.samples.npz",
    )
    return write_report(report, samples, out, stem)


def latency_ms(samples: Samples, fps: float | None) -> LatencyMs:
    """The latency numbers of a run; a percentile with too few samples is None."""
    told = percentiles(samples.latency / 1e6)
    return LatencyMs(
        p50=told["p50"],
        p90=told["p90"],
        p95=told["p95"],
        p99=told["p99"],
        p99_9=told["p99.9"],
        max=float(samples.latency.max()) / 1e6,
        mean=float(np.mean(samples.latency)) / 1e6,
        by_stage_p50=median_ms(samples.stages),
        late_share=None if fps is None else late_share(samples, fps),
    )


def _method(
    scenario: Scenario, samples: Samples, limits: Limits, threads: int, fps: float, started: datetime
) -> Method:
    return Method(
        scenario=scenario,
        fps=fps if scenario == "paced" else None,
        warmup_s=limits.warmup_s,
        duration_s=float(np.ptp(samples.span_ns)) / 1e9,
        samples=samples.latency.size,
        threads=threads,
        timer=TIMER,
        inside=STAGES[scenario],
        started_utc=f"{started:%Y-%m-%dT%H:%M:%SZ}",
    )
