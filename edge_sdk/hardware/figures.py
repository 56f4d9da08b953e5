"""What is claimed of a kind of machine: figures that say where they come from, and the target that they make up."""

from __future__ import annotations

from typing import Literal

import msgspec

from edge_sdk.types import Value

Peak = Literal["fp32", "fp16", "int8", "fp8", "fp4"]
Kind = Literal["jetson", "gpu", "cpu"]


class Figure(Value, frozen=True, kw_only=True):
    """One number with its origin.

    `source` is an address, a document or the rule by which it follows from such. `verified`: the number was read
    there, or worked out from numbers read there; otherwise it is handed down, and to be checked before it is quoted.
    """

    value: float
    source: str
    verified: bool


class Target(Value, frozen=True, kw_only=True):
    """One kind of machine. None and an empty mapping mean that it has no such part, or that nothing is claimed.

    `board` is the text by which the device tree names the machine. `sm` is the GPU's compute capability times ten, by
    https://developer.nvidia.com/cuda-gpus. `memory_gib` is what the models may use: the whole of a board, whose GPU has
    no memory of its own, or a graphics card's. `bandwidth_gb_s` is that of this memory, 10^9 bytes a second.
    `dense_tops` are nominal peaks by element type without sparsity or DLA, 10^12 operations a second: of the tensor
    cores, fp32 of the other cores; of all `cores` where the target is a CPU. `compute_share` and `bandwidth_share` say
    how much of peak and bandwidth large models were seen to reach.
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
        """Every figure by its name, such as `memory_gib` or `dense_tops.fp16`."""
        single = {
            "memory_gib": self.memory_gib,
            "bandwidth_gb_s": self.bandwidth_gb_s,
            "compute_share": self.compute_share,
            "bandwidth_share": self.bandwidth_share,
        }
        peaks = {f"dense_tops.{name}": figure for name, figure in self.dense_tops.items()}
        return {name: figure for name, figure in single.items() if figure is not None} | peaks
