"""The limits of the hardware, and the share of them that a measurement reached.

The limit is the nominal one in the target's data, without the share that large models usually reach. Only useful work
counts: a token attends the tokens before it, although the graph computes all slots.
"""

from __future__ import annotations

import msgspec

from edge_sdk.bundle.model_sizes import DecoderSizes
from edge_sdk.errors import ConfigError
from edge_sdk.hardware import TARGETS, Target, find_target, identify, target_of
from edge_sdk.hardware.cuda import CudaDevice
from edge_sdk.hardware.roofline import Precision, Rates, Work, decoder_work, rates
from edge_sdk.hardware.targets import MB_PER_GIB
from edge_sdk.types import Value

# Range of memory sizes that match a target: the driver reserves some, and data sheets round up or down.
_MEMORY_SHARES = (0.85, 1.1)


class Cost(Value, frozen=True, kw_only=True):
    """A decoder's cost per token: its sizes, its precision, and bits or values that differ from the usual."""

    sizes: DecoderSizes
    precision: Precision
    head_bits: int | None = None
    kv_bits: int | None = None
    lora_values: int = 0

    def call(self, tokens: int, attended: float) -> Work:
        """One call with `tokens` new tokens, each of which attends `attended` others on average, and one row out."""
        return decoder_work(
            self.sizes, tokens, attended, 1, self.precision, self.head_bits, self.kv_bits, self.lora_values
        )

    def prefill_flops(self, context: int, chunk: int) -> float:
        """Operations of a prompt of `context` tokens in chunks: a token attends those before it and itself."""
        starts = range(0, context, chunk)
        return sum(self.call(chunk, start + (chunk + 1) / 2).flops for start in starts)


class Limit(Value, frozen=True, kw_only=True):
    """The target that a runtime is measured against; without rates there is no claim, and `why` tells the reason."""

    target: str | None
    rates: Rates | None
    why: str

    def of_peak(self, flops: float, seconds: float) -> tuple[float | None, str]:
        """The share of peak matrix throughput that `flops` in `seconds` reach, and the peak in words."""
        if self.rates is None:
            return None, self.why
        return flops / seconds / self.rates.flops_s, f"{self.rates.flops_s / 1e12:,.4g} TFLOP/s of {self.target}"

    def of_bandwidth(self, size: float, seconds: float) -> tuple[float | None, str]:
        """The share of the bandwidth that `size` bytes in `seconds` reach, and the bandwidth in words."""
        if self.rates is None:
            return None, self.why
        return size / seconds / self.rates.bytes_s, f"{self.rates.bytes_s / 1e9:,.4g} GB/s of {self.target}"


def limit(name: str | None, precision: Precision, threads: int = 0) -> Limit:
    """The nominal limit of the target called `name`, of `threads` of a CPU's cores, 0 for all.

    Raises `UnknownNameError`.
    """
    if name is None:
        return Limit(target=None, rates=None, why="no target is known for this machine; name one with --target")
    nominal = msgspec.structs.replace(find_target(name), compute_share=None, bandwidth_share=None)
    found = rates(nominal, precision, threads or None)
    return Limit(target=name, rates=found, why="" if found else f"{name} claims neither peak nor bandwidth")


def settle_targets(device: CudaDevice | None, named: str | None) -> tuple[str | None, str | None]:
    """Names of the targets of the GPU and of the CPU here; None where none is known.

    `named` is used for the part that it describes: a target with a GPU for the GPU. Raises `UnknownNameError`, and
    `ConfigError` for a GPU of another compute capability.
    """
    chosen = find_target(named) if named else None
    gpu = gpu_target(device) if device else None
    if chosen is None:
        return gpu.name if gpu else None, None
    if chosen.sm is None:
        return gpu.name if gpu else None, chosen.name
    if device is not None and chosen.sm != device.sm:
        raise ConfigError(f"{chosen.name} is sm_{chosen.sm}, {device.name} is sm_{device.sm}; name another target")
    return chosen.name, None


def gpu_target(device: CudaDevice) -> Target | None:
    """The target that matches `device`, by board, or else by compute capability and memory; None without a match."""
    board = target_of(identify())
    if board.sm == device.sm:
        return board
    low, high = _MEMORY_SHARES
    for target in TARGETS:
        if target.sm == device.sm and target.memory_gib is not None:
            share = device.memory_mb / (target.memory_gib.value * MB_PER_GIB)
            if low <= share <= high and target.board is None:
                return target
    return None
