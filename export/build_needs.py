"""Estimate the memory and the disk space that a build needs, and refuse it before it begins.

Small boards do not fail cleanly: after minutes the kernel kills the largest process. So the estimate is compared with
the free memory, and a refusal states both numbers. The disk is checked too, because a full one would only show when
the builder is done.
"""

from __future__ import annotations

from pathlib import Path

from edge_sdk.bundle.onnx_file import external_locations, weights
from edge_sdk.errors import EngineError, RuntimeFailure
from edge_sdk.export.stage_store import free_bytes
from edge_sdk.hardware.cgroup import least_mb, memory_room_mb
from edge_sdk.hardware.cuda import find_cuda_device
from edge_sdk.hardware.memory import building_mb
from edge_sdk.hardware.nvml import card_free_mb
from edge_sdk.hardware.probes import observe

_MB = 1e6
_WORKSPACE_SHARE = 0.25
# Used where the system does not report its free memory.
_USUAL_WORKSPACE_MB = 1000.0


def needed_mb(path: Path) -> float:
    """Estimated peak memory for building the graph at `path`, 10^6 bytes, from its weights and its files' bytes."""
    return building_mb(weights(path), _stored_bytes(path))


def require_memory(path: Path, *, force: bool = False) -> float:
    """The estimate for the graph at `path`; raises `EngineError` where less is free, unless `force`.

    Swap counts as free, because a builder's memory is mostly weights that wait for their turn. It does not raise the
    limit of a container or a service.
    """
    needed, now, room = needed_mb(path), observe(), memory_room_mb()
    if now.memory_available_mb is None or force:
        return needed
    free = now.memory_available_mb + (now.swap_free_mb or 0.0)
    if room is not None and needed > room:
        raise EngineError(
            f"building {path.name} needs about {needed:,.0f} MB of memory, and the limit of this container or service "
            f"leaves {room:,.0f} MB; raise it by {needed - room:,.0f} MB, or build anyway with --force"
        )
    if needed > free:
        raise EngineError(
            f"building {path.name} needs about {needed:,.0f} MB of memory, and {free:,.0f} MB are free, including "
            f"swap; close other programs, add {needed - free:,.0f} MB of swap, or build anyway with --force"
        )
    return needed


def require_card_memory(path: Path, *, force: bool = False) -> None:
    """Raise `EngineError` if a graphics card has less free memory than the weights of the graph at `path` take.

    A builder that times its kernels holds the weights on the card too, beside its copies in the machine's memory. On
    boards the two are one.
    """
    needed, free = _stored_bytes(path) / _MB, _card_mb()
    if free is not None and needed > free and not force:
        raise EngineError(
            f"building {path.name} needs more than {needed:,.0f} MB of the graphics card's own memory, for the weights "
            f"alone, and {free:,.0f} MB are free; close other programs on the GPU, or build anyway with --force"
        )


def _card_mb() -> float | None:
    """Free memory of the first GPU, 10^6 bytes; None without a GPU and for one that shares the machine's memory.

    All of its memory where the driver does not report what is free.
    """
    device = find_cuda_device()
    if device is None or device.integrated:
        return None
    free = card_free_mb()
    return device.memory_mb if free is None else free


def require_disk(path: Path, cache: Path, *, force: bool = False) -> None:
    """Raise `RuntimeFailure` where the disk of `cache` has less room than the graph at `path` and its weight files.

    An engine contains the weights, and the engine that it replaces stays on disk until the new one is complete.
    """
    needed, free = _stored_bytes(path), free_bytes(cache)
    if needed > free and not force:
        raise RuntimeFailure(
            f"{cache}: the engine of {path.name} takes about {needed / _MB:,.1f} MB, and {free / _MB:,.1f} MB are free "
            "on this disk; free some disk space, choose another folder with --cache, or build anyway with --force"
        )


def _stored_bytes(path: Path) -> int:
    """The bytes of the graph at `path` and of its weight files."""
    files = [path, *(path.parent / name for name in external_locations(path))]
    return sum(each.stat().st_size for each in files)


def workspace_mb(asked_mb: float | None) -> float:
    """Memory that one kernel may use beside its tensors, 10^6 bytes: `asked_mb`, or a quarter of the free memory.

    The free memory is a graphics card's own, where there is one.
    """
    if asked_mb is not None:
        return asked_mb
    card = _card_mb()
    free = least_mb(observe().memory_available_mb, memory_room_mb()) if card is None else card
    return _USUAL_WORKSPACE_MB if free is None else free * _WORKSPACE_SHARE
