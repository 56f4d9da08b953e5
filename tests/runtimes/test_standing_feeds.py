"""Feeds that stay from call to call, in every runtime that keeps state; numpy says what each call must give.

As in the other tests without a GPU, memory of a device is the host's, and TensorRT's engine is a double.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from host_cuda import HostCuda
from onnx import helper
from trt_doubles import WIDTH, normal, open_double, open_ort, spec

from edge_sdk.errors import RuntimeFailure
from edge_sdk.runtime import Array
from edge_sdk.runtimes.ort_device import OrtDeviceBound
from edge_sdk.runtimes.standing_feeds import StandingFeeds
from edge_sdk.types import StateSpec


@pytest.fixture(params=["ort", "ort on a device", "trt"])
def bound(request: pytest.FixtureRequest, build: Any) -> Any:
    """y = x · lora, and total + y carried along in two buffers that change places."""
    toy = build(
        [helper.make_node("MatMul", ["x", "lora"], ["y"]), helper.make_node("Add", ["total", "y"], ["new"])],
        inputs=[spec("x", ("n", 2)), spec("lora", (2, WIDTH)), spec("total", (3, WIDTH))],
        outputs=[spec("y", ("n", WIDTH)), spec("new", (3, WIDTH))],
        state=(StateSpec(input="total", output="new", kind="alias"),),
    )
    if request.param == "trt":
        return open_double(toy).session.bind_state(toy.graph.state, {})
    session = open_ort(toy)
    if request.param == "ort":
        return session.bind_state(toy.graph.state, {})
    return OrtDeviceBound(session.native, session.guarded, toy.graph, toy.graph.state, {}, HostCuda(), device="cpu")


def constant(seed: int, *shape: int) -> Array:
    array = normal(seed, *shape)
    array.flags.writeable = False
    return array


def test_a_feed_that_stays_and_another_in_its_place(bound: Any) -> None:
    first, second, changing = constant(0, 2, WIDTH), constant(1, 2, WIDTH), normal(2, 2, WIDTH)
    x, total = normal(3, 3, 2), np.zeros((3, WIDTH), np.float32)
    # Each stays for two calls, one for each order of the buffers, and the first comes back behind all others.
    for lora in (first, first, second, second, first, first, changing, changing, first, first, first.copy(), second):
        total += x @ lora
        np.testing.assert_allclose(bound.run({"x": x, "lora": lora})["y"], x @ lora, rtol=1e-5)
    np.testing.assert_allclose(bound.read("total"), total, rtol=1e-5)


def test_an_array_that_was_written_into_is_read_again(bound: Any) -> None:
    changing, x = normal(0, 2, WIDTH), normal(1, 3, 2)
    for step in range(4):
        changing += step
        np.testing.assert_allclose(bound.run({"x": x, "lora": changing})["y"], x @ changing, rtol=1e-5)


def test_a_wrong_call_after_a_right_one_is_refused(bound: Any) -> None:
    lora, x = constant(0, 2, WIDTH), normal(1, 3, 2)
    for _ in range(2):
        bound.run({"x": x, "lora": lora})
    for feeds, words in (
        ({"x": x, "lora": lora[:1]}, r"input 'lora'"),
        ({"x": x, "lora": lora.astype(np.float64)}, r"input 'lora'.*float64"),
        ({"x": x}, r"missing: \['lora'\]"),
        ({"x": x, "lora": lora, "y": x}, r"unknown: \['y'\]"),
        ({"x": x[:, :1], "lora": lora}, r"input 'x'"),
    ):
        with pytest.raises(RuntimeFailure, match=words):
            bound.run(feeds)
    np.testing.assert_allclose(bound.run({"x": x, "lora": lora})["y"], x @ lora, rtol=1e-5)


def test_what_is_held_is_not_looked_at_again() -> None:
    specs = [spec("x", ("n", 2)), spec("a", (2, 2)), spec("b", (2, 2))]
    standing = StandingFeeds(specs, {})
    a, b = constant(0, 2, 2), normal(1, 2, 2)
    for length, expected in ((3, {"x", "a", "b"}), (4, {"x", "b"}), (3, {"x", "b"})):
        fresh, dims = standing.check({"x": normal(length, length, 2), "a": a, "b": b})
        standing.hold(fresh)
        assert (fresh.keys(), dims) == (expected, {"n": length})
    fresh, _ = standing.check({"x": normal(0, 3, 2), "a": a.copy(), "b": b})
    standing.hold(fresh)
    assert "a" in standing.check({"x": normal(0, 3, 2), "a": a, "b": b})[0]
