"""Which other files an ONNX graph reads, found without the onnx package.

An initialiser may name a file beside the graph that holds its bytes, and a runtime opens whatever is named there. A
bundle must vouch for those files, and the device has no onnx package; so this walks the protobuf wire format, enters
only the messages that lead to tensors, and skips everything else by its length. Weights are never read.

Field numbers: `onnx.proto3` of the ONNX project. Wire format: protobuf's encoding page.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 64
_MAX_VARINT_BYTES = 10
_TAG_BITS = 32


class _Field(NamedTuple):
    number: int
    start: int
    end: int


class _Malformed(Exception):
    """The bytes are not protobuf; turned into a `BundleError` that names the file."""


def external_locations(graph: Path) -> set[str]:
    """Locations named by the external data of every tensor in an ONNX file, as written: relative to its folder.

    Raises `BundleError` when the file is not an ONNX protobuf.
    """
    if graph.stat().st_size == 0:
        return set()
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return set(_locations(data, "Model", 0, len(data), 0))
        except (_Malformed, UnicodeDecodeError) as error:
            raise BundleError(f"{graph} is not an ONNX file ({error}); export the bundle again") from error


def _locations(data: mmap.mmap, message: str, start: int, end: int, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise _Malformed(f"messages nested deeper than {_MAX_DEPTH}")
    children = _CHILDREN[message]
    for field in _fields(data, start, end):
        child = children.get(field.number)
        if child == "Entry":
            yield from _location_of(data, field)
        elif child is not None:
            yield from _locations(data, child, field.start, field.end, depth + 1)


def _location_of(data: mmap.mmap, entry: _Field) -> Iterator[str]:
    text = {field.number: data[field.start : field.end] for field in _fields(data, entry.start, entry.end)}
    if text.get(_ENTRY_KEY) == b"location":
        yield text.get(_ENTRY_VALUE, b"").decode()


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[_Field]:
    """The length-delimited fields of one message; the others are stepped over."""
    position = start
    while position < end:
        tag, position = _varint(data, position, end)
        if tag >> _TAG_BITS:  # some readers drop the bits above and see another field
            raise _Malformed(f"a tag of more than {_TAG_BITS} bits before byte {position}")
        kind = tag & 7
        if kind == _VARINT:
            _, position = _varint(data, position, end)
            continue
        if kind == _BYTES:
            length, position = _varint(data, position, end)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise _Malformed(f"wire type {kind} at byte {position}")
        if position + length > end:
            raise _Malformed(f"a field of {length} bytes at byte {position} passes the end of its message")
        if kind == _BYTES:
            yield _Field(tag >> 3, position, position + length)
        position += length


def _varint(data: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = 0
    for count in range(_MAX_VARINT_BYTES):
        if position + count >= end:
            raise _Malformed(f"a number is cut off at byte {position}")
        byte = data[position + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, position + count + 1
    raise _Malformed(f"a number of more than {_MAX_VARINT_BYTES} bytes at byte {position}")
