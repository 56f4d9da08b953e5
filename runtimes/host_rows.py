"""State in host memory that is written row by row; a call gets only as many rows as it needs.

A graph computes over all rows of a cache, used or not. With a runtime that accepts a different length in each call, a
cache of ten thousand rows with a hundred in use need not cost more than a cache of a hundred rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from edge_sdk.bundle.manifest import Graph
from edge_sdk.runtime import Array
from edge_sdk.runtimes.host_state import HostState
from edge_sdk.tensors import allocate, state_problem
from edge_sdk.types import StateSpec, TensorSpec

ROWS = "state_rows"
"""The free dimension that replaces the fixed length of such state."""


def row_axes(graph: Graph) -> dict[str, int]:
    """Return the axis of each tensor along which calls may be shorter than `graph` declares; empty if none may.

    Calls may be shorter if the graph itself writes all of its state row by row, into tensors of fixed shapes that all
    have the same number of rows. Boolean inputs whose last axis has that length are masks over the rows.
    """
    if state_problem(graph.inputs, graph.outputs, graph.state):  # reported when the state is bound
        return {}
    specs = {spec.name: spec for spec in graph.inputs}
    axes: dict[str, int] = {}
    lengths = set[int | str]()
    for entry in graph.state:
        shape = specs[entry.input].shape
        if entry.kind != "alias" or entry.index is None or entry.axis is None or not all(map(_fixed, shape)):
            return {}
        axes |= {entry.input: entry.axis, entry.output: entry.axis}
        lengths.add(shape[entry.axis])
    if len(lengths) != 1:
        return {}
    masks = (spec for spec in graph.inputs if spec.dtype == "bool" and set(spec.shape[-1:]) == lengths)
    return axes | {spec.name: len(spec.shape) - 1 for spec in masks}


def with_free_rows(graph: Graph, axes: Mapping[str, int]) -> Graph:
    """Return `graph` with the free dimension `ROWS` at each of `axes`."""
    inputs, outputs = (tuple(_freed(spec, axes) for spec in specs) for specs in (graph.inputs, graph.outputs))
    return msgspec.structs.replace(graph, inputs=inputs, outputs=outputs)


class RowState(HostState):
    """State whose entries all have their rows along a free axis, at most `rows` of them.

    Memory for all rows is allocated at once. The rows that a call gets lie packed at its front.
    """

    def __init__(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], state: Sequence[StateSpec], rows: int
    ) -> None:
        self._whole: dict[str, Array] = {}
        super().__init__(inputs, outputs, state, {ROWS: rows})
        self.rows = rows

    def limit(self, rows: int) -> None:
        """Limit calls to the first `rows` rows of each entry; later rows are dropped, added rows are zero."""
        before, self.dims[ROWS] = self.dims[ROWS], rows
        for entry in self.entries:
            whole, spec = self._whole[entry.input], self.specs[entry.input]
            _pack(whole.reshape(-1), spec.shape, before, rows)
            shape = tuple(rows if length == ROWS else int(length) for length in spec.shape)
            self._buffers[entry.input] = (whole[: math.prod(shape)].reshape(shape),)

    def _allocate(self, entry: StateSpec) -> tuple[Array, ...]:
        whole = allocate(self.specs[entry.input], self.dims)
        self._whole[entry.input] = whole.reshape(-1)
        return (whole,)


def _fixed(length: int | str) -> bool:
    return isinstance(length, int)


def _freed(spec: TensorSpec, axes: Mapping[str, int]) -> TensorSpec:
    if spec.name not in axes:
        return spec
    shape = tuple(ROWS if axis == axes[spec.name] else length for axis, length in enumerate(spec.shape))
    return msgspec.structs.replace(spec, shape=shape)


def _pack(flat: Array, shape: Sequence[int | str], before: int, after: int) -> None:
    """Repack a tensor at the front of `flat` from `before` to `after` rows per item."""
    axis = list(shape).index(ROWS)
    items, size = (math.prod(map(int, part)) for part in (shape[:axis], shape[axis + 1 :]))
    old, new, kept = before * size, after * size, min(before, after) * size
    # Growing starts with the last item, shrinking with the first, so no item is overwritten before it has moved.
    for item in range(items)[:: -1 if after > before else 1]:
        flat[item * new : item * new + kept] = flat[item * old : item * old + kept]
        flat[item * new + kept : (item + 1) * new] = 0
