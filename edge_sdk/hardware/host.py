"""This machine's CPU as a target, by two short measurements: what plans here may be held against what is measured here.

numpy's matrix product shows how much arithmetic the cores sustain, and a product with a matrix much larger than the
caches how fast they read memory. Both use the threads that numpy's BLAS uses: every core, unless the environment says
otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from edge_sdk.hardware.figures import Figure, Target
from edge_sdk.hardware.probes import Machine, identify

NAME = "this-machine"
_SIDE = 1536
_ROWS, _COLUMNS = 16_384, 4_096
_REPEATS = 5
_MB_PER_GIB = 2**30 / 1e6


def measure_host() -> Target:
    """Measure for about a second, with 300 MB of memory; the machine should be idle meanwhile."""
    machine = identify()
    return Target(
        name=NAME,
        title=machine.cpu_model or machine.arch,
        kind="cpu",
        cores=machine.cores,
        memory_gib=_memory(machine),
        bandwidth_gb_s=_measured(_bandwidth_gb_s(), "reading a matrix of 268 MB, numpy"),
        dense_tops={"fp32": _measured(_fp32_tops(), f"a product of matrices of side {_SIDE}, numpy")},
        compute_share=Figure(value=0.85, source="assumed: layers beside a bare product", verified=False),
        bandwidth_share=Figure(value=0.85, source="assumed: layers beside a bare product", verified=False),
    )


def _measured(value: float, how: str) -> Figure:
    return Figure(value=value, source=f"measured here: {how}", verified=True)


def _memory(machine: Machine) -> Figure | None:
    if machine.memory_total_mb is None:
        return None
    return _measured(machine.memory_total_mb / _MB_PER_GIB, "MemTotal of /proc/meminfo")


def _fp32_tops() -> float:
    side = np.ones((_SIDE, _SIDE), np.float32)
    return 2 * _SIDE**3 / _best_s(lambda: side @ side) / 1e12


def _bandwidth_gb_s() -> float:
    matrix, row = np.ones((_ROWS, _COLUMNS), np.float32), np.ones(_COLUMNS, np.float32)
    return matrix.nbytes / _best_s(lambda: matrix @ row) / 1e9


def _best_s(call: Callable[[], object]) -> float:
    """The shortest of a few runs, after one that warms up."""
    call()
    times_s = []
    for _ in range(_REPEATS):
        begin_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - begin_s)
    return min(times_s)
