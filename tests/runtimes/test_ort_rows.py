"""A session of ONNX Runtime whose calls are given a part of its cache: every row that is left is where it was."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import helper

from edge_sdk.errors import RuntimeFailure
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import Array, BoundState, SessionOptions
from edge_sdk.runtimes.host_rows import row_axes
from edge_sdk.types import StateSpec, TensorSpec

HEADS, WIDTH, SLOTS = 3, 2, 40


def spec(name: str, shape: tuple[int | str, ...], dtype: Any = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


@pytest.fixture
def masked_cache(build: Any) -> Any:
    """A cache of `SLOTS` rows, and the sum of those that a mask allows; both are fixed in the file."""
    if "native" not in open_runtime("ort").dialects:
        pytest.skip("TensorScatter came to onnxruntime with 1.25")
    cache = (1, HEADS, SLOTS, WIDTH)
    nodes = [
        helper.make_node("TensorScatter", ["past", "rows", "at"], ["present"], axis=2),
        helper.make_node("Cast", ["mask"], ["weights"], to=1),
        helper.make_node("MatMul", ["weights", "present"], ["total"]),
    ]
    return build(
        nodes,
        [
            spec("rows", (1, HEADS, "q", WIDTH)),
            spec("at", (1,), "int64"),
            spec("mask", (1, 1, 1, SLOTS), "bool"),
            spec("past", cache),
        ],
        [spec("total", (1, HEADS, 1, WIDTH)), spec("present", cache)],
        [StateSpec(input="past", output="present", kind="alias", axis=2, index="at")],
        opset=24,
    )


def bound_to(toy: Any) -> BoundState:
    return open_runtime("ort").open(toy.path, toy.graph, SessionOptions(threads=1)).bind_state(toy.graph.state, {})


def call(bound: BoundState, rows: Array, at: int, slots: int, seen: Array) -> Array:
    mask = np.isin(np.arange(slots), seen)[None, None, None]
    return bound.run({"rows": rows, "at": np.array([at]), "mask": mask})["total"]


def test_rows_stay_while_a_cache_grows_and_shrinks(masked_cache: Any) -> None:
    random, bound = np.random.default_rng(3), bound_to(masked_cache)
    kept = np.zeros((1, HEADS, SLOTS, WIDTH), np.float32)
    for at, slots in [(0, 4), (2, 8), (6, 8), (8, 25), (20, 40), (7, 12), (1, 3), (30, 40), (36, 99)]:
        rows = random.normal(size=(1, HEADS, 2, WIDTH)).astype(np.float32)
        given = bound.limit(slots)
        assert given == min(slots, SLOTS)
        kept[:, :, given:] = 0
        kept[:, :, at : at + 2] = rows
        seen = random.choice(given, size=(given + 1) // 2, replace=False)
        total = call(bound, rows, at, given, seen)
        np.testing.assert_allclose(total[:, :, 0], kept[:, :, seen].sum(2), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(bound.read("past"), kept[:, :, :given])


def test_what_is_not_a_number_does_not_come_back(masked_cache: Any) -> None:
    """A row with a weight of zero spoils a sum all the same, so nothing may be left where rows are added."""
    bound = bound_to(masked_cache)
    bound.limit(8)
    call(bound, np.full((1, HEADS, 8, WIDTH), np.nan, np.float32), 0, 8, np.arange(8))
    bound.limit(1)
    bound.limit(SLOTS)
    total = call(bound, np.ones((1, HEADS, 1, WIDTH), np.float32), 0, SLOTS, np.array([0]))
    np.testing.assert_array_equal(total, np.ones_like(total))


def test_a_mask_of_another_length_is_refused(masked_cache: Any) -> None:
    bound = bound_to(masked_cache)
    bound.limit(8)
    with pytest.raises(RuntimeFailure, match=r"'mask'.*axis 3 must be 8"):
        call(bound, np.zeros((1, HEADS, 1, WIDTH), np.float32), 0, SLOTS, np.array([0]))


def test_reset_and_write_after_a_limit(masked_cache: Any) -> None:
    bound = bound_to(masked_cache)
    bound.limit(5)
    value = np.arange(HEADS * 5 * WIDTH, dtype=np.float32).reshape(1, HEADS, 5, WIDTH)
    bound.write("past", value)
    bound.limit(7)
    np.testing.assert_array_equal(bound.read("past")[:, :, :5], value)
    bound.reset()
    assert not bound.read("past").any()


def test_a_cache_whose_rows_a_runtime_appends_is_given_whole(append_cache: Any) -> None:
    bound = bound_to_slots(append_cache)
    assert bound.limit(5) is None


def bound_to_slots(toy: Any) -> BoundState:
    session = open_runtime("ort").open(toy.path, toy.graph, SessionOptions(threads=1))
    return session.bind_state(toy.graph.state, {"batch": 1, "slots": SLOTS})


def test_state_that_is_not_all_rows_of_one_length_stays_whole(masked_cache: Any, running_sum: Any) -> None:
    graph = masked_cache.graph
    assert row_axes(graph) == {"past": 2, "present": 2, "mask": 3}
    assert row_axes(running_sum.graph) == {}
    other = (spec("other", (1, 3, WIDTH)), spec("other2", (1, 3, WIDTH)))
    two = msgspec.structs.replace(
        graph,
        inputs=(*graph.inputs, other[0]),
        outputs=(*graph.outputs, other[1]),
        state=(*graph.state, StateSpec(input="other", output="other2", kind="alias", axis=1, index="at")),
    )
    assert row_axes(two) == {}
