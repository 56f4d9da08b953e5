"""Rewrite a graph of plain weights for quantised weights: a `DequantizeLinear` before each product, and nothing else.

A compiler fuses the two nodes: ONNX Runtime to `MatMulNBits`, TensorRT to a weight-only product. A weight that is not
quantised keeps its initialiser and is read from its new place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from edge_sdk.export.graphs.onnx_graph import ModelGraph
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.stored_file import Place, StoredType, scale_name

# The first opset with INT4; the decomposed dialect's operators differ in it only by their types.
INT4_OPSET = 21
_TYPES: dict[StoredType, int] = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int8": TensorProto.INT8,
    "int4": TensorProto.INT4,
    "fp8": TensorProto.FLOAT8E4M3FN,
}


def with_stored(graph: ModelGraph, places: Mapping[str, Place], formats: Mapping[str, Format]) -> ModelGraph:
    """Return `graph` reading every weight from `places`; weights in `formats` are dequantised where they are used.

    Raises `KeyError` for a weight that `places` does not have.
    """
    model = ModelProto()
    model.CopyFrom(graph.model)
    used = [tensor.name for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    kept = [tensor for tensor in model.graph.initializer if tensor.data_location != TensorProto.EXTERNAL]
    stored = [name for name in used if name in formats]
    named = [part for name in used for part in ((scale_name(name), name) if name in formats else (name,))]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*(initialiser(places[name]) for name in named), *kept])
    nodes = list(_nodes(model.graph.node, {name: formats[name] for name in stored}))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _raise_opset(model, INT4_OPSET if any(formats[name].bits == 4 for name in stored) else 0)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    return dataclasses.replace(graph, model=model)


def _nodes(nodes: Iterable[NodeProto], formats: Mapping[str, Format]) -> Iterator[NodeProto]:
    """The nodes in their order, with each weight's `DequantizeLinear` before the first node that uses it."""
    begun: set[str] = set()
    for node in nodes:
        for index, name in enumerate(node.input):
            if name not in formats:
                continue
            if name not in begun:
                begun.add(name)
                yield _dequantise(name, formats[name])
            node.input[index] = result_name(name)
        yield node


def _dequantise(name: str, form: Format) -> NodeProto:
    node = NodeProto(op_type="DequantizeLinear", name=result_name(name), input=[name, scale_name(name)])
    node.output.append(result_name(name))
    attributes = {"axis": 0, "block_size": form.block} if form.block else {"axis": 1}
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    return node


def result_name(name: str) -> str:
    """Name of the value of the matrix `name` after its `DequantizeLinear`."""
    return f"{name}.restored"


def initialiser(place: Place) -> TensorProto:
    """The initialiser for a tensor of a weight file, which lies beside the graph."""
    part = place.part
    tensor = TensorProto(name=part.name, data_type=_TYPES[part.type], dims=part.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", place.location), ("offset", place.offset), ("length", part.size_bytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _raise_opset(model: ModelProto, opset: int) -> None:
    (own,) = model.opset_import
    own.version = max(own.version, opset)
    model.ir_version = helper.find_min_ir_version_for([own])
