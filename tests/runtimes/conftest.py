"""Toy graphs with both kinds of state, each with the declaration that a manifest would hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from edge_sdk.bundle.manifest import Graph
from edge_sdk.registry import open_runtime
from edge_sdk.types import StateSpec, TensorSpec

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int64": TensorProto.INT64}
TYPES |= {"uint8": TensorProto.UINT8, "bool": TensorProto.BOOL, "bfloat16": TensorProto.BFLOAT16}
HEADS, WIDTH = 2, 3


class Toy(NamedTuple):
    """An ONNX file and its declaration."""

    path: Path
    graph: Graph


Build = Callable[..., Toy]


def spec(name: str, shape: Sequence[int | str], dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=tuple(shape))  # type: ignore[arg-type]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Write a graph of nodes, inputs and outputs, checked by the onnx package."""

    def make(
        nodes: Sequence[NodeProto],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        state: Sequence[StateSpec] = (),
        opset: int = 20,
    ) -> Toy:
        ins, outs = (
            [helper.make_tensor_value_info(s.name, TYPES[s.dtype], list(s.shape)) for s in specs]
            for specs in (inputs, outputs)
        )
        model = helper.make_model(
            helper.make_graph(list(nodes), "toy", ins, outs),
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=10,
        )
        onnx.checker.check_model(model)
        path = tmp_path / "toy.onnx"
        path.write_bytes(model.SerializeToString())
        graph = Graph(
            file="toy.onnx",
            dialects=("native",),
            opset=opset,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            state=tuple(state),
        )
        return Toy(path, graph)

    return make


@pytest.fixture
def running_sum(build: Build) -> Toy:
    """total' = total + x, twice = 2 * total': a whole-tensor alias."""
    nodes = [helper.make_node("Add", ["total", "x"], ["new"]), helper.make_node("Add", ["new", "new"], ["twice"])]
    return build(
        nodes,
        [spec("x", ["streams", WIDTH]), spec("total", ["streams", WIDTH])],
        [spec("twice", ["streams", WIDTH]), spec("new", ["streams", WIDTH])],
        [StateSpec(input="total", output="new", kind="alias")],
    )


@pytest.fixture
def scatter_cache(build: Build) -> Toy:
    """A cache that the graph writes itself, in place, and its sum over slots: an alias with index."""
    if "native" not in open_runtime("ort").dialects:
        pytest.skip("TensorScatter came to onnxruntime with 1.25")
    nodes = [
        helper.make_node("TensorScatter", ["past", "rows", "at"], ["present"], axis=2),
        helper.make_node("ReduceSum", ["present", "axes"], ["total"], keepdims=0),
        helper.make_node("Constant", [], ["axes"], value_ints=[2]),
    ]
    cache = ("batch", HEADS, "slots", WIDTH)
    return build(
        [nodes[2], *nodes[:2]],
        [spec("rows", ["batch", HEADS, "q", WIDTH]), spec("at", ["batch"], "int64"), spec("past", cache)],
        [spec("total", ["batch", HEADS, WIDTH]), spec("present", cache)],
        [StateSpec(input="past", output="present", kind="alias", axis=2, index="at")],
        opset=24,
    )


@pytest.fixture
def append_cache(build: Build) -> Toy:
    """The same cache, decomposed: the graph gives its new rows, and the sum over cached and new slots."""
    nodes = [
        helper.make_node("Constant", [], ["axes"], value_ints=[2]),
        helper.make_node("Identity", ["rows"], ["new"]),
        helper.make_node("ReduceSum", ["past", "axes"], ["cached"], keepdims=0),
        helper.make_node("ReduceSum", ["new", "axes"], ["fresh"], keepdims=0),
        helper.make_node("Add", ["cached", "fresh"], ["total"]),
        helper.make_node("Cast", ["at"], ["seen"], to=TensorProto.FLOAT),
    ]
    cache = ("batch", HEADS, "slots", WIDTH)
    return build(
        nodes,
        [spec("rows", ["batch", HEADS, "q", WIDTH]), spec("at", ["batch"], "int64"), spec("past", cache)],
        [spec("total", ["batch", HEADS, WIDTH]), spec("new", ["batch", HEADS, "q", WIDTH]), spec("seen", ["batch"])],
        [StateSpec(input="past", output="new", kind="append", axis=2, index="at")],
    )
