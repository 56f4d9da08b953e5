"""Files that an ONNX graph reads, its number of weights, and whether it must end, found without the onnx package.

An initialiser may name a file beside the graph that holds its bytes, and a runtime opens whatever is named there. A
bundle must vouch for those files, and the device has no onnx package. This module therefore walks the protobuf wire
format, enters only the messages that it needs, and skips everything else by its length. Weights are never read.

Field numbers: `onnx.proto3` of the ONNX project. Wire format: protobuf's encoding page.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from edge_sdk.bundle.onnx_wire import Data, Field, MalformedError, fields, integers, text
from edge_sdk.errors import BundleError

# message -> {field number: message it holds}; only what leads to TensorProto.external_data
_CHILDREN: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 25: "Function", 20: "Training"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_GRAPH, _INITIALISER, _DIMS = 7, 5, 1
_FUNCTION, _FUNCTION_NAME = 25, 1
_NODE, _OPERATOR, _ATTRIBUTE, _INNER_GRAPHS = 1, 4, 5, (6, 11)
_MAX_DEPTH = 64
# The mark of ONNX Runtime's own format (FlatBuffers), which this module cannot read.
_ORT_MARK, _ORT_MARK_AT = b"ORTM", 4


def external_locations(graph: Path) -> set[str]:
    """Return the locations of all tensors' external data in an ONNX file, as written: relative to its folder.

    Raises `BundleError` if the file is not an ONNX protobuf.
    """
    return read_graph(graph, lambda data: set(_locations(data, "Model", 0, len(data), 0)))


def endless(graph: Path) -> str | None:
    """Describe the part of an ONNX file that a runtime might never finish; None if there is none.

    An operator that holds a graph, such as Loop, Scan or If, may repeat it forever. In a chain of n functions that each
    call the next one twice, inlining makes 2^n copies. Raises `BundleError` if the file is not an ONNX protobuf.
    """
    return read_graph(graph, lambda data: next(_endless(data), None))


def weights(graph: Path) -> int:
    """Count the values in an ONNX file's initialisers, whatever their bits. Raises as `external_locations`."""
    return read_graph(graph, lambda data: sum(_sizes(data)))


T = TypeVar("T")


def read_graph(graph: Path, found: Callable[[Data], T]) -> T:
    """Return `found` of an ONNX file's bytes, which are valid only during the call.

    Raises `BundleError` where `found` raises `MalformedError` or meets text that is no UTF-8.
    """
    try:
        if graph.stat().st_size == 0:  # cannot be mapped
            return found(b"")
        with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[_ORT_MARK_AT : _ORT_MARK_AT + len(_ORT_MARK)] == _ORT_MARK:
                raise MalformedError("it is in ONNX Runtime's own format")
            return found(data)
    except (MalformedError, UnicodeDecodeError) as error:
        raise BundleError(f"{graph} is not an ONNX file ({error}); export the bundle again") from error


def _sizes(data: Data) -> Iterator[int]:
    """Yield the number of values in each initialiser."""
    for graph in (each for each in fields(data, 0, len(data)) if each.number == _GRAPH):
        for tensor in (each for each in fields(data, graph.start, graph.end) if each.number == _INITIALISER):
            yield math.prod(integers(data, tensor.start, tensor.end, _DIMS))


def _endless(data: Data) -> Iterator[str]:
    for part in fields(data, 0, len(data)):
        if part.number == _FUNCTION:
            yield f"the function {text(data, part, _FUNCTION_NAME)!r}"
        nodes = fields(data, part.start, part.end) if part.number == _GRAPH else ()
        for node in (each for each in nodes if each.number == _NODE):
            attributes = (each for each in fields(data, node.start, node.end) if each.number == _ATTRIBUTE)
            inner = (each for attribute in attributes for each in fields(data, attribute.start, attribute.end))
            if any(each.number in _INNER_GRAPHS for each in inner):
                yield f"the operator {text(data, node, _OPERATOR)!r} with a graph inside"


def _locations(data: Data, message: str, start: int, end: int, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise MalformedError(f"messages nested deeper than {_MAX_DEPTH}")
    children = _CHILDREN[message]
    for field in fields(data, start, end):
        child = children.get(field.number)
        if child == "Entry":
            yield from _location_of(data, field)
        elif child is not None:
            yield from _locations(data, child, field.start, field.end, depth + 1)


def _location_of(data: Data, entry: Field) -> Iterator[str]:
    if text(data, entry, _ENTRY_KEY) == "location":
        yield text(data, entry, _ENTRY_VALUE)
