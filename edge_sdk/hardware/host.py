"""This machine's CPU as a target, from two short measurements, so that plans can be compared with measurements here.

A matrix product shows how much arithmetic the cores sustain. A matrix-vector product with a matrix much larger than the
caches shows how fast they read memory. ONNX Runtime computes the first if it is installed, because it runs the models;
numpy's BLAS was seen to reach two thirds of its speed on a core newer than the BLAS. numpy computes the second, with
the number of threads that the environment sets for its BLAS.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edge_sdk.bundle.manifest import Graph
from edge_sdk.errors import MissingDependencyError
from edge_sdk.hardware.figures import Figure, Target
from edge_sdk.hardware.probes import Machine, identify
from edge_sdk.hardware.targets import MB_PER_GIB
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import SessionOptions
from edge_sdk.types import TensorSpec

NAME = "this-machine"
_SIDE = 1536
_ROWS, _COLUMNS = 16_384, 4_096
_REPEATS, _LEAST_S = 5, 0.5
# An ONNX file of one MatMul, opset 13, written with the onnx package: `x [m, k]` times `w [k, n]` is `y [m, n]`.
_PRODUCT = (
    "CAcSADphChEKAXgKAXcSAXkiBk1hdE11bBIHcHJvZHVjdFoVCgF4EhAKDggBEgoKAxIBbQoDEgFrWhUKAXcSEAoOCAESCgoDEgFrCgMSAW5iFQoB"
    "eRIQCg4IARIKCgMSAW0KAxIBbkIECgAQDQ=="
)


def measure_host(threads: int = 0) -> Target:
    """Measure for about a second, with 300 MB of memory; the machine should otherwise be idle.

    `threads` is the number of ONNX Runtime's threads; 0 uses every core.
    """
    machine = identify()
    tops, how = _fp32_tops(threads)
    return Target(
        name=NAME,
        title=machine.cpu_model or machine.arch,
        kind="cpu",
        cores=machine.cores,
        memory_gib=_memory(machine),
        bandwidth_gb_s=_measured(_bandwidth_gb_s(), "reading a matrix of 268 MB, numpy"),
        dense_tops={"fp32": _measured(tops, f"a product of matrices of side {_SIDE}, {how}")},
        compute_share=Figure(value=0.85, source="assumed: layers beside a bare product", verified=False),
        bandwidth_share=Figure(value=0.85, source="assumed: layers beside a bare product", verified=False),
    )


def _measured(value: float, how: str) -> Figure:
    return Figure(value=value, source=f"measured here: {how}", verified=True)


def _memory(machine: Machine) -> Figure | None:
    if machine.memory_total_mb is None:
        return None
    return _measured(machine.memory_total_mb / MB_PER_GIB, "MemTotal of /proc/meminfo")


def _fp32_tops(threads: int) -> tuple[float, str]:
    """Measure the peak, 10^12 operations per second, and return it with the name of what reached it."""
    side = np.ones((_SIDE, _SIDE), np.float32)
    try:
        runtime = open_runtime("ort")
    except MissingDependencyError:
        return 2 * _SIDE**3 / _best_s(lambda: side @ side) / 1e12, "numpy"
    shapes: dict[str, tuple[str, str]] = {"x": ("m", "k"), "w": ("k", "n"), "y": ("m", "n")}
    x, w, y = (TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in shapes.items())
    with TemporaryDirectory() as folder:
        path = Path(folder) / "product.onnx"
        path.write_bytes(base64.b64decode(_PRODUCT))
        graph = Graph(file=path.name, dialects=("native", "decomposed"), opset=13, inputs=(x, w), outputs=(y,))
        session = runtime.open(path, graph, SessionOptions(threads=threads))
    shortest_s = _best_s(lambda: session.run({"x": side, "w": side}))
    session.close()
    return 2 * _SIDE**3 / shortest_s / 1e12, "ONNX Runtime"


def _bandwidth_gb_s() -> float:
    matrix, row = np.ones((_ROWS, _COLUMNS), np.float32), np.ones(_COLUMNS, np.float32)
    return matrix.nbytes / _best_s(lambda: matrix @ row) / 1e9


def _best_s(call: Callable[[], object]) -> float:
    """Return the shortest of at least `_REPEATS` runs in at least `_LEAST_S`, in seconds, after one warm-up run.

    Other load on the machine comes in bursts, and a handful of runs of a few milliseconds could all fall into one.
    """
    call()
    times_s, until_s = list[float](), time.perf_counter() + _LEAST_S
    while len(times_s) < _REPEATS or time.perf_counter() < until_s:
        begin_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - begin_s)
    return min(times_s)
