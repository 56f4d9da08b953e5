"""What is captured as a CUDA graph, when, and when not; memory and kernels are doubles, as in `test_trt.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from host_cuda import HostCuda
from host_engine import HostEngine
from onnx import helper
from trt_doubles import ANY, SLOTS, STEPS, WIDTH, module, normal, open_double, open_ort, rows_at, same, spec

from edge_sdk.engine.tensorrt_library import TensorRT, problem_log
from edge_sdk.runtimes.trt import TrtSession
from edge_sdk.runtimes.trt_engine import Loaded
from edge_sdk.runtimes.trt_lane import MAX_GRAPHS, WARM_CALLS


@pytest.mark.parametrize(("kind", "graphs"), [("running_sum", 2), ("scatter_cache", 1), ("append_cache", 1)])
def test_a_warm_session_launches_graphs_and_allocates_nothing(
    kind: str, graphs: int, request: pytest.FixtureRequest
) -> None:
    """Two buffers that change places are two sets of addresses, so two graphs."""
    toy = request.getfixturevalue(kind)
    session, engine, cuda = open_double(toy)
    bound = session.bind_state(toy.graph.state, {"streams": 1, "batch": 1, "slots": SLOTS})
    feeds = [{"x": normal(0, 1, WIDTH)} if kind == "running_sum" else rows_at(step, 1, 1) for step in range(STEPS)]
    allocated = session.allocations
    for each in feeds:
        bound.run(each)
    assert session.allocations == allocated
    assert len(cuda.graphs) == graphs
    assert cuda.launches == STEPS - graphs * WARM_CALLS
    assert engine.contexts[0].runs == graphs * (WARM_CALLS + 1)
    assert list(session.captured.values()) == [str(graphs)]


def test_a_capture_that_fails_is_not_tried_again(running_sum: Any) -> None:
    session, engine, cuda = open_double(running_sum, capturable=False)
    bound = session.bind_state(running_sum.graph.state, {"streams": 1})
    x = normal(0, 1, WIDTH)
    for step in range(1, STEPS):
        np.testing.assert_allclose(bound.run({"x": x})["twice"], 2 * step * x, rtol=1e-5)
    assert (cuda.launches, engine.contexts[0].runs) == (0, STEPS)
    assert "cudaErrorStreamCaptureInvalidated" in session.captured["streams 1..4"]


def test_another_shape_voids_what_was_captured(build: Any) -> None:
    toy = build([helper.make_node("Identity", ["a"], ["b"])], [spec("a", ("n",))], [spec("b", ("n",))])
    session, _, cuda = open_double(toy)
    for round_, length in enumerate((3, 5, 3)):
        for step in range(5):
            feeds = {"a": normal(step, length)}
            same(session.run(feeds), {"b": feeds["a"]})
        assert cuda.launches == (round_ + 1) * (5 - WARM_CALLS)
        assert len(cuda.graphs) == 1


def test_graphs_of_states_that_are_gone_make_room(scatter_cache: Any) -> None:
    session, _, cuda = open_double(scatter_cache)
    feeds, calls = rows_at(0, 1, 1), WARM_CALLS + 2
    bounds = [
        session.bind_state(scatter_cache.graph.state, {"batch": 1, "slots": SLOTS}) for _ in range(MAX_GRAPHS + 3)
    ]
    for count, bound in enumerate(bounds, start=1):
        for _ in range(calls):
            bound.run(feeds)
        assert (len(cuda.graphs), cuda.launches) == (min(count, MAX_GRAPHS), count * (calls - WARM_CALLS))
    launches = cuda.launches
    bounds[-1].run(feeds)
    assert cuda.launches == launches + 1
    bounds[0].run(feeds)
    assert cuda.launches == launches + 1


def test_what_the_host_reads_is_not_captured(append_cache: Any) -> None:
    session, engine, cuda = open_double(append_cache, hosted=("at",))
    bound = session.bind_state(append_cache.graph.state, {"batch": 1, "slots": SLOTS})
    for step in range(6):
        feeds = rows_at(step, 1, 1)
        np.testing.assert_array_equal(bound.run(feeds)["seen"], feeds["at"].astype(np.float32))
    assert (cuda.launches, engine.contexts[0].runs) == (0, 6)
    assert list(session.captured.values()) == ["the host reads the values of at"]


@pytest.mark.parametrize("kept", [b"", b"here:kernel", b"elsewhere:"])
def test_tensorrt_rtx_captures_by_itself_and_its_kernels_are_kept(running_sum: Any, kept: bytes) -> None:
    toy, cuda = running_sum, HostCuda()
    path = toy.path.with_suffix(".kernels")
    if kept:
        path.write_bytes(kept)
    engine = HostEngine(module, toy.path, toy.graph, [ANY], cuda)
    tensorrt = TensorRT(flavour="rtx", module=module, version="1.7.1")
    session = TrtSession(Loaded("toy", tensorrt, engine, problem_log(tensorrt)), toy.graph, cuda, path)
    bound, other = (each.bind_state(toy.graph.state, {"streams": 1}) for each in (session, open_ort(toy)))
    for step in range(6):
        x = {"x": normal(step, 1, WIDTH)}
        same(bound.run(x), other.run(x))
    assert cuda.launches == 0
    assert session.captured == {"streams 1..4": "TensorRT-RTX captures by itself"}
    session.close()
    assert path.read_bytes() == (kept if kept == b"here:kernel" else b"here:") + b"kernel"
