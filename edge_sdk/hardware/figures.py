"""Claims about kinds of machines: figures with their sources, and targets made up of them."""

from __future__ import annotations

from typing import Literal

import msgspec

from edge_sdk.types import Value

Peak = Literal["fp32", "fp16", "int8", "fp8", "fp4"]
Kind = Literal["jetson", "gpu", "cpu"]


class Figure(Value, frozen=True, kw_only=True):
    """One number with its origin.

    `source` is an address, a document, or the rule by which the number follows from one. `verified` is true if the
    number was read there, or computed from numbers read there. Otherwise it is second-hand and must be checked before
    it is quoted.
    """

    value: float
    source: str
    verified: bool


class Target(Value, frozen=True, kw_only=True):
    """One kind of machine. None and an empty mapping mean that it has no such part, or that nothing is claimed.

    `board` is a part of the machine's name in the device tree. `sm` is the GPU's compute capability times ten, by
    https://developer.nvidia.com/cuda-gpus. `memory_gib` is the memory that holds the models: all of a board's, whose
    GPU has none of its own, or a graphics card's. `bandwidth_gb_s` is that of this memory, 10^9 bytes per second.
    `dense_tops` are nominal peaks by element type without sparsity or DLA, 10^12 operations per second: of the tensor
    cores, but for fp32 of the other cores; for a CPU, of all `cores`. `compute_share` and `bandwidth_share` are the
    shares of peak and bandwidth that large models were seen to reach.
    """

    name: str
    title: str
    kind: Kind
    board: str | None = None
    sm: int | None = None
    cores: int | None = None
    memory_gib: Figure | None = None
    bandwidth_gb_s: Figure | None = None
    dense_tops: dict[Peak, Figure] = msgspec.field(default_factory=dict)
    compute_share: Figure | None = None
    bandwidth_share: Figure | None = None

    def figures(self) -> dict[str, Figure]:
        """Return every figure by its name, such as `memory_gib` or `dense_tops.fp16`."""
        single = {
            "memory_gib": self.memory_gib,
            "bandwidth_gb_s": self.bandwidth_gb_s,
            "compute_share": self.compute_share,
            "bandwidth_share": self.bandwidth_share,
        }
        peaks = {f"dense_tops.{name}": figure for name, figure in self.dense_tops.items()}
        return {name: figure for name, figure in single.items() if figure is not None} | peaks
