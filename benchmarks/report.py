"""One measurement as JSON (schema 1) and as a row of a table; a value that was not measured is null, never absent.

Every leaf has its unit in its name. Raw values are in an .npz beside the JSON, so that any other statistic can be
computed later.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge_sdk.benchmarks.measure import Samples
from edge_sdk.errors import ConfigError
from edge_sdk.files import atomic_path, write_json
from edge_sdk.types import Value

SCHEMA = 1


class Subject(Value, frozen=True, kw_only=True):
    """The measured model and runtime. `precision` is that of each part, in the words of `plan`.

    Where an engine was opened, `engine_sha256` is the hash of its file, and the precision of `engine` is that of its
    record: the types of its inputs, and `tf32` where it may multiply in TF32.
    """

    model: str
    bundle_sha256: str
    commit: str | None
    runtime: str
    precision: dict[str, str]
    input_shape: dict[str, tuple[int | str, ...]]
    batch: int
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    engine_sha256: str | None = None


class Spread(Value, frozen=True, kw_only=True):
    """Lowest and median reading during the run; null where the sensor gives no reading."""

    min: float | None
    p50: float | None


class Span(Value, frozen=True, kw_only=True):
    """Reading before and after the run, and the highest during it; null where the sensor gives no reading."""

    start: float | None
    end: float | None
    max: float | None = None


class Quota(Value, frozen=True, kw_only=True):
    """The CPU limit of the container or service, in cores, and what it did during the run.

    The run was held back in `held_back` periods, for `held_back_s` seconds over all cores.
    """

    cores: float
    held_back: int
    held_back_s: float


class MachineState(Value, frozen=True, kw_only=True):
    """The machine and its state during the run; what an older version did not record is null.

    `cpu_mhz` is the clock of the slowest core, `cpu_fastest_mhz` that of the fastest. `gpu` and `gpu_driver` are those
    of a run on a GPU, and `clocks_locked` then covers its clocks too; `gpu_clocks_locked` covers them alone. A null
    `throttled` means that throttling cannot be seen. `other_cores` is the use by other processes meanwhile, in cores.
    """

    target: str
    os: str
    kernel: str
    cpu_model: str | None
    cores: int
    memory_total_mb: float | None
    power_mode: str | None
    governor: str | None
    clocks_locked: bool | None
    jetpack: str | None
    l4t: str | None = None
    tensorrt: str | None
    versions: dict[str, str]
    cpu_mhz: Spread
    gpu_mhz: Spread
    temperature_c: Span
    throttled: tuple[str, ...] | None
    load_1min: float | None
    other_cores: float | None
    cpu_fastest_mhz: Spread | None = None
    gpu: str | None = None
    gpu_driver: str | None = None
    gpu_clocks_locked: bool | None = None
    cpu_quota: Quota | None = None


class Method(Value, frozen=True, kw_only=True):
    """How it was measured; `inside` tells what the measured time includes."""

    scenario: str
    fps: float | None
    warmup_s: float
    duration_s: float
    samples: int
    threads: int
    timer: str
    inside: tuple[str, ...]
    started_utc: str


class LatencyMs(Value, frozen=True, kw_only=True, rename={"p99_9": "p99.9"}):
    """Latency of a frame; a percentile is null with too few samples. `late_share` is only given for a paced run."""

    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    p99_9: float | None
    max: float
    mean: float
    by_stage_p50: dict[str, float]
    late_share: float | None


class MemoryMb(Value, frozen=True, kw_only=True):
    """MB are 10^6 bytes. `peak_process` is the largest resident set so far.

    `available_drop` is how far the machine's available memory fell from before the model was opened to the lowest
    reading while it was open. `engine_on_disk` is the engine, or where none is built the graph with its weight files.
    """

    peak_process: float | None
    available_drop: float | None
    engine_on_disk: float | None


class Energy(Value, frozen=True, kw_only=True):
    """Power and energy of `rail`, from `readings` during the run, about ten a second.

    `idle_w` was read for two seconds before the run, with the student open. Joules cover all that the rail feeds.
    """

    mean_w: float
    idle_w: float
    joule_per_frame: float
    joule_per_frame_above_idle: float
    rail: str
    readings: int


class Report(Value, frozen=True, kw_only=True):
    """One run. `raw` names the .npz beside the JSON; parts that this version does not measure are null."""

    schema: int = SCHEMA
    subject: Subject
    machine: MachineState
    method: Method
    latency_ms: LatencyMs
    cold_start_ms: dict[str, list[float]] | None = None
    generation: dict[str, float] | None = None
    memory_mb: MemoryMb
    energy: Energy | None = None
    accuracy: dict[str, float] | None = None
    validity: tuple[str, ...]
    raw: str


def write_report(report: Report, samples: Samples, folder: Path, stem: str) -> Path:
    """Write `STEM.samples.npz`, then `STEM.json`, into `folder`; returns the path of the latter."""
    stages = {f"stage_{name}_ns": values for name, values in samples.stages.items()}
    with atomic_path(folder / f"{stem}.samples.npz") as stage:
        np.savez_compressed(stage, begin_ns=samples.begin, latency_ns=samples.latency, **stages)  # type: ignore[arg-type]
    path = folder / f"{stem}.json"
    write_json(path, report, indent=1)
    return path


def read_report(path: Path) -> Report:
    """Read one report. Raises `ConfigError` naming the file and what does not fit."""
    try:
        report = msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise ConfigError(f"cannot read the measurement {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} is not a measurement of this version: {error}") from error
    if report.schema != SCHEMA:
        raise ConfigError(f"{path}: schema is {report.schema}, this version reads {SCHEMA}")
    return report


def read_samples(path: Path, report: Report) -> Samples:
    """The raw values of the report at `path`. Raises `ConfigError` when they are missing or do not fit the report."""
    raw = path.parent / report.raw
    try:
        with raw.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            stages = {name: arrays[f"stage_{name}_ns"] for name in report.latency_ms.by_stage_p50}
            samples = Samples(arrays["begin_ns"], arrays["latency_ns"], stages)
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(f"raw values {raw} of {path.name} cannot be read: {error}") from error
    if samples.latency.size != report.method.samples:
        raise ConfigError(f"{raw} holds {samples.latency.size} samples, {path.name} says {report.method.samples}")
    return samples


def table(paths: Sequence[Path]) -> str:
    """Markdown: one row per run, with the conditions of each run below the table."""
    reports = [read_report(path) for path in paths]
    names = (
        "target, power mode",
        "runtime, precision",
        "scenario",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "late",
        "peak MB",
        "J/frame",
    )
    lines = [_line(names), "|---|---|---|--:|--:|--:|--:|--:|--:|", *map(_row, reports), ""]
    return "\n".join([*lines, *map(conditions, reports)])


def conditions(report: Report) -> str:
    """The sentences below the table that describe a run's conditions."""
    machine, method, subject = report.machine, report.method, report.subject
    paced = "" if method.fps is None else f" at {method.fps:g} fps"
    threads = f"{method.threads} thread{'s' * (method.threads != 1)}" if method.threads else "the runtime's own threads"
    gpu = f"{machine.gpu}, driver {machine.gpu_driver}; " if machine.gpu else ""
    energy = report.energy
    drawn = f"{energy.mean_w:.2f} W at {energy.rail}, idle {energy.idle_w:.2f} W; " if energy else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return (
        f"{method.scenario}{paced}, {method.duration_s:.0f} s after {method.warmup_s:g} s warm-up, "
        f"n = {method.samples}, {threads}; {machine.cpu_model or 'unknown CPU'}, {machine.cores} cores, {machine.os}; "
        f"{gpu}{drawn}{versions}; commit {subject.commit or 'unknown'}, bundle {subject.bundle_sha256[:12]}. "
        f"Inside the time: {', '.join(method.inside)}; outside: capture, decoding. "
        f"Validity: {'; '.join(report.validity) or 'nothing to note'}."
    )


def _row(report: Report) -> str:
    latency, subject = report.latency_ms, report.subject
    precision = "/".join(dict.fromkeys(subject.precision.values()))
    where = ", ".join(filter(None, (report.machine.target, report.machine.power_mode)))
    late = "" if latency.late_share is None else f"{latency.late_share:.1%}"
    cells = [where, f"{subject.runtime}, {precision}", report.method.scenario]
    cells += [_number(latency.p50), _number(latency.p95), _number(latency.p99), late]
    joule = f"{report.energy.joule_per_frame:.3f}" if report.energy else ""
    return _line([*cells, _number(report.memory_mb.peak_process, 0), joule])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None, digits: int = 2) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"
