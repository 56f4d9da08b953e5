"""How much arithmetic an ONNX graph needs, counted from the file without the onnx package.

Only convolutions and matrix products are counted, each from the shapes of its weights and its output, which the
exporter writes into the graph. A free dimension counts as 1, so the numbers are those of one stream.

Field numbers: `onnx.proto` of the ONNX project.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from edge_sdk.bundle.onnx_file import read_graph
from edge_sdk.bundle.onnx_wire import Data, Field, MalformedError, fields, integers, text

Shape = tuple[int, ...]
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALISER, _GRAPH_VALUES = 1, 5, (11, 12, 13)
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR = 1, 2, 4
_TENSOR_DIMS, _TENSOR_NAME = 1, 8
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM, _DIM_LENGTH = 1, 2, 1, 2, 1, 1
_PRODUCTS = ("Conv", "Gemm", "MatMul")
_UNPACKED = "DequantizeLinear"
_VALUE_BYTES = 4


class GraphWork(NamedTuple):
    """Operations of one run (a multiply-add counts as two), and bytes of the largest operator's inputs and outputs."""

    flops: int
    activation_bytes: int


class _Node(NamedTuple):
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def graph_work(path: Path) -> GraphWork:
    """Count the work of the graph in `path`, with fp32 activations. Raises `BundleError` if it is not an ONNX file."""
    return read_graph(path, _work)


def _work(data: Data) -> GraphWork:
    graph = _only(data, Field(0, 0, 0, len(data)), _MODEL_GRAPH)
    weights = dict(_tensor(data, each) for each in _all(data, graph, _GRAPH_INITIALISER))
    shapes = dict(_value(data, each) for each in _all(data, graph, *_GRAPH_VALUES))
    nodes = [_node(data, each) for each in _all(data, graph, _GRAPH_NODE)]
    # The output of a quantised weight's `DequantizeLinear` has the weight's shape.
    few = {node.outputs[0]: weights.get(node.inputs[0]) for node in nodes if node.kind == _UNPACKED}
    weights |= {name: shape for name, shape in few.items() if shape}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    held = [sum(sizes.get(name, 0) for name in (*node.inputs, *node.outputs)) for node in nodes]
    return GraphWork(
        flops=2 * sum(_multiply_adds(node, weights, shapes) for node in nodes),
        activation_bytes=_VALUE_BYTES * max(held, default=0),
    )


def _multiply_adds(node: _Node, weights: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> int:
    if node.kind not in _PRODUCTS or node.outputs[0] not in shapes:
        return 0
    result = shapes[node.outputs[0]]
    known = weights.get(node.inputs[1])
    if node.kind == "Conv":
        return math.prod(known or ()) * math.prod(result[2:]) if known else 0
    if known and len(known) == 2:
        return math.prod(known) * math.prod(result[:-1])
    left = shapes.get(node.inputs[0]) or weights.get(node.inputs[0])
    return math.prod(result) * left[-1] if left else 0


def _all(data: Data, message: Field, *numbers: int) -> list[Field]:
    return [each for each in fields(data, message.start, message.end) if each.number in numbers]


def _only(data: Data, message: Field, number: int) -> Field:
    found = _all(data, message, number)
    if not found:
        raise MalformedError(f"no field {number} between bytes {message.start} and {message.end}")
    return found[0]


def _node(data: Data, node: Field) -> _Node:
    inputs, outputs = (
        tuple(data[each.start : each.end].decode() for each in _all(data, node, number))
        for number in (_NODE_INPUT, _NODE_OUTPUT)
    )
    kind = text(data, node, _NODE_OPERATOR)
    if kind in (*_PRODUCTS, _UNPACKED) and (len(inputs) < 2 or not outputs):
        raise MalformedError(f"an operator {kind} of {len(inputs)} inputs and {len(outputs)} outputs")
    return _Node(kind, inputs, outputs)


def _tensor(data: Data, tensor: Field) -> tuple[str, Shape]:
    return text(data, tensor, _TENSOR_NAME), tuple(integers(data, tensor.start, tensor.end, _TENSOR_DIMS))


def _value(data: Data, value: Field) -> tuple[str, Shape]:
    tensor = _only(data, _only(data, value, _VALUE_TYPE), _TYPE_TENSOR)
    dims = [dim for shape in _all(data, tensor, _TENSOR_SHAPE)[:1] for dim in _all(data, shape, _SHAPE_DIM)]
    lengths = (next(integers(data, dim.start, dim.end, _DIM_LENGTH), 1) for dim in dims)
    return text(data, value, _VALUE_NAME), tuple(max(1, length) for length in lengths)
