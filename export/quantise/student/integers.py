"""A student's graph with `QuantizeLinear` and `DequantizeLinear` around its layers, for TensorRT and for a CPU.

TensorRT accepts only signed numbers with a zero point of 0, and its parser reads unsigned numbers as signed ones. ONNX
Runtime computes with integers after a ReLU only where the lowest number is zero, which needs unsigned numbers with the
same scale. So a bundle holds both graphs over one file of weights. They differ in the type of zero points and give the
same scores, except where a value is beyond the calibrated range.

Within the calibrated range the unsigned numbers are also at most 127, so that the products of CPUs without VNNI, which
add two of them in 16 bits (`vpmaddubsw`), do not overflow. Beyond it numbers reach 255, and such a sum may saturate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from edge_sdk.export.quantise.student.layers import Layer, rounded_values

HIGHEST = 127
Ranges = Mapping[str, tuple[float, float]]
"""The lowest and the highest of each value that counts; beyond them it is cut off."""


def with_integers(model: ModelProto, layers: Sequence[Layer], ranges: Ranges, *, unsigned: bool) -> ModelProto:
    """A copy of `model` whose `layers` have 8-bit weights and activations; its inputs and outputs are unchanged.

    With `unsigned`, values that are never negative are rounded to uint8, for ONNX Runtime on a CPU; else all to int8.
    """
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    values = rounded_values(layers)
    weights = {layer.weight for layer in layers}
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name in weights}
    kept = [tensor for tensor in graph.initializer if tensor.name not in weights]
    nodes = list(_nodes(list(graph.node), values, held))
    inputs = [pair for value in graph.input if value.name in values for pair in _pair(value.name)]
    # Any: scales, whole numbers and zero points.
    tensors: dict[str, NDArray[Any]] = {f"{name}.scale": _scale(name, ranges) for name in values}
    tensors |= {f"{name}.zero": np.array(0, _kind(name, ranges, unsigned)) for name in values}
    tensors |= dict(_stored(held))
    del graph.initializer[:], graph.node[:], graph.value_info[:]
    graph.initializer.extend([*kept, *(numpy_helper.from_array(array, name) for name, array in tensors.items())])
    graph.node.extend([*inputs, *nodes])
    return onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True)


def _nodes(
    nodes: Sequence[NodeProto], values: Sequence[str], weights: Mapping[str, NDArray[np.float32]]
) -> Iterator[NodeProto]:
    begun: set[str] = set()
    for node in nodes:
        for index, name in enumerate(node.input):
            if name in weights and name not in begun:
                begun.add(name)
                yield _restored(name, [name, f"{name}.scale"], {"axis": 0})
            if name in values or name in weights:
                node.input[index] = f"{name}.restored"
        yield node
        for name in node.output:
            if name in values:
                yield from _pair(name)


def _pair(name: str) -> tuple[NodeProto, NodeProto]:
    settings = [f"{name}.scale", f"{name}.zero"]
    whole = helper.make_node("QuantizeLinear", [name, *settings], [f"{name}.whole"], name=f"{name}.whole")
    return whole, _restored(name, [f"{name}.whole", *settings])


def _restored(name: str, inputs: Sequence[str], attributes: Mapping[str, int] | None = None) -> NodeProto:
    node = helper.make_node("DequantizeLinear", inputs, [f"{name}.restored"], name=f"{name}.restored")
    node.attribute.extend(helper.make_attribute(key, value) for key, value in (attributes or {}).items())
    return node


def _scale(name: str, ranges: Ranges) -> NDArray[np.float32]:
    low, high = ranges[name]
    wide = max(abs(low), abs(high)) or 1.0
    return np.array(wide / HIGHEST, np.float32)


def _kind(name: str, ranges: Ranges, unsigned: bool) -> type[np.uint8 | np.int8]:
    return np.uint8 if unsigned and ranges[name][0] >= 0 else np.int8


def _stored(weights: Mapping[str, NDArray[np.float32]]) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Weights `[outputs, ...]` as int8 with a scale per output, which maps its largest weight to the highest number."""
    for name, weight in weights.items():
        largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)))
        scale = np.where(largest > 0, largest / HIGHEST, 1.0).astype(np.float32)
        beside = scale.reshape(-1, *[1] * (weight.ndim - 1))
        yield name, np.rint(weight / beside).clip(-HIGHEST, HIGHEST).astype(np.int8)
        yield f"{name}.scale", scale
