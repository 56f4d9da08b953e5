"""How much arithmetic an ONNX graph needs, counted from the file without the onnx package.

Only convolutions and matrix products are counted, each from the shapes of its weights and its output, which the
exporter writes into the graph. A free dimension counts as 1, so the numbers are those of one stream.

Field numbers: `onnx.proto` of the ONNX project. Wire format: protobuf's encoding page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from edge_sdk.errors import BundleError

Shape = tuple[int, ...]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
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
    try:
        graph = _only(_message(path.read_bytes()), 7)
        weights = dict(_tensor(field) for field in _all(graph, 5))
        shapes = dict(_value(field) for number in (11, 12, 13) for field in _all(graph, number))
        nodes = [_node(field) for field in _all(graph, 1)]
        # The output of a quantised weight's `DequantizeLinear` has the weight's shape.
        few = {node.outputs[0]: weights.get(node.inputs[0]) for node in nodes if node.kind == "DequantizeLinear"}
        weights |= {name: shape for name, shape in few.items() if shape}
    except (IndexError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise BundleError(f"{path} is not an ONNX file ({error!r}); export the bundle again") from error
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    held = [sum(sizes.get(name, 0) for name in (*node.inputs, *node.outputs)) for node in nodes]
    return GraphWork(
        flops=2 * sum(_multiply_adds(node, weights, shapes) for node in nodes),
        activation_bytes=_VALUE_BYTES * max(held, default=0),
    )


def _multiply_adds(node: _Node, weights: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> int:
    if node.kind not in ("Conv", "Gemm", "MatMul") or node.outputs[0] not in shapes:
        return 0
    result = shapes[node.outputs[0]]
    known = weights.get(node.inputs[1])
    if node.kind == "Conv":
        return math.prod(known or ()) * math.prod(result[2:]) if known else 0
    if known and len(known) == 2:
        return math.prod(known) * math.prod(result[:-1])
    left = shapes.get(node.inputs[0]) or weights.get(node.inputs[0])
    return math.prod(result) * left[-1] if left else 0


def _message(data: bytes) -> dict[int, list[int | bytes]]:
    """Read the fields of a message, by number."""
    fields: dict[int, list[int | bytes]] = {}
    for number, value in _fields(data):
        fields.setdefault(number, []).append(value)
    return fields


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            length, position = _varint(data, position)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise TypeError(f"wire type {kind}")
        if position + length > len(data):
            raise IndexError(f"a field passes the end of its message at byte {position}")
        yield tag >> 3, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def _all(message: Mapping[int, list[int | bytes]], number: int) -> list[bytes]:
    return [value for value in message.get(number, []) if isinstance(value, bytes)]


def _only(message: Mapping[int, list[int | bytes]], number: int) -> dict[int, list[int | bytes]]:
    return _message(_all(message, number)[0])


def _text(message: Mapping[int, list[int | bytes]], number: int) -> str:
    return "".join(value.decode() for value in _all(message, number))


def _node(data: bytes) -> _Node:
    fields = _message(data)
    inputs, outputs = (tuple(value.decode() for value in _all(fields, number)) for number in (1, 2))
    return _Node(_text(fields, 4), inputs, outputs)


def _tensor(data: bytes) -> tuple[str, Shape]:
    """Read a tensor's name and shape; dimensions are separate fields, or packed into one field."""
    fields = _message(data)
    dims: list[int] = []
    for value in fields.get(1, []):
        dims += [value] if isinstance(value, int) else _packed(value)
    return _text(fields, 8), tuple(dims)


def _packed(data: bytes) -> list[int]:
    values, position = [], 0
    while position < len(data):
        value, position = _varint(data, position)
        values.append(value)
    return values


def _value(data: bytes) -> tuple[str, Shape]:
    fields = _message(data)
    tensor = _only(_only(fields, 2), 1)
    shape = _only(tensor, 2) if 2 in tensor else {}
    dims = [_message(dim).get(1, [1])[0] for dim in _all(shape, 1)]
    return _text(fields, 1), tuple(max(1, dim) for dim in dims if isinstance(dim, int))
