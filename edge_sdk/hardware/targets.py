"""Targets as data: the properties of the boards this SDK is made for.

Code asks a target for a property, never for its name.
"""

from __future__ import annotations

from typing import Literal

from edge_sdk.errors import UnknownNameError
from edge_sdk.hardware.probes import Machine
from edge_sdk.types import Value

Peak = Literal["fp16", "int8", "fp8", "fp4"]
_MB_PER_GIB = 2**30 / 1e6
# What firmware and carve-outs leave of a module's memory: 7.4 of 8 GiB on an Orin Nano, 15.3 of 16 on an Orin NX.
_LEAST_VISIBLE_SHARE = 0.85


class Target(Value, frozen=True, kw_only=True):
    """One kind of machine.

    `sm` is the GPU's compute capability times ten; `bandwidth_gb_s` that of the memory, 10^9 bytes a second;
    `dense_tops` the nominal dense peak of the GPU's tensor cores by element type, 10^12 operations a second, without
    DLA. None and an empty mapping mean that it has no such part, or that nothing is claimed. `board` is the text by
    which the device tree names the machine.
    """

    name: str
    board: str | None
    sm: int | None
    memory_gib: int | None
    bandwidth_gb_s: float | None
    dense_tops: dict[Peak, float]


CPU = Target(name="cpu", board=None, sm=None, memory_gib=None, bandwidth_gb_s=None, dense_tops={})

TARGETS: tuple[Target, ...] = (
    Target(
        name="orin-nano-8gb",
        board="Orin Nano",
        sm=87,
        memory_gib=8,
        bandwidth_gb_s=102.0,
        dense_tops={"fp16": 16.7, "int8": 33.4},
    ),
    Target(
        name="orin-nx-16gb",
        board="Orin NX",
        sm=87,
        memory_gib=16,
        bandwidth_gb_s=102.4,
        dense_tops={"fp16": 15.0, "int8": 30.1},
    ),
    Target(
        name="agx-orin-64gb",
        board="AGX Orin",
        sm=87,
        memory_gib=64,
        bandwidth_gb_s=204.8,
        dense_tops={"fp16": 42.6, "int8": 85.2},
    ),
    Target(
        name="thor-t5000",
        board="Thor",
        sm=110,
        memory_gib=128,
        bandwidth_gb_s=273.0,
        dense_tops={"fp16": 258.0, "int8": 517.0, "fp8": 517.0, "fp4": 1035.0},
    ),
    CPU,
)
"""Every target. Nominal figures, to be measured before they are quoted.

Memory and bandwidth: NVIDIA's data sheets of Jetson Orin Nano (Super: 102 GB/s), Orin NX, AGX Orin and Thor T5000.
`sm`: NVIDIA's list of CUDA GPUs (8.7, 11.0). Peaks: half of the sparse TOPS advertised for the GPU (67 for Orin Nano
Super, 60 for Orin NX at 918 MHz, 170 for AGX Orin, 2070 FP4 for Thor), fp16 half of int8.
"""


def find_target(name: str) -> Target:
    """The target called `name`. Raises `UnknownNameError`."""
    for target in TARGETS:
        if target.name == name:
            return target
    raise UnknownNameError("target", name, [target.name for target in TARGETS])


def target_of(machine: Machine) -> Target:
    """The target that `machine` is, by its board and memory; `CPU` where none fits, which claims nothing."""
    for target in TARGETS:
        if target.board and machine.board and target.board in machine.board and _has_memory(machine, target):
            return target
    return CPU


def _has_memory(machine: Machine, target: Target) -> bool:
    if machine.memory_total_mb is None or target.memory_gib is None:
        return False
    share = machine.memory_total_mb / (target.memory_gib * _MB_PER_GIB)
    return _LEAST_VISIBLE_SHARE <= share <= 1.0
