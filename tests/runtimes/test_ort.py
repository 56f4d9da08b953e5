"""The ONNX Runtime sessions: feeds are judged, results are right, and both kinds of state hold over many calls."""

from __future__ import annotations

import re
from contextlib import closing
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edge_sdk.bundle.manifest import Graph
from edge_sdk.errors import RuntimeFailure, UnknownNameError
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import Array, Session, SessionOptions
from edge_sdk.types import StateSpec, TensorSpec

STEPS = 20
HEADS, WIDTH, SLOTS = 2, 3, 64


def open_toy(toy: Any, **options: Any) -> Session:
    return open_runtime("ort").open(toy.path, toy.graph, SessionOptions(threads=1, **options))


def spec(name: str, shape: tuple[int | str, ...], dtype: Any = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_run_gives_every_output_under_its_name(running_sum: Any) -> None:
    x, total = normal(0, 4, WIDTH), normal(1, 4, WIDTH)
    with closing(open_toy(running_sum)) as session:
        found = session.run({"x": x, "total": total})
    assert list(found) == ["twice", "new"]
    np.testing.assert_array_equal(found["new"], total + x)
    np.testing.assert_array_equal(found["twice"], (total + x) * 2)


def test_the_session_has_the_declared_tensors(running_sum: Any) -> None:
    session = open_toy(running_sum)
    assert session.inputs == running_sum.graph.inputs
    assert session.outputs == running_sum.graph.outputs


def test_a_view_of_another_array_is_a_valid_feed(running_sum: Any) -> None:
    x = normal(0, WIDTH, 8)[:, ::2].T
    bound = open_toy(running_sum).bind_state(running_sum.graph.state, {"streams": 4})
    np.testing.assert_array_equal(bound.run({"x": x})["twice"], x * 2)


ZEROS = np.zeros((2, WIDTH), np.float32)


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"x": ZEROS}, r"missing: \['total'\], unknown: \[\]"),
        ({"x": ZEROS, "total": ZEROS, "y": ZEROS}, r"missing: \[\], unknown: \['y'\]"),
        ({"x": ZEROS.astype(np.float64), "total": ZEROS}, r"'x'.*float32 \[streams, 3\], found float64 \[2, 3\]"),
        ({"x": ZEROS, "total": ZEROS[0]}, r"'total'.*expected float32 \[streams, 3\], found float32 \[3\]"),
        ({"x": ZEROS[:, :2], "total": ZEROS}, r"'x'.*found float32 \[2, 2\]; axis 1 must be 3"),
        ({"x": ZEROS, "total": ZEROS[:1]}, r"'total'.*found float32 \[1, 3\]; axis 0 must be 2"),
        ({"x": ZEROS, "total": ZEROS.tolist()}, r"'total'.*numpy array, found list"),
    ],
)
def test_a_wrong_feed_is_named(running_sum: Any, feeds: dict[str, Any], words: str) -> None:
    with pytest.raises(RuntimeFailure, match=words):
        open_toy(running_sum).run(feeds)


def test_a_bound_state_is_not_fed(running_sum: Any) -> None:
    bound = open_toy(running_sum).bind_state(running_sum.graph.state, {"streams": 2})
    with pytest.raises(RuntimeFailure, match=r"unknown: \['total'\]"):
        bound.run({"x": ZEROS, "total": ZEROS})
    with pytest.raises(RuntimeFailure, match=r"axis 0 must be 2"):
        bound.run({"x": normal(0, 3, WIDTH)})


@pytest.mark.parametrize("streams", [1, 5])
def test_an_alias_holds_the_running_sum(running_sum: Any, streams: int) -> None:
    x = normal(0, STEPS, streams, WIDTH)
    bound = open_toy(running_sum).bind_state(running_sum.graph.state, {"streams": streams})
    total = np.zeros((streams, WIDTH), np.float32)
    results = []
    for step in range(STEPS):
        total = total + x[step]
        found = bound.run({"x": x[step]})
        assert list(found) == ["twice"]
        np.testing.assert_array_equal(found["twice"], total * 2)
        np.testing.assert_array_equal(bound.read("total"), total)
        results.append((found["twice"], total * 2))
    for kept, expected in results:
        np.testing.assert_array_equal(kept, expected)


def test_reset_read_and_write(running_sum: Any) -> None:
    bound = open_toy(running_sum).bind_state(running_sum.graph.state, {"streams": 1})
    x = normal(0, 1, WIDTH)
    for calls in (1, 2):  # the buffers stand in another order after each call
        for _ in range(calls):
            bound.run({"x": x})
        bound.reset()
        np.testing.assert_array_equal(bound.read("total"), np.zeros((1, WIDTH)))
        value = normal(calls, 1, WIDTH)
        bound.write("total", value)
        copy = bound.read("total")
        np.testing.assert_array_equal(copy, value)
        copy += 1
        np.testing.assert_array_equal(bound.run({"x": x})["twice"], (value + x) * 2)
    for wrong in (np.zeros((1, WIDTH + 1), np.float32), np.zeros((1, WIDTH), np.float64)):
        with pytest.raises(RuntimeFailure, match=r"'total'.*expected float32 \[1, 3\]"):
            bound.write("total", wrong)
    with pytest.raises(RuntimeFailure, match="'x'"):
        bound.read("x")


def test_a_state_that_swaps_its_tensors(build: Any) -> None:
    """Each output is the other's input: wrong at once if an output overwrote an input not yet read."""
    nodes = [helper.make_node("Identity", ["b"], ["a2"]), helper.make_node("Add", ["a", "x"], ["b2"])]
    shape = (1, 256)
    state = [StateSpec(input=name, output=f"{name}2", kind="alias") for name in "ab"]
    toy = build(nodes, [spec(name, shape) for name in "xab"], [spec("a2", shape), spec("b2", shape)], state)
    bound = open_toy(toy).bind_state(state, {})
    a, b = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for step in range(STEPS):
        x = normal(step, *shape)
        a, b = b, a + x
        assert bound.run({"x": x}) == {}
        np.testing.assert_array_equal(bound.read("a"), a)
        np.testing.assert_array_equal(bound.read("b"), b)


def cache_steps(batch: int) -> list[tuple[Array, Array]]:
    """(rows, index) of 20 calls: one to three rows each, each item of the batch at its own place."""
    counts = [1 + step % 3 for step in range(STEPS)]
    starts = np.cumsum([0, *counts[:-1]])
    return [
        (normal(step, batch, HEADS, count, WIDTH), start + 5 * np.arange(batch, dtype=np.int64))
        for step, (count, start) in enumerate(zip(counts, starts, strict=True))
    ]


@pytest.mark.parametrize("kind", ["scatter_cache", "append_cache"])
@pytest.mark.parametrize("batch", [1, 3])
def test_both_kinds_of_cache_hold_the_same_rows(kind: str, batch: int, request: pytest.FixtureRequest) -> None:
    toy = request.getfixturevalue(kind)
    bound = open_toy(toy).bind_state(toy.graph.state, {"batch": batch, "slots": SLOTS})
    cache = np.zeros((batch, HEADS, SLOTS, WIDTH), np.float32)
    for rows, at in cache_steps(batch):
        found = bound.run({"rows": rows, "at": at})
        for item in range(batch):
            for row in range(rows.shape[2]):
                cache[item, :, at[item] + row] = rows[item, :, row]
        np.testing.assert_array_equal(bound.read("past"), cache)
        if batch == 1 or kind == "scatter_cache":
            np.testing.assert_allclose(found["total"], cache.sum(axis=2), rtol=1e-5, atol=1e-5)
    assert set(found) == {spec.name for spec in toy.graph.outputs} - {toy.graph.state[0].output}


@pytest.mark.parametrize("kind", ["scatter_cache", "append_cache"])
def test_a_cache_has_one_buffer(kind: str, request: pytest.FixtureRequest) -> None:
    """One array is both what a call reads and what it writes; each call's rows appear there, and it never moves."""
    toy = request.getfixturevalue(kind)
    bound: Any = open_toy(toy).bind_state(toy.graph.state, {"batch": 1, "slots": SLOTS})
    kept, (entry,) = bound._state, toy.graph.state
    memory = kept.front(entry, 0)
    assert kept.phases == len(bound._bindings) == len(kept._buffers["past"]) == 1
    for rows, at in cache_steps(1):
        bound.run({"rows": rows, "at": at})
        np.testing.assert_array_equal(memory[:, :, at[0] : at[0] + rows.shape[2]], rows)
        assert kept.front(entry, kept.phase) is kept.back(entry, kept.phase) is memory


@pytest.mark.parametrize("start", [SLOTS - 1, SLOTS, 10**9, -1])
@pytest.mark.parametrize("kind", ["scatter_cache", "append_cache"])
def test_rows_that_do_not_fit_change_nothing(kind: str, start: int, request: pytest.FixtureRequest) -> None:
    toy = request.getfixturevalue(kind)
    bound = open_toy(toy).bind_state(toy.graph.state, {"batch": 1, "slots": SLOTS})
    bound.run({"rows": normal(0, 1, HEADS, 4, WIDTH), "at": np.array([7])})
    before = bound.read("past")
    with pytest.raises(RuntimeFailure, match=rf"{start}\b.*{SLOTS}|negative"):
        bound.run({"rows": normal(1, 1, HEADS, 2, WIDTH), "at": np.array([start])})
    np.testing.assert_array_equal(bound.read("past"), before)
    bound.run({"rows": normal(1, 1, HEADS, 2, WIDTH), "at": np.array([SLOTS - 2])})


def test_one_entry_that_does_not_fit_stops_all(build: Any) -> None:
    nodes = [helper.make_node("Identity", ["rows"], ["new"]), helper.make_node("Add", ["sum", "one"], ["sum2"])]
    nodes.insert(0, helper.make_node("Constant", [], ["one"], value_float=1.0))
    state = [
        StateSpec(input="sum", output="sum2", kind="alias"),
        StateSpec(input="past", output="new", kind="append", axis=0, index="at"),
    ]
    inputs = [spec("rows", ("q",)), spec("at", (1,), "int64"), spec("past", (4,)), spec("sum", (1,))]
    toy = build(nodes, inputs, [spec("new", ("q",)), spec("sum2", (1,))], state)
    bound = open_toy(toy).bind_state(state, {})
    bound.run({"rows": np.ones(2, np.float32), "at": np.array([0])})
    with pytest.raises(RuntimeFailure, match=r"'past'.*3 rows at index \[2\] do not fit its 4 slots"):
        bound.run({"rows": np.ones(3, np.float32), "at": np.array([2])})
    assert bound.read("sum").tolist() == [1.0]
    assert bound.read("past").tolist() == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (StateSpec(input="q", output="new", kind="alias"), "'q'"),
        (StateSpec(input="total", output="q", kind="alias"), "'q'"),
        (StateSpec(input="total", output="new", kind="append", axis=2, index="x"), "integer input"),
        (StateSpec(input="total", output="new", kind="alias", axis=2), "axis 2"),
    ],
)
def test_a_state_that_the_graph_does_not_have(running_sum: Any, entry: StateSpec, words: str) -> None:
    with pytest.raises(RuntimeFailure, match=words):
        open_toy(running_sum).bind_state([entry], {"streams": 1})


@pytest.mark.parametrize("dims", [{}, {"streams": 0}, {"stream": 1}])
def test_a_state_needs_its_lengths(running_sum: Any, dims: dict[str, int]) -> None:
    with pytest.raises(RuntimeFailure, match=r"'total'.*'streams'"):
        open_toy(running_sum).bind_state(running_sum.graph.state, dims)


def test_a_closed_session_refuses(running_sum: Any) -> None:
    session = open_toy(running_sum)
    bound = session.bind_state(running_sum.graph.state, {"streams": 2})
    session.close()
    session.close()
    with pytest.raises(RuntimeFailure, match="closed"):
        session.run({"x": ZEROS, "total": ZEROS})
    with pytest.raises(RuntimeFailure, match="closed"):
        bound.run({"x": ZEROS})
    with pytest.raises(RuntimeFailure, match="closed"):
        session.bind_state(running_sum.graph.state, {"streams": 1})


def declared(toy: Any, **changes: Any) -> Any:
    fields = {name: getattr(toy.graph, name) for name in Graph.__struct_fields__}
    return toy._replace(graph=Graph(**(fields | changes)))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([spec("x", ("streams", 3))], r"inputs \['x'\], the file has \['total', 'x'\]"),
        ([spec("x", ("streams", 3)), spec("y", ("streams", 3))], r"'x', 'y'"),
        ([spec("x", ("streams", 3)), spec("total", ("streams", 3), "float16")], r"'total' as float16"),
        ([spec("x", ("streams", 3)), spec("total", (3,))], r"'total' as float32 \[3\]"),
        ([spec("x", ("streams", 3)), spec("total", ("streams", 4))], r"'total' as float32 \[streams, 4\]"),
        ([spec("x", ("streams", "width")), spec("total", ("streams", 3))], r"'x' as float32 \[streams, width\]"),
    ],
)
def test_a_file_that_is_not_what_the_manifest_declares(running_sum: Any, inputs: list[TensorSpec], words: str) -> None:
    with pytest.raises(RuntimeFailure, match=words):
        open_toy(declared(running_sum, inputs=tuple(inputs)))


def test_the_manifest_may_fix_a_free_dimension(running_sum: Any) -> None:
    inputs = (spec("x", (2, 3)), spec("total", (2, 3)))
    session = open_toy(declared(running_sum, inputs=inputs))
    assert session.run({"x": ZEROS, "total": ZEROS})["new"].shape == (2, 3)
    with pytest.raises(RuntimeFailure, match="axis 0 must be 2"):
        session.run({"x": ZEROS[:1], "total": ZEROS[:1]})


@pytest.mark.parametrize("dtype", ["float16", "int64", "uint8", "bool"])
def test_other_element_types(build: Any, dtype: str) -> None:
    nodes = [helper.make_node("Identity", ["a"], ["b"])]
    toy = build(nodes, [spec("a", ("n",), dtype)], [spec("b", ("n",), dtype)])
    value = np.array([0, 1, 1], dtype)
    found = open_toy(toy).run({"a": value})["b"]
    assert found.dtype == value.dtype
    np.testing.assert_array_equal(found, value)


def test_bfloat16_is_refused_with_a_reason(build: Any) -> None:
    nodes = [helper.make_node("Identity", ["a"], ["b"])]
    toy = build(nodes, [spec("a", ("n",), "bfloat16")], [spec("b", ("n",), "bfloat16")])
    with pytest.raises(RuntimeFailure, match="'a' is bfloat16"):
        open_toy(toy)


def test_a_file_that_onnxruntime_refuses(running_sum: Any, capfd: pytest.CaptureFixture[str]) -> None:
    model = onnx.load(running_sum.path)
    model.graph.node[0].op_type = "NoSuchOperator"
    running_sum.path.write_bytes(model.SerializeToString())
    with pytest.raises(RuntimeFailure, match=f"{re.escape(onnxruntime.__version__)} refused toy.onnx.*NoSuchOperator"):
        open_toy(running_sum)
    running_sum.path.write_bytes(b"not a graph")
    with pytest.raises(RuntimeFailure, match=r"refused toy\.onnx"):
        open_toy(running_sum)
    running_sum.path.unlink()
    with pytest.raises(RuntimeFailure, match=r"refused toy\.onnx"):
        open_toy(running_sum)
    assert capfd.readouterr() == ("", "")


def test_a_graph_that_fails_while_it_runs(build: Any, capfd: pytest.CaptureFixture[str]) -> None:
    nodes = [helper.make_node("Gather", ["table", "i"], ["row"])]
    toy = build(nodes, [spec("table", (4,)), spec("i", ("n",), "int64")], [spec("row", ("n",))])
    feeds = {"table": np.zeros(4, np.float32), "i": np.array([9])}
    session = open_toy(toy)
    with pytest.raises(RuntimeFailure, match=r"toy\.onnx failed.*Gather"):
        session.run(feeds)
    with pytest.raises(RuntimeFailure, match=r"toy\.onnx failed.*Gather"):
        session.bind_state([], {}).run(feeds)
    assert capfd.readouterr() == ("", "")


def test_an_output_may_change_its_shape_from_call_to_call(build: Any) -> None:
    toy = build([helper.make_node("Identity", ["a"], ["b"])], [spec("a", ("n",))], [spec("b", ("n",))])
    bound = open_toy(toy).bind_state([], {})
    for length in (3, 1, 5):
        assert bound.run({"a": normal(0, length)})["b"].shape == (length,)


def test_weights_beside_the_graph_are_read(build: Any) -> None:
    toy = build([helper.make_node("Identity", ["a"], ["b"])], [spec("a", (4,))], [spec("b", (4,))])
    model = onnx.load(toy.path)
    weight = normal(3, 4)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    model.graph.node[0].CopyFrom(helper.make_node("Add", ["a", "w"], ["b"]))
    onnx.save_model(model, toy.path, save_as_external_data=True, location="toy.weights", size_threshold=0)
    assert (toy.path.parent / "toy.weights").stat().st_size >= weight.nbytes
    a = normal(4, 4)
    np.testing.assert_array_equal(open_toy(toy).run({"a": a})["b"], a + weight)


def test_a_file_is_read_as_onnx_whatever_it_is_called_and_begins_with(running_sum: Any) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(running_sum.path.with_name("own.ort"))
    onnxruntime.InferenceSession(running_sum.path, options, providers=["CPUExecutionProvider"])
    own = running_sum.path.with_name("own.ort")
    assert own.read_bytes()[4:8] == b"ORTM"
    onnxruntime.InferenceSession(own, providers=["CPUExecutionProvider"])
    with pytest.raises(RuntimeFailure, match=r"refused own\.ort"):
        open_toy(running_sum._replace(path=own))
    own.write_bytes(running_sum.path.read_bytes())
    with closing(open_toy(running_sum._replace(path=own))) as session:
        np.testing.assert_array_equal(session.run({"x": ZEROS + 1, "total": ZEROS})["new"], ZEROS + 1)


def test_an_unknown_device(running_sum: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"'tpu'.*cpu"):
        open_toy(running_sum, device="tpu")


def test_the_runtime_describes_itself() -> None:
    described = open_runtime("ort").describe()
    assert described["onnxruntime"] == onnxruntime.__version__
    assert "CPUExecutionProvider" in described["providers"]
