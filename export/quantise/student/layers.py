"""Find the layers of a student's graph that can be in 8 bits, and the values at their ends.

These are the convolutions over pictures whose results pass a ReLU, directly or after a residual sum: nearly all of the
arithmetic. One-dimensional convolutions over time, the pooled maps, and the linear head stay in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import ModelProto, NodeProto

from edge_sdk.errors import ConfigError

_PICTURE_DIMENSIONS = 4


@dataclass(frozen=True)
class Layer:
    """One convolution, by its node's name: its input, its weight and its results.

    `ends` are the values that must be rounded for a runtime to compute with integers: the ReLU's result, and before a
    residual sum also the convolution's own result.
    """

    name: str
    source: str
    weight: str
    ends: tuple[str, ...]


def student_layers(model: ModelProto) -> tuple[Layer, ...]:
    """Every layer that can be in 8 bits, in the graph's order.

    Raises `ConfigError` for a graph that is quantised already, or has no such layer.
    """
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        raise ConfigError("expected a student in float32, found a quantised one; give the bundle it was made from")
    found = tuple(_layers(model))
    if not found:
        raise ConfigError(
            "the student has no convolution over pictures followed by a ReLU; there is nothing to quantise"
        )
    return found


def rounded_values(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Every value that is rounded where `layers` are in 8 bits, each once, in a fixed order."""
    return tuple(dict.fromkeys(name for layer in layers for name in (layer.source, *layer.ends)))


def joined_values(model: ModelProto, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Groups of values in `names` that are concatenated, with the result: each group must share a scale.

    A state's values were rounded one frame earlier; with the same scale, rounding them again changes nothing.
    """
    for node in model.graph.node:
        if node.op_type == "Concat" and node.output[0] in names:
            yield (node.output[0], *(name for name in node.input if name in names))


def _layers(model: ModelProto) -> Iterator[Layer]:
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    users = _users(model.graph.node)
    for node in model.graph.node:
        if node.op_type != "Conv" or len(shapes.get(node.input[1], ())) != _PICTURE_DIMENSIONS:
            continue
        if ends := _ends(node.output[0], users):
            yield Layer(node.name, node.input[0], node.input[1], ends)


def _ends(result: str, users: Mapping[str, Sequence[NodeProto]]) -> tuple[str, ...]:
    (after, *more) = users.get(result, (onnx.NodeProto(),))
    if more:
        return ()
    if after.op_type == "Relu":
        return (after.output[0],)
    if after.op_type == "Add":
        (last, *others) = users.get(after.output[0], (onnx.NodeProto(),))
        if last.op_type == "Relu" and not others:
            return (result, last.output[0])
    return ()


def _users(nodes: Sequence[NodeProto]) -> dict[str, list[NodeProto]]:
    found: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found
