"""This machine measured as a target: of the right size, and good for a plan."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edge_sdk.errors import MissingDependencyError
from edge_sdk.hardware import Target, identify
from edge_sdk.hardware.host import measure_host
from edge_sdk.hardware.numbers import ModelNumbers, StudentNumbers
from edge_sdk.hardware.plan import plan
from edge_sdk.runtime import Runtime

# Machines are shared: a measurement may see a third of what another saw a second before.
LOOSE = 3.0


@pytest.fixture(scope="module")
def host() -> Target:
    return measure_host()


def test_the_peak_is_that_of_a_product_of_another_shape(host: Target) -> None:
    assert host.dense_tops["fp32"].source.endswith("ONNX Runtime")
    left, right = np.ones((700, 3000), np.float32), np.ones((3000, 900), np.float32)
    times_s = []
    for _ in range(40):
        begin_s = time.perf_counter()
        left @ right
        times_s.append(time.perf_counter() - begin_s)
    tops = 2 * 700 * 3000 * 900 / min(times_s) / 1e12
    assert tops / LOOSE < host.dense_tops["fp32"].value < tops * LOOSE


def test_without_onnx_runtime_numpy_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Runtime:
        raise MissingDependencyError(name)

    monkeypatch.setattr("edge_sdk.hardware.host.open_runtime", missing)
    peak = measure_host().dense_tops["fp32"]
    assert peak.source.endswith("numpy")
    assert 1e-3 < peak.value < 100


def test_memory_and_cores_are_the_machines(host: Target) -> None:
    machine = identify()
    assert host.cores == machine.cores
    assert host.memory_gib is not None
    assert host.memory_gib.value * 2**30 / 1e6 == pytest.approx(machine.memory_total_mb)
    assert host.bandwidth_gb_s is not None
    assert 0.5 < host.bandwidth_gb_s.value < 2000


def test_a_plan_for_this_machine_has_times(host: Target) -> None:
    student = StudentNumbers(flops=4e8, weight_bytes=2_000_000, state_bytes=0, activation_bytes=0, rate_hz=10.0)
    found = plan(ModelNumbers(name="student", student=student), host)
    assert found.runtime == "ort"
    assert found.stages[0].each_s is not None
    assert 1e-4 < found.stages[0].each_s < 1.0
    assert any("compute_share" in line for line in found.unverified)
