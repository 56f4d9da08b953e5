"""Check node by node, against a table of what its parser accepts, that TensorRT 10.3 can parse a graph.

That release runs only on JetPack 6, not on a workstation, and the newer compiler that `gate` uses accepts more. So the
decomposed dialect relies on the table, and a graph outside the table is refused before it is copied to a board.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
from onnx import ModelProto, NodeProto, TensorProto

from edge_sdk.errors import EngineError
from edge_sdk.export.parser_table import CONSTANTS, ONE_OUTPUT, OPSETS, SAME_IN_21, TYPES


def check_decomposed(model: ModelProto) -> None:
    """Raise `EngineError`, naming node and operator, for the first thing that TensorRT 10.3 does not accept.

    An opset above the range passes if every operator in use has the definition that it had within the range, apart
    from element types. Weights may be missing. The onnx package infers the element types.
    """
    opset = _opset(model)
    types = _types(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        for reason in _reasons(node, opset, types, constants):
            raise EngineError(f"TensorRT 10.3 does not accept node {node.name!r} ({node.op_type}): {reason}")


def _opset(model: ModelProto) -> int:
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if set(versions) != {"ai.onnx"} or versions["ai.onnx"] < OPSETS.start:
        found = ", ".join(f"{domain} {version}" for domain, version in versions.items())
        raise EngineError(f"TensorRT 10.3 reads ONNX's own operators of opset {OPSETS.start} and later, found {found}")
    return int(versions["ai.onnx"])


def _types(model: ModelProto) -> dict[str, str]:
    """Element type of every value, by name."""
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    found |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name: TensorProto.DataType.Name(kind) for name, kind in found.items()}


def _reasons(node: NodeProto, opset: int, types: Mapping[str, str], constants: set[str]) -> Iterator[str]:
    if node.domain or node.op_type not in TYPES:
        yield f"operator {node.domain or 'ai.onnx'}.{node.op_type} is not in its list"
        return
    version = onnx.defs.get_schema(node.op_type, opset).since_version
    if version >= OPSETS.stop and not (version == OPSETS.stop and node.op_type in SAME_IN_21):
        yield f"defined as in opset {version}, and {OPSETS.stop - 1} is the newest that it reads"
    for name in _data(node, opset):
        if types[name] not in TYPES[node.op_type]:
            yield f"{name!r} is {types[name]}, expected one of {', '.join(sorted(TYPES[node.op_type]))}"
    constant = CONSTANTS.get(node.op_type)
    if constant is not None and len(node.input) > constant and node.input[constant] not in constants:
        yield f"input {constant}, {node.input[constant]!r}, is not an initialiser"
    if node.op_type in ONE_OUTPUT and any(node.output[1:]):
        yield "it has more than one output"


def _data(node: NodeProto, opset: int) -> Iterator[str]:
    """The values that the table's types cover: first input and its kind, `Where`'s branches, `Cast`'s output."""
    schema = onnx.defs.get_schema(node.op_type, opset)
    kinds = [formal.type_str for formal in schema.inputs]
    kinds += kinds[-1:] * (len(node.input) - len(kinds))
    same = {kinds[0]} | ({kinds[1]} if node.op_type == "Where" else set())
    yield from (name for name, kind in zip(node.input, kinds, strict=False) if name and kind in same)
    if node.op_type == "Cast":
        yield node.output[0]
