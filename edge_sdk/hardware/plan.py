"""Plan what memory a model needs on a target, and how long its stages take, before anything is built or bought.

Memory is the sum of parts that are known exactly (weights, cache, state) and a few estimates, each marked as one. Times
are rooflines at the shares of peak and bandwidth that large models were seen to reach on that target. They exclude
kernel launches and any other load on the machine: they guide a choice, but are not a measurement.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.hardware import Target, dialect_of, newest_jetpack
from edge_sdk.hardware.bundled import model_numbers
from edge_sdk.hardware.memory import (
    BUILD_BASE_MB,
    BUILD_BYTES_PER_WEIGHT,
    BUILD_COPIES,
    PROCESS_MB,
    Part,
    RuntimeName,
    available_mb,
    build_mb,
    rest,
    working_sets,
)
from edge_sdk.hardware.numbers import ModelNumbers, ReasoningNumbers, widened
from edge_sdk.hardware.precision import computes
from edge_sdk.hardware.roofline import PRECISIONS, Precision, Stage
from edge_sdk.hardware.stages import clip_s, stages
from edge_sdk.types import Dialect, Value

_MB = 1e6
# Precisions to try if a model does not fit, the most exact first.
_SMALLER: tuple[Precision, ...] = ("w8a16", "w4a16")
_INT8_WEIGHTS = (
    "engine size with INT8 weights and float inputs: TensorRT may store such weights in 16 bits, as NVIDIA documents "
    "weight-only quantisation for INT4 alone (docs.nvidia.com/deeplearning/tensorrt/10.11.0, work-quantized-types)"
)


class Plan(Value, frozen=True, kw_only=True):
    """The result of `plan`. Memory is in 10^6 bytes; None if the target claims nothing.

    `rest` adds up to `rest_mb`, which is held while nothing runs. `peak_mb` also includes the working set of the stage
    that needs most, `peak_stage`: "none" with TensorRT, whose sessions hold theirs at rest. `build_mb` is the peak of
    building engines, None if none are built. `mapped_mb` stays on disk and is read row by row. `runs` and `builds` say
    whether `available_mb` is enough, `reasons` why the model would not work, and `advice` what would help. `unverified`
    names the figures used here that nobody has checked.
    """

    model: str
    target: str
    runtime: RuntimeName
    dialect: Dialect
    tensorrt: str | None
    precision: dict[str, Precision]
    rest: tuple[Part, ...]
    rest_mb: float
    peak_mb: float
    peak_stage: str
    mapped_mb: float
    build_mb: float | None
    available_mb: float | None
    stages: tuple[Stage, ...]
    clip_s: float | None
    runs: bool | None
    builds: bool | None
    reasons: tuple[str, ...]
    advice: tuple[str, ...] = ()
    unverified: tuple[str, ...]


def plan(
    model: Bundle | ModelNumbers, target: Target, *, tensorrt: str | None = None, threads: int | None = None
) -> Plan:
    """Compute what `model` needs on `target`.

    `tensorrt` is the version that is or will be installed, by default that of the newest JetPack for the board.
    `threads` is the number of CPU cores used, by default all. Raises `ConfigError` for a TensorRT that is too old,
    `BundleError` for a graph that cannot be read.
    """
    numbers = model if isinstance(model, ModelNumbers) else model_numbers(model)
    found = _plan(numbers, target, tensorrt, threads)
    return msgspec.structs.replace(found, advice=tuple(_advice(found, numbers, target, tensorrt, threads)))


def _plan(numbers: ModelNumbers, target: Target, tensorrt: str | None, threads: int | None) -> Plan:
    runtime: RuntimeName = "trt" if target.sm is not None else "ort"
    if runtime == "ort":
        numbers = widened(numbers)
    version = (tensorrt or _usual_tensorrt(target)) if runtime == "trt" else None
    dialect: Dialect = dialect_of(version) if version else next(iter(numbers.dialects), "native")
    held = tuple(rest(numbers, runtime, dialect, pinned=runtime == "trt" and target.kind == "jetson"))
    rest_mb = sum(part.mb for part in held)
    peak_stage, working_mb = max(working_sets(numbers, runtime), key=lambda each: each[1])
    peak_mb = rest_mb + working_mb
    building_mb = build_mb(numbers, shared=target.kind == "jetson") if runtime == "trt" else None
    free_mb = available_mb(target)
    timed = tuple(stages(numbers, target, threads))
    reasons = [*_dialect_reasons(numbers, runtime, version, dialect), *_memory_reasons(peak_mb, building_mb, free_mb)]
    reasons += _other_reasons(numbers, target, timed)
    return Plan(
        model=numbers.name,
        target=target.name,
        runtime=runtime,
        dialect=dialect,
        tensorrt=version,
        precision=_precisions(numbers),
        rest=held,
        rest_mb=rest_mb,
        peak_mb=peak_mb,
        peak_stage=peak_stage,
        mapped_mb=numbers.reasoning.embedding_bytes() / _MB if numbers.reasoning else 0.0,
        build_mb=building_mb,
        available_mb=free_mb,
        stages=timed,
        clip_s=clip_s(timed),
        runs=None if free_mb is None else peak_mb <= free_mb,
        builds=None if free_mb is None or building_mb is None else building_mb <= free_mb,
        reasons=tuple(reasons),
        unverified=tuple(_unverified(numbers, target, runtime)),
    )


def _usual_tensorrt(target: Target) -> str | None:
    jetpack = newest_jetpack(target.sm or 0)
    return jetpack.tensorrt if jetpack else None


def _precisions(numbers: ModelNumbers) -> dict[str, Precision]:
    found: dict[str, Precision] = {}
    if numbers.student:
        found["student"] = numbers.student.precision
    if numbers.reasoning:
        found |= {"vision": numbers.reasoning.vision_precision, "decoder": numbers.reasoning.precision}
    return found


def _dialect_reasons(
    numbers: ModelNumbers, runtime: RuntimeName, version: str | None, dialect: Dialect
) -> Iterator[str]:
    if dialect not in numbers.dialects:
        reader = f"TensorRT {version}" if runtime == "trt" and version else "the runtime"
        yield (
            f"{reader} reads {dialect} graphs, and not every part of {numbers.name} has one; "
            f"export it again with --dialect {dialect}"
        )


def _memory_reasons(peak_mb: float, building_mb: float | None, free_mb: float | None) -> Iterator[str]:
    if free_mb is None:
        return
    if peak_mb > free_mb:
        yield f"running needs {peak_mb:,.0f} MB, and {free_mb:,.0f} MB are available"
    if building_mb is not None and building_mb > free_mb:
        yield (
            f"building engines needs about {building_mb:,.0f} MB, and {free_mb:,.0f} MB are available; "
            f"add {building_mb - free_mb:,.0f} MB of swap, or take a smaller model"
        )


def _other_reasons(numbers: ModelNumbers, target: Target, timed: tuple[Stage, ...]) -> Iterator[str]:
    computed = _precisions(numbers)
    if numbers.reasoning and numbers.reasoning.fp8 and "fp8" not in computed.values():
        yield from _lacking("some of its matrices", "fp8", target)
    for part, precision in computed.items():
        yield from _lacking(part, precision, target)
    rate_hz = numbers.student.rate_hz if numbers.student else 0.0
    for each in timed:
        if each.name == "student" and each.each_s and each.each_s * rate_hz > 1:
            yield f"the student takes {each.each_s * 1e3:.0f} ms a frame, and {rate_hz:g} frames come a second"


def _lacking(part: str, precision: Precision, target: Target) -> Iterator[str]:
    needed = PRECISIONS[precision].smallest_sm
    if needed > (target.sm or 0) and not computes(target, precision):
        yield f"{part}: {precision} needs a GPU of sm_{needed} or newer, {target.name} has {_sm(target)}"


def _sm(target: Target) -> str:
    return f"sm_{target.sm}" if target.sm is not None else "no GPU"


def _advice(
    found: Plan, numbers: ModelNumbers, target: Target, tensorrt: str | None, threads: int | None
) -> Iterator[str]:
    """Name the most exact precision that would fit if this one does not."""
    if found.runs is not False or numbers.reasoning is None:
        return
    for precision in _SMALLER:
        smaller = msgspec.structs.replace(numbers.reasoning, precision=precision, stored_bytes=None)
        tried = _plan(msgspec.structs.replace(numbers, reasoning=smaller), target, tensorrt, threads)
        if tried.runs and tried.peak_mb < found.peak_mb:
            yield f"with {precision} it would need {tried.peak_mb:,.0f} MB, and run"
            return
    yield "no precision makes it fit; take a smaller model, fewer slots, or a larger board"


def _unverified(numbers: ModelNumbers, target: Target, runtime: RuntimeName) -> Iterator[str]:
    for name, figure in target.figures().items():
        if not figure.verified:
            yield f"{target.name}.{name} = {figure.value:g} ({figure.source})"
    if runtime == "trt":
        for name, figure in (
            ("process", PROCESS_MB["trt"]),
            ("build base", BUILD_BASE_MB),
            ("build bytes a weight", BUILD_BYTES_PER_WEIGHT),
            ("build copies of the weights", BUILD_COPIES),
        ):
            yield f"{name} = {figure.value:g} ({figure.source})"
        if numbers.reasoning and _weights_of_8_bits(numbers.reasoning):
            yield _INT8_WEIGHTS


def _weights_of_8_bits(reasoning: ReasoningNumbers) -> bool:
    """Whether INT8 weights meet inputs in floats."""
    return "w8a16" in (reasoning.precision, reasoning.vision_precision) or reasoning.head_bits == 8


def describe(found: Plan) -> str:
    """Describe a plan for a terminal."""
    return "\n".join(_lines(found))


def _lines(found: Plan) -> Iterator[str]:
    version = f" {found.tensorrt}" if found.tensorrt else ""
    runtime = "ONNX Runtime" if found.runtime == "ort" else f"TensorRT{version}"
    yield f"{found.model} on {found.target}: {runtime}, {found.dialect} graphs"
    yield "precision " + ", ".join(f"{part} {precision}" for part, precision in found.precision.items())
    yield from _memory_lines(found)
    yield from _time_lines(found)
    for reason in found.reasons:
        yield f"no: {reason}"
    for advice in found.advice:
        yield f"try: {advice}"
    if found.runs is None:
        yield f"nothing is known of {found.target}, so no times and no verdict"
    elif not found.reasons:
        yield "fits"
    for figure in found.unverified:
        yield f"unverified: {figure}"


def _memory_lines(found: Plan) -> Iterator[str]:
    yield "memory, MB"
    for part in found.rest:
        yield f"  {part.name:18}{part.mb:>10,.1f}{'  estimate' if part.estimated else ''}"
    yield f"  {'at rest':18}{found.rest_mb:>10,.1f}"
    when = "no stage needs more" if found.peak_stage == "none" else f"while {found.peak_stage} runs"
    yield f"  {'peak':18}{found.peak_mb:>10,.1f}  {when}"
    if found.available_mb is not None:
        yield f"  {'available':18}{found.available_mb:>10,.1f}  estimate"
    if found.build_mb is not None:
        yield f"  {'building':18}{found.build_mb:>10,.1f}  estimate"
    if found.mapped_mb:
        yield f"  {'on disk':18}{found.mapped_mb:>10,.1f}  embedding table, mapped"


def _time_lines(found: Plan) -> Iterator[str]:
    timed = [(each, each.each_s) for each in found.stages if each.each_s is not None]
    if timed:
        yield f"time{'':14}{'each':>11}{'times':>8}{'in all':>10}  bound by"
    for each, each_s in timed:
        each_ms, all_s = each_s * 1e3, each_s * each.count
        yield f"  {each.name:10}{each.unit:>6}{each_ms:>8.1f} ms{each.count:>8}{all_s:>8.2f} s  {each.bound}"
    if found.clip_s is not None:
        yield f"  every answer {found.clip_s:.1f} s after a whole clip is given"
