"""8-bit inputs of products: where their scales are stored, and the pair of operators that rounds them.

`QuantizeLinear` and `DequantizeLinear` are placed only before the product: other users of the same values, such as a
LoRA matrix, get them unrounded. A compiler fuses the pair and the weight's `DequantizeLinear` into an 8-bit product.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper
from torch import Tensor

from edge_sdk.bundle.manifest_language import Number
from edge_sdk.export.graphs.onnx_graph import ModelGraph
from edge_sdk.export.quantise.rewrite import initialiser, result_name
from edge_sdk.export.quantise.stored_file import Part, Place, StoredType
from edge_sdk.types import DType

GROUPS = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "mlp", "up": "mlp"}
"""Linears that take the same inputs, in the decoder and in the vision tower; any other takes its own."""
ZEROS: dict[Number, str] = {"int": "zero.int8", "fp8": "zero.fp8"}
_ZERO_TYPES: dict[Number, int] = {"int": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}
_LINEAR = re.compile(r"(.*)\.(\w+)\.weight")


def group_of(linear: str) -> str:
    """The group of linears that share a linear's inputs."""
    return GROUPS.get(linear, linear)


def input_scale_name(matrix: str) -> str:
    """Name of the scale of a matrix's inputs; matrices that share their inputs share the scale."""
    found = _LINEAR.fullmatch(matrix)
    if found is None:
        raise ValueError(f"{matrix} is not the weight of a linear")
    return f"{found[1]}.{group_of(found[2])}.input.scale"


class InputScale:
    """A `Source` of one scalar of a weight file: an input scale."""

    def __init__(self, name: str, dtype: DType, read: Callable[[], Tensor]) -> None:
        kind: StoredType = "float16" if dtype == "float16" else "float32"
        self._name, self._dtype, self._read = name, dtype, read
        self.parts = (Part(name, kind, ()),)

    def pieces(self) -> Iterator[tuple[str, Tensor]]:
        """See `Source`."""
        number: Tensor = self._read().to(getattr(torch, self._dtype)).reshape(1)
        yield self._name, number.view(torch.uint8)


def with_rounded_inputs(graph: ModelGraph, places: Mapping[str, Place], rounded: Mapping[str, Number]) -> ModelGraph:
    """Return `graph`, whose weights are already quantised, with the inputs of the matrices `rounded` in 8 bits.

    Raises `KeyError` for a scale that `places` does not have.
    """
    wanted = {result_name(name): (input_scale_name(name), ZEROS[kind]) for name, kind in rounded.items()}
    model = ModelProto()
    model.CopyFrom(graph.model)
    nodes = list(_nodes(list(model.graph.node), wanted))
    used = sorted({node.input[1] for node in nodes if node.op_type == "QuantizeLinear"})
    if not used:
        return graph
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(initialiser(places[name]) for name in used)
    zeros = {node.input[2] for node in nodes if node.op_type == "QuantizeLinear"}
    model.graph.initializer.extend(
        TensorProto(name=ZEROS[kind], data_type=_ZERO_TYPES[kind], raw_data=bytes(1))
        for kind in ZEROS
        if ZEROS[kind] in zeros
    )
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    return dataclasses.replace(graph, model=model)


def _nodes(nodes: Sequence[NodeProto], wanted: Mapping[str, tuple[str, str]]) -> Iterator[NodeProto]:
    """The nodes in their order, with a rounding pair before the first product that uses a value."""
    begun: set[str] = set()
    for node in nodes:
        if node.op_type == "MatMul" and node.input[1] in wanted:
            value, (scale, zero) = node.input[0], wanted[node.input[1]]
            whole = f"{value}.{scale}.whole"
            if whole not in begun:
                begun.add(whole)
                yield helper.make_node("QuantizeLinear", [value, scale, zero], [whole], name=whole)
                yield helper.make_node(
                    "DequantizeLinear", [whole, scale, zero], [f"{whole}.back"], name=f"{whole}.back"
                )
            node.input[0] = f"{whole}.back"
        yield node
