"""Memory of a model on a target: at rest, while a stage runs, while engines are built, and what is available.

Weights, cache and state follow from shapes. Other numbers are estimates, whose figures name their sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from edge_sdk.engine.shapes import Limits
from edge_sdk.hardware.figures import Figure, Target
from edge_sdk.hardware.numbers import ModelNumbers, ReasoningNumbers
from edge_sdk.hardware.roofline import PRECISIONS
from edge_sdk.hardware.targets import MB_PER_GIB
from edge_sdk.types import Dialect, Value

RuntimeName = Literal["ort", "trt"]

_MB = 1e6
_FP32_BYTES = 4
# The largest call that an engine accepts, as `build` makes it without options.
_ENGINE = Limits()

# Memory of the process, its libraries and the device context before a model is opened.
PROCESS_MB: dict[RuntimeName, Figure] = {
    "ort": Figure(value=72, source="measured: Python 3.11, numpy, ONNX Runtime 1.32, x86-64", verified=True),
    "trt": Figure(
        value=450,
        source="logs in github.com/NVIDIA/TensorRT-LLM/issues/577: 119 MiB of the host, 308 MiB of a desktop GPU",
        verified=False,
    ),
}
BUILD_BASE_MB = Figure(
    value=2200,
    source="log in github.com/NVIDIA/TensorRT-LLM/issues/538: 2,061 MiB once the kernel library is loaded",
    verified=False,
)
BUILD_BYTES_PER_WEIGHT = Figure(
    value=3.5,
    source='github.com/NVIDIA/TensorRT-Edge-LLM/issues/30: "3-4x model parameter count", with 4-bit weights too',
    verified=False,
)
BUILD_COPIES = Figure(
    value=3,
    source="assumed, a board must settle it: mapped weights, the builder's copy of them, and the serialised engine",
    verified=False,
)
# The share of a board's or card's memory that programs can use: an Orin Nano shows 7.4 of its 8 GiB.
_VISIBLE_SHARE = {"jetson": 0.93, "gpu": 0.97, "cpu": 0.95}
# Memory of the system, capture and recording beside the models; a graphics card holds none of them.
_RESERVED_MB = {"jetson": 1000.0, "gpu": 0.0, "cpu": 1000.0}


class Part(Value, frozen=True, kw_only=True):
    """Memory of one part, 10^6 bytes. `estimated` is true for a rule of thumb, false for numbers from shapes."""

    name: str
    mb: float
    estimated: bool = False


def rest(numbers: ModelNumbers, runtime: RuntimeName, dialect: Dialect, *, pinned: bool = False) -> Iterator[Part]:
    """Yield the memory held while nothing runs, part by part; with TensorRT also the scratch memory of its sessions.

    The video LLM runs in a process of its own beside the student's. `pinned` says that the host's copies of an engine's
    inputs use the same memory. Of these only LoRA matrices are large. On a CPU there is no such copy, only the mapped
    file that they are read from.
    """
    both = numbers.student is not None and numbers.reasoning is not None
    for name in ("student's process", "reasoner's process") if both else ("process",):
        yield Part(name=name, mb=PROCESS_MB[runtime].value, estimated=not PROCESS_MB[runtime].verified)
    if numbers.student:
        student = numbers.student
        # Twice the state: it is read from one buffer and written to another.
        yield Part(name="student", mb=(student.weight_bytes + 2 * student.streams * student.state_bytes) / _MB)
    if numbers.reasoning:
        for name, size in numbers.reasoning.weight_bytes().items():
            yield Part(name=name, mb=size / _MB)
            if name == "LoRA" and pinned:
                yield Part(name="LoRA, pinned", mb=size / _MB)
    if runtime == "trt":
        yield from _scratch(numbers, fused=dialect == "native")


def _scratch(numbers: ModelNumbers, *, fused: bool) -> Iterator[Part]:
    """Yield the memory that TensorRT's sessions hold for their layers from opening to closing.

    Each session holds enough for the largest call that its engine accepts, whether such a call comes or not. All are
    open together, with a projector for every adapter and a decoder for every merged one.
    """
    if numbers.student:
        student = numbers.student
        streams = max(student.streams, _ENGINE.streams)
        yield Part(name="student scratch", mb=streams * student.activation_bytes / _MB, estimated=True)
    if numbers.reasoning:
        reasoning = numbers.reasoning
        sizes = {
            "vision": _ENGINE.frames * _vision_set(reasoning, fused),
            "projector": reasoning.adapters * _ENGINE.frames * _projector_set(reasoning),
            "decoder": reasoning.decoders * _prefill_set(reasoning, fused),
        }
        for name, size in sizes.items():
            yield Part(name=f"{name} scratch", mb=size / _MB, estimated=True)


def working_sets(numbers: ModelNumbers, runtime: RuntimeName) -> Iterator[tuple[str, float]]:
    """Yield the memory that each stage needs beyond `rest` while it runs, 10^6 bytes; none with TensorRT.

    ONNX Runtime writes out attention scores.
    """
    yield "none", 0.0
    if runtime == "trt":
        return
    if numbers.student:
        yield "student", numbers.student.streams * numbers.student.activation_bytes / _MB
    if numbers.reasoning:
        yield "vision", _vision_set(numbers.reasoning, fused=False) / _MB
        yield "prefill", _prefill_set(numbers.reasoning, fused=False) / _MB


def _vision_set(reasoning: ReasoningNumbers, fused: bool) -> float:
    """Return the bytes of one frame's activations; with attention scores unless they are fused."""
    vision, size = reasoning.vision, PRECISIONS[reasoning.vision_precision].activation_bits / 8
    rows = reasoning.patches * (6 * vision.hidden + 2 * vision.intermediate)
    # Scores are held before and after the softmax.
    scores = 0 if fused else 2 * vision.heads * reasoning.patches**2
    return size * (rows + scores)


def _projector_set(reasoning: ReasoningNumbers) -> float:
    """Return the bytes of one frame's tokens before, between and after the two matrices."""
    size = PRECISIONS[reasoning.vision_precision].activation_bits / 8
    return size * reasoning.frame_tokens * (reasoning.vision.hidden + 3 * reasoning.decoder.hidden)


def _prefill_set(reasoning: ReasoningNumbers, fused: bool) -> float:
    decoder, size = reasoning.decoder, PRECISIONS[reasoning.precision].activation_bits / 8
    rows = reasoning.chunk * (6 * decoder.hidden + 3 * decoder.intermediate)
    scores = 0 if fused else 2 * decoder.heads * reasoning.chunk * reasoning.slots
    mask = reasoning.chunk * reasoning.slots * (1 + size)
    return size * (rows + scores) + mask + reasoning.branches * decoder.vocab * _FP32_BYTES


def build_mb(numbers: ModelNumbers, *, shared: bool) -> float:
    """Estimate the peak memory of building engines, one graph after the other, 10^6 bytes.

    `shared` says that the device uses the host's memory, where the copies of a graph's files are. A graphics card does
    not hold them all, so they are left out of its estimate.
    """
    found = [building_mb(0, 0.0)]
    if numbers.student:
        stored_bytes = numbers.student.weight_bytes
        found.append(building_mb(stored_bytes // _FP32_BYTES, stored_bytes if shared else 0))
    if numbers.reasoning:
        stored = numbers.reasoning.weight_bytes()
        decoder_bytes = (stored["decoder"] + stored.get("head", 0.0)) / numbers.reasoning.decoders
        found.append(building_mb(numbers.reasoning.largest_graph_values(), decoder_bytes if shared else 0))
    return max(found)


def building_mb(weights: int, stored_bytes: float) -> float:
    """Estimate the peak memory of building the engine of a graph with `weights` values, 10^6 bytes.

    `stored_bytes` are the bytes of the graph's files. The largest of three estimates counts: a fixed base, bytes for
    each weight, and copies of the files. Of the last two, the former is larger for weights in few bits, and the latter
    for weights in 16 or 32.
    """
    weights_mb, copies_mb = BUILD_BYTES_PER_WEIGHT.value * weights / _MB, BUILD_COPIES.value * stored_bytes / _MB
    return max(BUILD_BASE_MB.value, weights_mb, copies_mb)


def available_mb(target: Target) -> float | None:
    """Estimate the target's memory available to models, 10^6 bytes; None if nothing is claimed."""
    if target.memory_gib is None:
        return None
    return target.memory_gib.value * MB_PER_GIB * _VISIBLE_SHARE[target.kind] - _RESERVED_MB[target.kind]
