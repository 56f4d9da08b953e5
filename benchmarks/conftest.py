"""Fixtures of the host-code benchmarks: percentiles and the target go into pytest-benchmark's own report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.benchmarks.measure import percentiles
from edge_sdk.bundle import Bundle, write_bundle
from edge_sdk.bundle.manifest import Graph, OperatingPoint, Student
from edge_sdk.hardware import identify, target_of
from edge_sdk.types import StateSpec, TensorSpec

HEIGHT, WIDTH = 192, 320
ROUNDS, WARMUP_ROUNDS = 200, 20


# Any: pytest-benchmark ships no types.
def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    """Add the target's name to pytest-benchmark's report."""
    machine_info["target"] = target_of(identify()).name


@pytest.fixture
def timed(benchmark: Any) -> Callable[[Callable[[], object]], None]:
    """Return a function that measures a call in rounds; p50, p90 and p95 in ms go into `extra_info`."""

    def run(call: Callable[[], object]) -> None:
        benchmark.pedantic(call, rounds=ROUNDS, warmup_rounds=WARMUP_ROUNDS, iterations=1)
        if benchmark.stats is not None:
            told = percentiles(np.array(benchmark.stats.stats.data) * 1e3)
            benchmark.extra_info.update({f"{name}_ms": told[name] for name in ("p50", "p90", "p95")})

    return run


@pytest.fixture(scope="session")
def blank_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A student bundle whose graph is an empty file: enough for the null runtime, which never reads it."""
    frames = TensorSpec(name="frames", dtype="float32", shape=("streams", 3, HEIGHT, WIDTH))
    state = [TensorSpec(name=name, dtype="float32", shape=("streams", 64)) for name in ("memory", "new_memory")]
    graph = Graph(
        file="student.onnx",
        dialects=("native",),
        opset=20,
        inputs=(frames, state[0]),
        outputs=(TensorSpec(name="scores", dtype="float32", shape=("streams", 4)), state[1]),
        state=(StateSpec(input="memory", output="new_memory", kind="alias"),),
    )
    student = Student(
        rate_hz=10.0,
        height=HEIGHT,
        width=WIDTH,
        lags=(1, 3),
        scores=("crash", "pre_crash", "start", "end"),
        heat_delay_frames=5,
        operating_point=OperatingPoint(),
    )
    folder: Path = tmp_path_factory.mktemp("blank") / "bundle"
    return write_bundle(
        folder, name="blank", version="1", graphs={"student": graph}, files={"student.onnx": b""}, student=student
    )
