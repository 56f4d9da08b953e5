"""State bound by address, as a CUDA device of ONNX Runtime keeps it, against the CPU session and its own state.

ONNX Runtime is real here and computes at the addresses it is given; only the memory behind them is the host's.
"""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import onnxruntime
import pytest
from host_cuda import HostCuda
from onnx import helper

from edge_sdk.bundle import default_bundle, open_bundle
from edge_sdk.errors import MissingDependencyError, RuntimeFailure
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import Array, SessionOptions
from edge_sdk.runtimes.ort import OrtSession, _cuda_hint
from edge_sdk.runtimes.ort_device import OrtDeviceBound
from edge_sdk.types import TensorSpec

HEADS, WIDTH, SLOTS, STEPS = 2, 3, 64, 20


def open_ort(path: Any, graph: Any) -> OrtSession:
    session = open_runtime("ort").open(path, graph, SessionOptions(threads=1))
    assert isinstance(session, OrtSession)
    return session


def bind(path: Any, graph: Any, dims: dict[str, int], cuda: HostCuda) -> OrtDeviceBound:
    session = open_ort(path, graph)
    return OrtDeviceBound(session.native, session.guarded, graph, graph.state, dims, cuda, device="cpu")


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def same(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("kind", ["scatter_cache", "append_cache"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_cache_is_kept_as_the_host_keeps_it(kind: str, batch: int, request: pytest.FixtureRequest) -> None:
    path, graph = request.getfixturevalue(kind)
    dims = {"batch": batch, "slots": SLOTS}
    bound, other = bind(path, graph, dims, HostCuda()), open_ort(path, graph).bind_state(graph.state, dims)
    for step in range(STEPS):
        at = np.array([step * 2 + 5 * item for item in range(batch)], np.int64)
        feeds = {"rows": normal(step, batch, HEADS, 1 + step % 3, WIDTH), "at": at}
        same(bound.run(feeds), other.run(feeds))
        np.testing.assert_array_equal(bound.read("past"), other.read("past"))


@pytest.mark.parametrize("streams", [1, 4])
def test_an_alias_is_kept_as_the_host_keeps_it(running_sum: Any, streams: int) -> None:
    path, graph = running_sum
    dims = {"streams": streams}
    bound, other = bind(path, graph, dims, HostCuda()), open_ort(path, graph).bind_state(graph.state, dims)
    kept = []
    for step in range(STEPS):
        x = {"x": normal(step, streams, WIDTH)}
        kept.append((bound.run(x), other.run(x)))
        if step == STEPS // 2:
            for each in (bound, other):
                each.reset()
                each.write("total", x["x"])
        np.testing.assert_array_equal(bound.read("total"), other.read("total"))
    for found, expected in kept:
        same(found, expected)


def test_the_student_of_the_demo_gives_the_same_scores() -> None:
    graph, path = open_bundle(default_bundle()).graph("student")
    bound = bind(path, graph, {"streams": 1}, HostCuda())
    other = open_ort(path, graph).bind_state(graph.state, {"streams": 1})
    state = {entry.input for entry in graph.state}
    for step in range(5):
        shapes = {s.name: (1, *(int(d) for d in s.shape[1:])) for s in graph.inputs if s.name not in state}
        feeds = {name: normal(step, *shape) for name, shape in shapes.items()}
        same(bound.run(feeds), other.run(feeds))


@pytest.mark.parametrize("dtype", ["float16", "int64", "uint8", "bool"])
def test_other_element_types(build: Any, dtype: Any) -> None:
    specs = [TensorSpec(name=name, dtype=dtype, shape=("n",)) for name in "ab"]
    path, graph = build([helper.make_node("Identity", ["a"], ["b"])], specs[:1], specs[1:])
    value = np.array([0, 1, 1, 0, 1], dtype)[::2]
    same(bind(path, graph, {}, HostCuda()).run({"a": value}), {"b": value})


def test_places_grow_and_then_stand_still(build: Any) -> None:
    shape = ("n", 4)
    specs = [TensorSpec(name=name, dtype="float32", shape=shape) for name in "ab"]
    path, graph = build([helper.make_node("Neg", ["a"], ["b"])], specs[:1], specs[1:])
    cuda = HostCuda()
    bound = bind(path, graph, {}, cuda)
    for length in (2, 5, 1, 3, *range(1, 6)):
        allocated, held = cuda.allocations, len(cuda.live)
        a = normal(length, length, 4)
        np.testing.assert_array_equal(bound.run({"a": a})["b"], -a)
        assert cuda.allocations - allocated == (4 if (length, allocated) in ((2, 0), (5, 4)) else 0)
        assert len(cuda.live) == max(held, 4)


def test_places_keep_the_largest_of_every_length(build: Any) -> None:
    specs = [TensorSpec(name=name, dtype="float32", shape=("n", "m")) for name in "ab"]
    path, graph = build([helper.make_node("Neg", ["a"], ["b"])], specs[:1], specs[1:])
    cuda = HostCuda()
    bound = bind(path, graph, {}, cuda)
    for n, m, grown in ((2, 5, True), (3, 1, True), (2, 5, False), (3, 5, False)):
        allocated, a = cuda.allocations, normal(n, n, m)
        np.testing.assert_array_equal(bound.run({"a": a})["b"], -a)
        assert (cuda.allocations > allocated) == grown


def test_a_wrong_call_changes_nothing(append_cache: Any) -> None:
    path, graph = append_cache
    bound = bind(path, graph, {"batch": 1, "slots": SLOTS}, HostCuda())
    bound.run({"rows": normal(0, 1, HEADS, 4, WIDTH), "at": np.array([7])})
    before = bound.read("past")
    for start in (SLOTS - 1, -1):
        with pytest.raises(RuntimeFailure, match=rf"index \[{start}\] do not fit its {SLOTS} slots"):
            bound.run({"rows": normal(1, 1, HEADS, 2, WIDTH), "at": np.array([start])})
    np.testing.assert_array_equal(bound.read("past"), before)


def test_a_graph_that_fails_while_it_runs(build: Any) -> None:
    specs = [TensorSpec(name="table", dtype="float32", shape=(4,)), TensorSpec(name="i", dtype="int64", shape=("n",))]
    row = TensorSpec(name="row", dtype="float32", shape=("n",))
    path, graph = build([helper.make_node("Gather", ["table", "i"], ["row"])], specs, [row])
    with pytest.raises(RuntimeFailure, match=r"toy\.onnx failed.*Gather"):
        bind(path, graph, {}, HostCuda()).run({"table": np.zeros(4, np.float32), "i": np.array([9])})


def test_memory_goes_back(running_sum: Any) -> None:
    path, graph = running_sum
    for ended in ("closed", "dropped"):
        cuda = HostCuda()
        session = OrtSession("toy", open_ort(path, graph).native(), graph, cuda)
        bound: Any = session.bind_state(graph.state, {"streams": 2})
        assert isinstance(bound, OrtDeviceBound)
        assert cuda.live
        if ended == "closed":
            session.close()
            for use in (bound.reset, lambda each=bound: each.read("total"), lambda each=bound: each.run({})):
                with pytest.raises(RuntimeFailure, match="closed"):
                    use()
        else:
            del bound
            gc.collect()
        assert not cuda.live


def test_an_onnxruntime_without_cuda_says_what_to_do(running_sum: Any) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    path, graph = running_sum
    with pytest.raises(MissingDependencyError, match=r"no CUDAExecutionProvider.*pip install 'onnxruntime-gpu"):
        open_runtime("ort").open(path, graph, SessionOptions(device="cuda"))


@pytest.mark.parametrize(
    ("machine", "python", "wheel"),
    [("aarch64", (3, 10), False), ("aarch64", (3, 12), True), ("x86_64", (3, 10), True)],
)
def test_nobody_is_told_to_remove_an_onnxruntime_for_one_that_there_is_not(
    machine: str, python: tuple[int, int], wheel: bool
) -> None:
    """PyPI has onnxruntime-gpu for aarch64 from Python 3.11 on."""
    said = _cuda_hint(machine, python)
    assert ("pip uninstall onnxruntime && pip install 'onnxruntime-gpu" in said) is wheel
    assert ("--runtime trt" in said) is not wheel
