"""The arithmetic and the memory traffic of each stage of the models, and the time that each of the two takes.

A stage takes at least its operations over the peak, and at least its bytes over the bandwidth. The longer of the two
determines its time (Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009); on a CPU they add up. A multiply-add
counts as two operations. Small operators (norms, activations, softmax) are left out, as they overlap with large ones.
"""

from __future__ import annotations

from typing import Literal

from edge_sdk.bundle.model_sizes import DecoderSizes, VisionSizes
from edge_sdk.hardware.figures import Peak, Target
from edge_sdk.types import Value

Bound = Literal["compute", "bandwidth"]
Precision = Literal["fp32", "fp16", "int8", "w8a16", "w8a8", "w4a16", "fp8", "nvfp4"]
"""`wXaY` is for language models: bits of a weight and of its input. `int8` is for students: the convolutions over
pictures, nearly all of the arithmetic, use integers, and the rest float32.
"""


class PrecisionNumbers(Value, frozen=True, kw_only=True):
    """The cost of a precision: bits per weight including scales, bits per activation, and the peak that applies.

    `smallest_sm` is the oldest GPU that compilers support it for: TensorRT-RTX 1.7.1 accepts 4-bit weights from SM 80
    on, and refuses SM 75. 4-bit weights have one fp16 scale per 128 weights, NVFP4 one fp8 scale per 16.
    """

    weight_bits: float
    activation_bits: int
    peak: Peak
    smallest_sm: int = 0


PRECISIONS: dict[Precision, PrecisionNumbers] = {
    "fp32": PrecisionNumbers(weight_bits=32, activation_bits=32, peak="fp32"),
    "fp16": PrecisionNumbers(weight_bits=16, activation_bits=16, peak="fp16"),
    "int8": PrecisionNumbers(weight_bits=8, activation_bits=8, peak="int8"),
    "w8a16": PrecisionNumbers(weight_bits=8, activation_bits=16, peak="fp16"),
    "w8a8": PrecisionNumbers(weight_bits=8, activation_bits=16, peak="int8"),
    "w4a16": PrecisionNumbers(weight_bits=4 + 16 / 128, activation_bits=16, peak="fp16", smallest_sm=80),
    "fp8": PrecisionNumbers(weight_bits=8, activation_bits=16, peak="fp8", smallest_sm=89),
    "nvfp4": PrecisionNumbers(weight_bits=4 + 8 / 16, activation_bits=16, peak="fp4", smallest_sm=100),
}


class Work(Value, frozen=True, kw_only=True):
    """Operations, and bytes transferred between memory and processor."""

    flops: float
    bytes: float


class Rates(Value, frozen=True, kw_only=True):
    """The rates that a target sustains: operations and bytes per second. `overlap`: it does both at the same time.

    GPUs do. On a CPU core the times were seen to add up: for products of 1 to 24 rows with a matrix larger than the
    caches, the sum was right within a fifth, while the longer alone was off by up to three fifths (ONNX Runtime 1.32,
    Zen 5).
    """

    flops_s: float
    bytes_s: float
    overlap: bool = True


class Stage(Value, frozen=True, kw_only=True):
    """One stage: the cost of one `unit` of it, and the number of units, `count`.

    `each_s` is the longer of `compute_s` and `bandwidth_s`, in seconds per unit, or on a CPU their sum. `bound` says
    which of the two is longer. All are None if the target claims nothing.
    """

    name: str
    unit: str
    count: int
    work: Work
    compute_s: float | None = None
    bandwidth_s: float | None = None
    each_s: float | None = None
    bound: Bound | None = None


def rates(target: Target, precision: Precision, threads: int | None = None) -> Rates | None:
    """Return the rates that `target` sustains in `precision`; None if it claims no peak or no bandwidth.

    A precision without a peak of its own runs at that of fp32, as fp16 does on most CPUs. `threads` of a CPU's cores
    have their share of its peak, but all of its bandwidth.
    """
    peak = target.dense_tops.get(PRECISIONS[precision].peak) or target.dense_tops.get("fp32")
    if peak is None or target.bandwidth_gb_s is None:
        return None
    part = min(1.0, threads / target.cores) if threads and target.cores else 1.0
    compute = target.compute_share.value if target.compute_share else 1.0
    bandwidth = target.bandwidth_share.value if target.bandwidth_share else 1.0
    return Rates(
        flops_s=peak.value * 1e12 * part * compute,
        bytes_s=target.bandwidth_gb_s.value * 1e9 * bandwidth,
        overlap=target.kind != "cpu",
    )


def stage(name: str, unit: str, count: int, work: Work, at: Rates | None) -> Stage:
    """Make a stage, timed at the rates `at`; untimed if that is None."""
    if at is None:
        return Stage(name=name, unit=unit, count=count, work=work)
    compute_s, bandwidth_s = work.flops / at.flops_s, work.bytes / at.bytes_s
    return Stage(
        name=name,
        unit=unit,
        count=count,
        work=work,
        compute_s=compute_s,
        bandwidth_s=bandwidth_s,
        each_s=max(compute_s, bandwidth_s) if at.overlap else compute_s + bandwidth_s,
        bound="compute" if compute_s >= bandwidth_s else "bandwidth",
    )


def vision_work(vision: VisionSizes, patches: int, frames: int, precision: Precision) -> Work:
    """Compute the work of one run on `frames` frames of `patches` patches; attention stays within a frame."""
    bits = PRECISIONS[precision]
    linear = 2 * vision.weights * patches
    attention = 4 * vision.layers * vision.hidden * patches**2
    passed = vision.layers * patches * (8 * vision.hidden + 2 * vision.intermediate)
    return Work(
        flops=frames * (linear + attention),
        bytes=vision.weights * bits.weight_bits / 8 + frames * passed * bits.activation_bits / 8,
    )


def projector_weights(vision: VisionSizes, decoder: DecoderSizes) -> int:
    """Count the values in the two matrices of one projector."""
    return vision.hidden * decoder.hidden + decoder.hidden**2


def projector_work(vision: VisionSizes, decoder: DecoderSizes, tokens: int, precision: Precision) -> Work:
    """Compute the work of projecting `tokens` image tokens."""
    weights = projector_weights(vision, decoder)
    bits = PRECISIONS[precision]
    passed = tokens * (vision.hidden + 3 * decoder.hidden)
    return Work(flops=2 * weights * tokens, bytes=(weights * bits.weight_bits + passed * bits.activation_bits) / 8)


def decoder_work(
    decoder: DecoderSizes,
    tokens: int,
    attended: float,
    rows: int,
    precision: Precision,
    head_bits: int | None = None,
    kv_bits: int | None = None,
    lora_values: int = 0,
) -> Work:
    """Compute the work of one call with `tokens` new tokens, each attending to `attended` slots, and `rows` logit rows.

    The weights and the attended part of the cache are read once. `head_bits` and `kv_bits`, the bits of a value of the
    head and of the cache, default to those of an activation. `lora_values` counts the values of matrices beside the
    weights, which have the bits of an activation.
    """
    bits = PRECISIONS[precision]
    head_bits, kv_bits = head_bits or bits.activation_bits, kv_bits or bits.activation_bits
    linear = 2 * ((decoder.weights + lora_values) * tokens + decoder.head_weights * rows)
    attention = 4 * decoder.layers * decoder.heads * decoder.head_dim * tokens * attended
    passed = decoder.layers * tokens * (6 * decoder.hidden + 3 * decoder.intermediate) * bits.activation_bits
    weights = decoder.weights * bits.weight_bits + lora_values * bits.activation_bits
    weights += decoder.head_weights * head_bits * (rows > 0)
    return Work(
        flops=linear + attention,
        bytes=(weights + passed + decoder.kv_values * kv_bits * (attended + tokens)) / 8,
    )
