"""The TensorRT runtime against ONNX Runtime: the same graphs, the same feeds, call by call.

An engine cannot run without a GPU. So here, and only here, memory and kernels are doubles (`host_cuda.py`,
`host_engine.py`): everything that the runtime itself decides is real, and must give what ONNX Runtime gives.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from host_cuda import HostCuda
from host_engine import HostEngine, Profile
from onnx import helper
from trt_doubles import ANY, HEADS, SLOTS, STEPS, WIDTH, module, normal, open_double, open_ort, rows_at, same, spec

from edge_sdk.bundle import default_bundle, open_bundle
from edge_sdk.engine.tensorrt_library import TensorRT, problem_log
from edge_sdk.errors import RuntimeFailure
from edge_sdk.runtimes.trt import TrtSession
from edge_sdk.runtimes.trt_engine import Loaded
from edge_sdk.runtimes.trt_lane import WARM_CALLS
from edge_sdk.types import StateSpec, TensorSpec


def test_a_plain_run_gives_what_onnx_runtime_gives(running_sum: Any) -> None:
    toy = running_sum
    with closing(open_double(toy).session) as session:
        assert (session.inputs, session.outputs) == (toy.graph.inputs, toy.graph.outputs)
        for streams in (1, 3, 2):
            feeds = {"x": normal(0, streams, WIDTH), "total": normal(1, streams, WIDTH)}
            same(session.run(feeds), open_ort(toy).run(feeds))


@pytest.mark.parametrize("kind", ["scatter_cache", "append_cache"])
def test_a_plain_run_of_a_cache(kind: str, request: pytest.FixtureRequest) -> None:
    toy = request.getfixturevalue(kind)
    session = open_double(toy).session
    for step in range(5):
        feeds = rows_at(step, 2, 1 + step % 3) | {"past": normal(99, 2, HEADS, SLOTS, WIDTH)}
        same(session.run(feeds), open_ort(toy).run(feeds))


@pytest.mark.parametrize("streams", [1, 4])
def test_an_alias_is_kept_on_the_device(running_sum: Any, streams: int) -> None:
    opened, toy = open_double(running_sum), running_sum
    bound, other = (each.bind_state(toy.graph.state, {"streams": streams}) for each in (opened.session, open_ort(toy)))
    kept = []
    for step in range(STEPS):
        x = {"x": normal(step, streams, WIDTH)}
        kept.append((bound.run(x), other.run(x)))
        np.testing.assert_array_equal(bound.read("total"), other.read("total"))
    for found, expected in kept:  # what a call gave is the caller's, whatever ran since
        same(found, expected)


@pytest.mark.parametrize("kind", ["scatter_cache", "append_cache"])
@pytest.mark.parametrize("batch", [1, 3])
def test_both_kinds_of_cache_are_kept_on_the_device(kind: str, batch: int, request: pytest.FixtureRequest) -> None:
    toy = request.getfixturevalue(kind)
    sizes = {"batch": batch, "slots": SLOTS}
    bound, other = (each.bind_state(toy.graph.state, sizes) for each in (open_double(toy).session, open_ort(toy)))
    for step in range(STEPS):
        feeds = rows_at(step, batch, 1 + step % 3)
        same(bound.run(feeds), other.run(feeds))
        np.testing.assert_array_equal(bound.read("past"), other.read("past"))


@pytest.mark.parametrize("dtype", ["float16", "int64", "uint8", "bool"])
def test_other_element_types(build: Any, dtype: str) -> None:
    nodes = [helper.make_node("Identity", ["a"], ["b"])]
    toy = build(nodes, [spec("a", ("n",), dtype)], [spec("b", ("n",), dtype)])
    value = np.array([0, 1, 1, 0, 1], dtype)[::2]
    same(open_double(toy).session.run({"a": value}), {"b": value})


def test_what_tensorrt_refuses_is_told(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = build([helper.make_node("Neg", ["a"], ["b"])], [spec("a", ("n",))], [spec("b", ("n",))])
    session, engine, _ = open_double(toy)
    a = {"a": normal(0, 3)}
    monkeypatch.setattr(engine.contexts[0], "execute_async_v3", lambda stream_handle: False)
    with pytest.raises(RuntimeFailure, match="toy: TensorRT refuses a call: it did not run: it gave no reason"):
        session.run(a)
    monkeypatch.undo()
    same(session.run(a), {"b": -a["a"]})
    monkeypatch.setattr(engine.contexts[0], "get_tensor_shape", lambda name: (4,))
    with pytest.raises(RuntimeFailure, match=r"output 'b' would be \(4,\), the manifest makes it \(5,\)"):
        session.run({"a": normal(0, 5)})
    monkeypatch.undo()
    same(session.run(a), {"b": -a["a"]})


def test_every_call_is_a_named_range_of_the_profiler(running_sum: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package `nvtx` is not needed; where it is, its ranges open and close around each call."""
    told: list[str] = []

    @contextmanager
    def annotate(message: str, domain: str) -> Iterator[None]:
        told.append(f"{domain} {message} begins")
        yield
        told.append("ends")

    monkeypatch.setitem(sys.modules, "nvtx", SimpleNamespace(annotate=annotate))
    bound = open_double(running_sum).session.bind_state(running_sum.graph.state, {"streams": 2})
    for step in range(2):
        bound.run({"x": normal(step, 2, WIDTH)})
    assert told == ["edge-sdk toy begins", "ends"] * 2


def test_a_state_that_swaps_its_tensors(build: Any) -> None:
    nodes = [helper.make_node("Identity", ["b"], ["a2"]), helper.make_node("Add", ["a", "x"], ["b2"])]
    shape = (1, 256)
    state = [StateSpec(input=name, output=f"{name}2", kind="alias") for name in "ab"]
    toy = build(nodes, [spec(name, shape) for name in "xab"], [spec("a2", shape), spec("b2", shape)], state)
    bound, other = (each.bind_state(state, {}) for each in (open_double(toy).session, open_ort(toy)))
    for step in range(STEPS):
        x = {"x": normal(step, *shape)}
        assert bound.run(x) == other.run(x) == {}
        for name in "ab":
            np.testing.assert_array_equal(bound.read(name), other.read(name))


def test_reset_read_and_write(running_sum: Any) -> None:
    bound = open_double(running_sum).session.bind_state(running_sum.graph.state, {"streams": 1})
    x = normal(0, 1, WIDTH)
    for calls in (1, 2):  # the buffers stand in another order after each call
        for _ in range(calls):
            bound.run({"x": x})
        bound.reset()
        np.testing.assert_array_equal(bound.read("total"), np.zeros((1, WIDTH)))
        value = normal(calls, WIDTH, 1).T
        bound.write("total", value)
        np.testing.assert_array_equal(bound.read("total"), value)
        np.testing.assert_array_equal(bound.run({"x": x})["twice"], (value + x) * 2)
    for wrong in (np.zeros((1, WIDTH + 1), np.float32), np.zeros((1, WIDTH), np.float64)):
        with pytest.raises(RuntimeFailure, match=r"'total': expected float32 \[1, 3\]"):
            bound.write("total", wrong)
    with pytest.raises(RuntimeFailure, match="no state is called 'x'"):
        bound.read("x")


def test_the_student_of_the_demo_gives_the_same_scores() -> None:
    class Student(NamedTuple):
        path: Any
        graph: Any

    graph, path = open_bundle(default_bundle()).graph("student")
    opened = open_double(Student(path, graph))
    bound, other = (
        each.bind_state(graph.state, {"streams": 2}) for each in (opened.session, open_ort(Student(path, graph)))
    )
    feeds_of = [s for s in graph.inputs if s.name not in {entry.input for entry in graph.state}]
    for step in range(8):
        shapes = {s.name: (2, *(int(length) for length in s.shape[1:])) for s in feeds_of}
        feeds = {name: normal(step, *shape) for name, shape in shapes.items()}
        same(bound.run(feeds), other.run(feeds))
    assert opened.cuda.launches == 8 - 2 * WARM_CALLS


DECODE, PREFILL = {**ANY, "q": (1, 2, 2)}, {**ANY, "q": (1, 8, 8)}


@pytest.mark.parametrize("order", [(DECODE, PREFILL), (PREFILL, DECODE)])
def test_the_smallest_profile_that_fits_is_taken(append_cache: Any, order: tuple[Profile, ...]) -> None:
    session, engine, _ = open_double(append_cache, *order)
    bound, other = (
        each.bind_state(append_cache.graph.state, {"batch": 1, "slots": SLOTS})
        for each in (session, open_ort(append_cache))
    )
    counts = (8, 1, 2, 3, 1)
    for step, count in enumerate(counts):
        feeds = rows_at(step, 1, count)
        same(bound.run(feeds), other.run(feeds))
    runs = {context.profile: context.runs for context in engine.contexts}
    assert (runs[order.index(DECODE)], runs[order.index(PREFILL)]) == (3, 2)
    with pytest.raises(RuntimeFailure, match=r"'q': 9.*q 1\.\.2, slots 1\.\.64 or .*q 1\.\.8.*edge-sdk build"):
        bound.run(rows_at(0, 1, 9))
    with pytest.raises(RuntimeFailure, match=r"no profile.*'slots': 65"):
        session.bind_state(append_cache.graph.state, {"batch": 1, "slots": 65})


def test_lengths_below_a_profile_are_refused_too(build: Any) -> None:
    toy = build([helper.make_node("Neg", ["a"], ["b"])], [spec("a", ("n",))], [spec("b", ("n",))])
    session = open_double(toy, {"n": (2, 4, 8)}).session
    with pytest.raises(RuntimeFailure, match=r"no profile of the engine takes \{'n': 1\}; it was built for n 2\.\.8;"):
        session.run({"a": normal(0, 1)})


def test_a_length_must_suit_every_input(running_sum: Any) -> None:
    class Narrow(HostEngine):
        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
            return [(lo, WIDTH) for lo in ((1, 2, 3) if name == "x" else (2, 2, 4))]

    cuda = HostCuda()
    engine = Narrow(module, running_sum.path, running_sum.graph, [ANY], cuda)
    assert declared(engine, cuda, running_sum.graph).ranges == ({"streams": (2, 3)},)


def test_only_what_changed_travels_to_the_device(running_sum: Any) -> None:
    session, _, cuda = open_double(running_sum)
    constant, changing = np.frombuffer(normal(0, 2, WIDTH).tobytes(), np.float32).reshape(2, WIDTH), normal(1, 2, WIDTH)
    frozen_view = changing.view()
    frozen_view.flags.writeable = False
    session.run({"x": constant, "total": frozen_view})
    before = len(cuda.copied)
    changing += 1
    found = session.run({"x": constant, "total": frozen_view})
    np.testing.assert_array_equal(found["new"], constant + changing)
    assert len(cuda.copied) - before == 3  # one feed, two results
    other = np.frombuffer(normal(2, 2, WIDTH).tobytes(), np.float32).reshape(2, WIDTH)
    np.testing.assert_array_equal(session.run({"x": other, "total": changing})["new"], other + changing)


@pytest.mark.parametrize("kind", ["scatter_cache", "append_cache"])
def test_a_cache_that_the_graph_wrote_over_travels_again(kind: str, request: pytest.FixtureRequest) -> None:
    toy = request.getfixturevalue(kind)
    session, other = open_double(toy).session, open_ort(toy)
    shape = (2, HEADS, SLOTS, WIDTH)
    past = np.frombuffer(normal(99, *shape).tobytes(), np.float32).reshape(shape)
    for step in (3, 1, 0):
        feeds = rows_at(step, 2, 2) | {"past": past}
        same(session.run(feeds), other.run(feeds))


CACHES = [("append_cache", (SLOTS - 1, SLOTS, 10**9, -1)), ("scatter_cache", (SLOTS, 10**9, -1))]


@pytest.mark.parametrize(("kind", "starts"), CACHES)
def test_rows_that_do_not_fit_change_nothing(
    kind: str, starts: tuple[int, ...], request: pytest.FixtureRequest
) -> None:
    toy = request.getfixturevalue(kind)
    bound = open_double(toy).session.bind_state(toy.graph.state, {"batch": 1, "slots": SLOTS})
    bound.run({"rows": normal(0, 1, HEADS, 4, WIDTH), "at": np.array([7])})
    before = bound.read("past")
    for start in starts:
        with pytest.raises(RuntimeFailure, match=rf"index \[{start}\] do not fit its {SLOTS} slots"):
            bound.run({"rows": normal(1, 1, HEADS, 2, WIDTH), "at": np.array([start])})
    np.testing.assert_array_equal(bound.read("past"), before)
    bound.run({"rows": normal(1, 1, HEADS, 2, WIDTH), "at": np.array([SLOTS - 2])})


def test_a_wrong_feed_is_named(running_sum: Any) -> None:
    session = open_double(running_sum).session
    with pytest.raises(RuntimeFailure, match=r"missing: \['total'\]"):
        session.run({"x": normal(0, 2, WIDTH)})
    bound = session.bind_state(running_sum.graph.state, {"streams": 2})
    with pytest.raises(RuntimeFailure, match="axis 0 must be 2"):
        bound.run({"x": normal(0, 3, WIDTH)})


def test_a_closed_session_has_given_everything_back(running_sum: Any) -> None:
    session, _, cuda = open_double(running_sum)
    bound = session.bind_state(running_sum.graph.state, {"streams": 2})
    for step in range(5):
        bound.run({"x": normal(step, 2, WIDTH)})
    session.run({"x": normal(0, 2, WIDTH), "total": normal(0, 2, WIDTH)})
    assert cuda.live
    session.close()
    session.close()
    assert not cuda.live
    assert not cuda.graphs
    for use in (lambda: bound.run({}), lambda: session.run({}), bound.reset, lambda: bound.read("total")):
        with pytest.raises(RuntimeFailure, match="toy: this session is closed"):
            use()


def test_a_state_that_is_dropped_is_given_back(running_sum: Any) -> None:
    session, _, cuda = open_double(running_sum)
    before = len(cuda.live)
    bound: Any = session.bind_state(running_sum.graph.state, {"streams": 2})
    assert len(cuda.live) > before
    del bound
    gc.collect()
    assert len(cuda.live) == before


def declared(engine: HostEngine, cuda: HostCuda, graph: Any, **changes: Any) -> TrtSession:
    """A session of `engine` under a manifest with other declarations."""
    fields = {name: getattr(graph, name) for name in type(graph).__struct_fields__}
    tensorrt = TensorRT(flavour="trt", module=module, version="10.3.0")
    return TrtSession(Loaded("toy", tensorrt, engine, problem_log(tensorrt)), type(graph)(**(fields | changes)), cuda)


X = spec("x", ("streams", 3))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([X], r"inputs \['x'\], but the engine has \['total', 'x'\]"),
        ([X, spec("total", ("streams", 3), "float16")], r"'total' as float16.*float32 \[-1, 3\].*edge-sdk build"),
        ([X, spec("total", ("streams", 4))], r"'total' as float32 \[streams, 4\]"),
        ([X, spec("total", (3,))], r"'total' as float32 \[3\]"),
        ([spec("x", ("streams", "width")), spec("total", ("streams", 3))], r"'x' as float32 \[streams, width\]"),
    ],
)
def test_an_engine_with_other_tensors_is_refused(running_sum: Any, inputs: list[TensorSpec], words: str) -> None:
    good = open_double(running_sum)
    with pytest.raises(RuntimeFailure, match=words):
        declared(good.engine, good.cuda, running_sum.graph, inputs=tuple(inputs), state=())


def test_the_manifest_may_fix_a_free_dimension(running_sum: Any) -> None:
    good = open_double(running_sum)
    inputs, outputs = ([spec(name, (2, 3)) for name in names] for names in (("x", "total"), ("twice", "new")))
    session = declared(good.engine, good.cuda, running_sum.graph, inputs=tuple(inputs), outputs=tuple(outputs))
    feeds = {"x": normal(0, 2, WIDTH), "total": normal(1, 2, WIDTH)}
    same(session.run(feeds), open_ort(running_sum).run(feeds))
    with pytest.raises(RuntimeFailure, match="axis 0 must be 2"):
        session.run({name: array[:1] for name, array in feeds.items()})
