"""The stages of a video LLM's graphs, timed in a process of its own that has the device's packages and no others.

`python tests/plan_stages.py FOLDER RUNS`: the folder holds graphs and weights, their entries in `graphs.json`, and in
`calls.json` what each stage calls. It says the shortest times and the largest resident set as JSON.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from edge_sdk.bundle.manifest import Graph
from edge_sdk.runtime import Array, SessionOptions
from edge_sdk.runtimes.ort import OrtRuntime
from edge_sdk.types import TensorSpec


class StageCall(msgspec.Struct, frozen=True, kw_only=True):
    """One stage: whose graph it calls, and how long the free dimensions are."""

    graph: str
    dims: dict[str, int]


class StageTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The shortest time of each stage in seconds, and the process's largest resident set, 10^6 bytes."""

    seconds: dict[str, float]
    peak_mb: float


def measure(folder: Path, runs: int) -> StageTimes:
    """Open every graph, as a device holds them, and run the stages in turn."""
    graphs = msgspec.json.decode((folder / "graphs.json").read_bytes(), type=dict[str, Graph])
    calls = msgspec.json.decode((folder / "calls.json").read_bytes(), type=dict[str, StageCall])
    runtime, options = OrtRuntime(), SessionOptions(threads=1)
    bound = {
        name: runtime.open(folder / graph.file, graph, options).bind_state(graph.state, {})
        for name, graph in graphs.items()
    }
    feeds = {name: _feeds(graphs[call.graph], call.dims) for name, call in calls.items()}
    seconds = dict.fromkeys(calls, float("inf"))
    for _ in range(runs):
        for name, call in calls.items():
            begun_s = time.perf_counter()
            bound[call.graph].run(feeds[name])
            seconds[name] = min(seconds[name], time.perf_counter() - begun_s)
    peak = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return StageTimes(seconds=seconds, peak_mb=int(peak[1]) * 1024 / 1e6 if peak else 0.0)


def _feeds(graph: Graph, dims: dict[str, int]) -> dict[str, Array]:
    carried = {state.input for state in graph.state}
    return {spec.name: _values(spec, dims) for spec in graph.inputs if spec.name not in carried}


def _values(spec: TensorSpec, dims: dict[str, int]) -> Array:
    shape = [dims[size] if isinstance(size, str) else size for size in spec.shape]
    if spec.dtype == "bool":
        return np.ones(shape, bool)
    if spec.name in ("position_ids", "rows"):
        return np.arange(shape[-1]).reshape(shape)
    if spec.dtype == "int64":
        return np.zeros(shape, np.int64)
    return np.random.default_rng(0).standard_normal(shape, np.float32).astype(spec.dtype)


if __name__ == "__main__":
    print(msgspec.json.encode(measure(Path(sys.argv[1]), int(sys.argv[2]))).decode())
