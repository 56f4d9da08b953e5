"""Targets as data: the boards this SDK is made for, graphics cards for development, and CPUs.

Code checks a target's properties, never its name. Peaks of Jetson modules are computed from clocks and unit counts,
because advertised peaks include sparsity, and often the DLA. Shares of peaks, unless said to be assumed, were computed
from published runs of language models with 4-bit weights (prefill of 2,048 tokens, then decoding), with the same
arithmetic as in `plan`; they include all that a roofline leaves out.
"""

from __future__ import annotations

from edge_sdk.errors import UnknownNameError
from edge_sdk.hardware.figures import Figure, Target
from edge_sdk.hardware.probes import Machine

MB_PER_GIB = 2**30 / 1e6
# The least share of a module's memory that firmware and carve-outs leave: 7.4 of 8 GiB on an Orin Nano, 15.3 of 16 on
# an Orin NX.
_LEAST_VISIBLE_SHARE = 0.85

_EDGE_LLM = "nvidia.github.io/TensorRT-Edge-LLM/0.10.0/user_guide/performance/performance-benchmarks.html"
_NANO = "www.brojogopalsapui.com, Jetson Orin Nano Super, after NVIDIA's data sheet"
_ORIN_CORE = "1,024 int8 operations a clock and tensor core (64 cores at 1.3 GHz make 85.2 TOPS), fp16 half"
_NX = f"gist.github.com/atinfinity/8cede915acda05d0ff427c09604735dd: 8 SM at 918 MHz; {_ORIN_CORE}"
_AGX = "Jetson AGX Orin technical brief, after www.mzph.cn/web/30785.shtml: 170 sparse int8 TOPS of 64 tensor cores"
_THOR = "torring.dev/blog/2026/rtx-spark-throttling: 20 SM at 1,570 MHz"
_THOR_PEAK = "learnaivisually.com/ai-explained/jetson-thor-edge-blackwell: 2,070 fp4 TFLOPS, sparse"
_RTX_3090 = "holynerdvana.blogspot.com/2022/10/nvidia-geforce-rtx-3090-specifications.html"
_RTX_4090 = "hmc-tech.com/gpus/nvidia-geforce-rtx-4090-vs-nvidia-rtx-pro-5000-blackwell"
_RTX_5090 = "www.spheron.network/blog/nvidia-rtx-5090-specs, sparse peaks halved"
_H200 = "ai-hpc.github.io, 8x H200, after NVIDIA's data sheet; sparse peaks halved"
_LIKE_ORIN = "assumed as on AGX Orin; no run of this card was found"
_EPYC = "benchmarks/results/2026-11-22"
_CORTEX = "Cortex-A78AE: two 128-bit pipes a core, six cores at 1.7 GHz (Orin Nano Super)"


def _read(value: float, source: str) -> Figure:
    return Figure(value=value, source=source, verified=True)


def _told(value: float, source: str) -> Figure:
    return Figure(value=value, source=source, verified=False)


CPU = Target(name="cpu", title="a machine of which nothing is claimed", kind="cpu")

TARGETS: tuple[Target, ...] = (
    Target(
        name="orin-nano-8gb",
        title="Jetson Orin Nano 8 GB (Super)",
        kind="jetson",
        board="Orin Nano",
        sm=87,
        memory_gib=_read(8, _NANO),
        bandwidth_gb_s=_read(102.0, _NANO),
        dense_tops={
            "fp32": _read(2.09, f"{_NANO}: 1,024 cores at 1.02 GHz, two operations a clock"),
            "fp16": _read(16.7, f"{_NANO}: 67 sparse int8 TOPS, a quarter"),
            "int8": _read(33.4, f"{_NANO}: 67 sparse int8 TOPS, half"),
        },
        compute_share=_told(0.37, f"{_EDGE_LLM}: Qwen3-1.7B, 1,021 ms"),
        bandwidth_share=_told(0.50, f"{_EDGE_LLM}: Qwen3-1.7B, 32.3 tokens a second"),
    ),
    Target(
        name="orin-nx-16gb",
        title="Jetson Orin NX 16 GB",
        kind="jetson",
        board="Orin NX",
        sm=87,
        memory_gib=_told(16, "NVIDIA's data sheet of Jetson Orin NX"),
        bandwidth_gb_s=_told(102.4, "NVIDIA's data sheet of Jetson Orin NX"),
        dense_tops={
            "fp32": _read(1.88, f"{_NX}; 128 cores an SM, two operations a clock"),
            "fp16": _read(15.0, _NX),
            "int8": _read(30.1, _NX),
        },
        compute_share=_told(0.62, f"{_EDGE_LLM}: Qwen3-4B and -8B, 1,881 and 2,944 ms, perhaps at higher clocks"),
        bandwidth_share=_told(0.86, f"{_EDGE_LLM}: Qwen3-4B and -8B, 29.2 and 17.5 tokens a second"),
    ),
    Target(
        name="agx-orin-64gb",
        title="Jetson AGX Orin 64 GB",
        kind="jetson",
        board="AGX Orin",
        sm=87,
        memory_gib=_told(64, "NVIDIA's data sheet of Jetson AGX Orin"),
        bandwidth_gb_s=_told(204.8, "NVIDIA's data sheet of Jetson AGX Orin: 256 bits of LPDDR5-6400"),
        dense_tops={
            "fp32": _read(5.3, _AGX),
            "fp16": _read(42.6, f"{_AGX}, a quarter"),
            "int8": _read(85.2, f"{_AGX}, half"),
        },
        compute_share=_told(0.50, f"{_EDGE_LLM}: Qwen3-4B and -8B, 762 and 1,384 ms"),
        bandwidth_share=_told(0.75, f"{_EDGE_LLM}: Qwen3-4B and -8B, 50.7 and 30.6 tokens a second"),
    ),
    Target(
        name="thor-t5000",
        title="Jetson Thor T5000",
        kind="jetson",
        board="Thor",
        sm=110,
        memory_gib=_read(128, "huggingface.co/hardware/jetson-t5000"),
        bandwidth_gb_s=_told(273.0, "NVIDIA's data sheet of Jetson Thor T5000"),
        dense_tops={
            "fp32": _read(8.04, f"{_THOR}; 128 cores an SM, two operations a clock"),
            "fp16": _read(258.0, "huggingface.co/hardware/jetson-t5000: 258.5 TFLOPS"),
            "int8": _told(517.0, "as fp8; not advertised"),
            "fp8": _read(517.0, f"{_THOR_PEAK}, a quarter"),
            "fp4": _read(1035.0, f"{_THOR_PEAK}, half"),
        },
        compute_share=_told(0.17, f"{_EDGE_LLM}: Qwen3-8B with 4-bit weights, 663 ms; 0.27 with NVFP4, 105 ms"),
        bandwidth_share=_told(0.85, f"{_EDGE_LLM}: Qwen3-8B, 46.4 tokens a second"),
    ),
    Target(
        name="rtx-3090",
        title="GeForce RTX 3090",
        kind="gpu",
        sm=86,
        memory_gib=_read(24, _RTX_3090),
        bandwidth_gb_s=_read(936.0, _RTX_3090),
        dense_tops={
            "fp32": _read(35.6, _RTX_3090),
            "fp16": _read(142.0, f"{_RTX_3090}: sums in fp16; half as much with sums in fp32"),
            "int8": _told(284.0, "NVIDIA Ampere GA102 white paper, appendix A"),
        },
        compute_share=_told(0.50, _LIKE_ORIN),
        bandwidth_share=_told(0.75, _LIKE_ORIN),
    ),
    Target(
        name="rtx-4090",
        title="GeForce RTX 4090",
        kind="gpu",
        sm=89,
        memory_gib=_read(24, _RTX_4090),
        bandwidth_gb_s=_read(1010.0, _RTX_4090),
        dense_tops={
            "fp32": _read(82.6, _RTX_4090),
            "fp16": _read(330.3, f"{_RTX_4090}: sums in fp16; half as much with sums in fp32"),
            "int8": _read(660.6, _RTX_4090),
            "fp8": _read(660.6, f"{_RTX_4090}: sums in fp16; half as much with sums in fp32"),
        },
        compute_share=_told(0.50, _LIKE_ORIN),
        bandwidth_share=_told(0.75, _LIKE_ORIN),
    ),
    Target(
        name="h200",
        title="H200 SXM",
        kind="gpu",
        sm=90,
        memory_gib=_read(131, f"{_H200}: 141 GB of 10^9 bytes"),
        bandwidth_gb_s=_read(4800.0, _H200),
        dense_tops={
            "fp32": _read(66.9, "hmc-tech.com/gpu/nvidia-h100-vs-nvidia-h200-sxm-vs-nvidia-gb200"),
            "fp16": _read(989.5, _H200),
            "int8": _read(
                1979.0, "hmc-tech.com/gpu/nvidia-h100-vs-nvidia-h200-sxm-vs-nvidia-gb200, sparse peak halved"
            ),
            "fp8": _read(1979.0, _H200),
        },
        compute_share=_told(0.50, _LIKE_ORIN),
        bandwidth_share=_told(0.75, _LIKE_ORIN),
    ),
    Target(
        name="rtx-5090",
        title="GeForce RTX 5090",
        kind="gpu",
        sm=120,
        memory_gib=_read(32, _RTX_5090),
        bandwidth_gb_s=_read(1792.0, _RTX_5090),
        dense_tops={
            "fp32": _read(105.2, _RTX_5090),
            "fp16": _read(419.2, f"{_RTX_5090}; sums in fp16; half as much with sums in fp32"),
            "int8": _read(838.0, "analysis.castromedia.org/analysis/compute/entities/rtx-5090.html"),
            "fp8": _read(838.4, f"{_RTX_5090}; sums in fp16; half as much with sums in fp32"),
            "fp4": _read(1676.0, _RTX_5090),
        },
        compute_share=_told(0.50, _LIKE_ORIN),
        bandwidth_share=_told(0.75, _LIKE_ORIN),
    ),
    Target(
        name="x86-cpu",
        title="two cores of an AMD EPYC (Zen 5) in a virtual machine",
        kind="cpu",
        cores=2,
        memory_gib=_read(24, _EPYC),
        bandwidth_gb_s=_told(31.0, "measured: a product with a matrix of 268 MB, one core, the machine in other use"),
        dense_tops={"fp32": _read(0.382, f"{_EPYC}: the demo student, 338.6 MFLOP in 1.77 ms on one core, twice")},
        compute_share=_told(1.0, "the peak above is one that a model reached"),
        bandwidth_share=_told(1.0, "the bandwidth above is one that a product reached"),
    ),
    Target(
        name="arm64-cpu",
        title="six Cortex-A78AE cores of an Orin Nano",
        kind="cpu",
        cores=6,
        memory_gib=_read(8, _NANO),
        bandwidth_gb_s=_read(102.0, f"{_NANO}; shared with the GPU"),
        dense_tops={
            "fp32": _told(0.163, f"{_CORTEX}, 16 operations a clock"),
            "fp16": _told(0.326, f"{_CORTEX}, 32 operations a clock"),
            "int8": _told(0.653, f"{_CORTEX}, 64 operations a clock (SDOT)"),
        },
        compute_share=_told(0.7, "assumed; no run on this CPU was found"),
        bandwidth_share=_told(0.4, "assumed: a cluster of cores reaches less of the memory than the GPU"),
    ),
    CPU,
)
"""Every target."""


def find_target(name: str) -> Target:
    """Return the target called `name`. Raises `UnknownNameError`."""
    for target in TARGETS:
        if target.name == name:
            return target
    raise UnknownNameError("target", name, [target.name for target in TARGETS])


def target_of(machine: Machine) -> Target:
    """Return the target that matches `machine`'s board and memory; else `CPU`, which claims nothing."""
    for target in TARGETS:
        if target.board and machine.board and target.board in machine.board and _has_memory(machine, target):
            return target
    return CPU


def _has_memory(machine: Machine, target: Target) -> bool:
    if machine.memory_total_mb is None or target.memory_gib is None:
        return False
    share = machine.memory_total_mb / (target.memory_gib.value * MB_PER_GIB)
    return _LEAST_VISIBLE_SHARE <= share <= 1.0
