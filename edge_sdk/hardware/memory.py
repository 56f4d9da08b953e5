"""Memory of a model on a target: at rest, while a stage runs, while engines are built, and what is available.

Weights, cache and state follow from shapes. Other numbers are estimates, whose figures name their sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from edge_sdk.hardware.figures import Figure, Target
from edge_sdk.hardware.numbers import ModelNumbers, ReasoningNumbers
from edge_sdk.hardware.roofline import PRECISIONS
from edge_sdk.types import Dialect, Value

RuntimeName = Literal["ort", "trt"]

_MB = 1e6
_MB_PER_GIB = 2**30 / _MB
_FP32_BYTES = 4

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
# The share of a board's or card's memory that programs can use: an Orin Nano shows 7.4 of its 8 GiB.
_VISIBLE_SHARE = {"jetson": 0.93, "gpu": 0.97, "cpu": 0.95}
# Memory of the system, capture and recording beside the models; a graphics card holds none of them.
_RESERVED_MB = {"jetson": 1000.0, "gpu": 0.0, "cpu": 1000.0}


class Part(Value, frozen=True, kw_only=True):
    """Memory of one part, 10^6 bytes. `estimated` is true for a rule of thumb, false for numbers from shapes."""

    name: str
    mb: float
    estimated: bool = False


def rest(numbers: ModelNumbers, runtime: RuntimeName, *, pinned: bool = False) -> Iterator[Part]:
    """Yield the memory held while nothing runs, part by part.

    `pinned` says that the host's copies of an engine's inputs use the same memory. Of these only LoRA matrices are
    large. On a CPU there is no such copy, only the mapped file that they are read from.
    """
    yield Part(name="process", mb=PROCESS_MB[runtime].value, estimated=not PROCESS_MB[runtime].verified)
    if numbers.student:
        student = numbers.student
        # Twice the state: it is read from one buffer and written to another.
        yield Part(name="student", mb=(student.weight_bytes + 2 * student.streams * student.state_bytes) / _MB)
    if numbers.reasoning:
        for name, size in numbers.reasoning.weight_bytes().items():
            yield Part(name=name, mb=size / _MB)
            if name == "LoRA" and pinned:
                yield Part(name="LoRA, pinned", mb=size / _MB)


def working_sets(numbers: ModelNumbers, runtime: RuntimeName, dialect: Dialect) -> Iterator[tuple[str, float]]:
    """Yield the memory that each stage needs while it runs, 10^6 bytes; with attention scores unless they are fused."""
    yield "none", 0.0
    fused = runtime == "trt" and dialect == "native"
    if numbers.student:
        yield "student", numbers.student.streams * numbers.student.activation_bytes / _MB
    if numbers.reasoning:
        yield "vision", _vision_set(numbers.reasoning, fused) / _MB
        yield "prefill", _prefill_set(numbers.reasoning, fused) / _MB


def _vision_set(reasoning: ReasoningNumbers, fused: bool) -> float:
    vision, size = reasoning.vision, PRECISIONS[reasoning.vision_precision].activation_bits / 8
    rows = reasoning.patches * (6 * vision.hidden + 2 * vision.intermediate)
    # Scores are held before and after the softmax.
    scores = 0 if fused else 2 * vision.heads * reasoning.patches**2
    return size * (rows + scores)


def _prefill_set(reasoning: ReasoningNumbers, fused: bool) -> float:
    decoder, size = reasoning.decoder, PRECISIONS[reasoning.precision].activation_bits / 8
    rows = reasoning.chunk * (6 * decoder.hidden + 3 * decoder.intermediate)
    scores = 0 if fused else 2 * decoder.heads * reasoning.chunk * reasoning.slots
    mask = reasoning.chunk * reasoning.slots * (1 + size)
    return size * (rows + scores) + mask + reasoning.branches * decoder.vocab * _FP32_BYTES


def build_mb(numbers: ModelNumbers) -> float:
    """Estimate the peak memory of building engines, one graph after the other, 10^6 bytes."""
    sizes = [numbers.reasoning.largest_graph_values()] if numbers.reasoning else []
    sizes += [numbers.student.weight_bytes // _FP32_BYTES] if numbers.student else []
    return max(BUILD_BASE_MB.value, BUILD_BYTES_PER_WEIGHT.value * max(sizes, default=0) / _MB)


def available_mb(target: Target) -> float | None:
    """Estimate the target's memory available to models, 10^6 bytes; None if nothing is claimed."""
    if target.memory_gib is None:
        return None
    return target.memory_gib.value * _MB_PER_GIB * _VISIBLE_SHARE[target.kind] - _RESERVED_MB[target.kind]
