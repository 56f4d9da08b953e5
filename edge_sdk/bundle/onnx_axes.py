"""Make axes of an ONNX file's inputs and outputs free, without the onnx package.

Runtimes enforce an axis length that a file declares, and compilers need a declared length. If the graph itself does not
depend on the length, a runtime that does not compile can be given a copy of the file in which the axis is free.

Field numbers: `onnx.proto3` of the ONNX project.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge_sdk.bundle.onnx_file import read_graph
from edge_sdk.bundle.onnx_wire import Change, Data, Field, changed, delimited, fields, text

_MODEL_GRAPH, _GRAPH_INPUT, _GRAPH_OUTPUT = 7, 11, 12
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM, _DIM_NAME = 1, 2, 1, 2, 1, 2


def with_free_axes(graph: Path, axes: Mapping[str, int], name: str) -> bytes:
    """Return the ONNX file `graph` with one axis of some inputs and outputs replaced by the free dimension `name`.

    `axes` maps a tensor's name to the index of its axis. Raises `BundleError` if the file is not an ONNX protobuf.
    """
    free = delimited(_DIM_NAME, name.encode())

    def value(data: Data, field: Field) -> bytes | None:
        axis = axes.get(text(data, field, _VALUE_NAME))
        return None if axis is None else _below(_SHAPE, _axis(axis, free))(data, field)

    inputs_and_outputs = {_GRAPH_INPUT: value, _GRAPH_OUTPUT: value}
    changes = {_MODEL_GRAPH: lambda data, at: changed(data, at.start, at.end, inputs_and_outputs)}
    return read_graph(graph, lambda data: changed(data, 0, len(data), changes))


_SHAPE = (_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE)


def _below(path: tuple[int, ...], change: Change) -> Change:
    """Apply `change` to the message at `path` below a field."""
    for number in reversed(path):
        change = _one_below(number, change)
    return change


def _one_below(number: int, change: Change) -> Change:
    return lambda data, field: changed(data, field.start, field.end, {number: change})


def _axis(axis: int, free: bytes) -> Change:
    """Replace dimension `axis` of a shape by `free`."""

    def shape(data: Data, field: Field) -> bytes:
        dims = [each for each in fields(data, field.start, field.end) if each.number == _SHAPE_DIM]
        return changed(data, field.start, field.end, {_SHAPE_DIM: lambda _, dim: free if dim == dims[axis] else None})

    return shape
