"""State tensors in device memory; they cross to the host only when they are read or written by name.

The device itself appends rows, with one strided copy for each tensor (or for each item of a batch), queued after the
run that produced them. The rows never pass through the host, and the host does not wait for the copies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edge_sdk.errors import RuntimeFailure
from edge_sdk.runtime import Array, Feeds
from edge_sdk.runtimes.cuda_memory import Arena
from edge_sdk.runtimes.state_layout import StateLayout, swaps
from edge_sdk.tensors import check_append, numpy_dtype, shape_of
from edge_sdk.types import StateSpec, TensorSpec


class RowCopy(NamedTuple):
    """Arguments of a strided copy: offsets into both buffers, both pitches and width in bytes; height in rows."""

    target: int
    target_pitch: int
    source: int
    source_pitch: int
    width: int
    height: int


def row_copies(
    buffer: Sequence[int], rows: Sequence[int], starts: Sequence[int], axis: int, item: int
) -> list[RowCopy]:
    """Return the copies that write rows of shape `rows` into a buffer of shape `buffer` along `axis` at `starts`.

    `item` is the size of an element in bytes. A single start applies to the whole tensor; with several, each start
    belongs to one item of axis 0.
    """
    inner = math.prod(buffer[axis + 1 :]) * item
    pitch, width = buffer[axis] * inner, rows[axis] * inner
    height = math.prod(buffer[:axis]) // len(starts)
    return [
        RowCopy(at * height * pitch + start * inner, pitch, at * height * width, width, width, height)
        for at, start in enumerate(starts)
    ]


class DeviceState(StateLayout):
    """The state of one bound session, in buffers of `arena`; every operation on them is queued on `stream`."""

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        state: Sequence[StateSpec],
        dims: Mapping[str, int],
        arena: Arena,
        stream: int,
    ) -> None:
        super().__init__(inputs, outputs, state, dims)
        self._cuda, self._stream = arena.cuda, stream
        self._outputs = {spec.name: spec for spec in outputs}
        self._shapes = {name: shape_of(spec, self.dims) for name, spec in self.specs.items()}
        self._buffers = {
            entry.input: tuple(arena.device(self._size(entry.input)) for _ in range(2 if swaps(entry) else 1))
            for entry in state
        }
        self.reset()

    def front(self, entry: StateSpec, phase: int) -> int:
        """Return the address of the buffer that a call in `phase` reads."""
        return self._buffers[entry.input][phase if swaps(entry) else 0]

    def back(self, entry: StateSpec, phase: int) -> int:
        """Return the address of the buffer that a call in `phase` writes: the one it reads, unless the entry swaps."""
        return self._buffers[entry.input][1 - phase if swaps(entry) else 0]

    def check(self, feeds: Feeds, dims: Mapping[str, int]) -> None:
        """Raise `RuntimeFailure` before a call whose rows would not fit; `dims` are the lengths of the call.

        The manifest does not declare how many rows a graph itself writes into an `alias`, so only its first row is
        checked.
        """
        for entry in self.entries:
            if entry.index is None or entry.axis is None or entry.index not in feeds:
                continue
            buffer = self._shapes[entry.input]
            rows = self._rows(entry, dims) if entry.kind == "append" else _one_row(buffer, entry.axis)
            check_append(entry.input, buffer, rows, feeds[entry.index], entry.axis)

    def finish(self, feeds: Feeds, dims: Mapping[str, int], rows: Mapping[str, int]) -> None:
        """Queue the copies of a queued call's `rows` (output name -> address), and swap buffers."""
        for entry in self.entries:
            if entry.kind == "append" and entry.index is not None and entry.axis is not None:
                starts, shape = feeds[entry.index].reshape(-1).tolist(), self._rows(entry, dims)
                item = numpy_dtype(self.specs[entry.input]).itemsize
                target, source = self.front(entry, 0), rows[entry.output]
                for copy in row_copies(self._shapes[entry.input], shape, starts, entry.axis, item):
                    moved = copy._replace(target=target + copy.target, source=source + copy.source)
                    self._cuda.copy_rows(*moved, self._stream)
        self.advance()

    def reset(self) -> None:
        """Set every state tensor to zero."""
        for name, buffers in self._buffers.items():
            for address in buffers:
                self._cuda.clear(address, self._size(name), self._stream)
        self._cuda.synchronize(self._stream)

    def read(self, name: str) -> Array:
        """Return a copy of the state input `name` as the next call will see it."""
        address = self.front(self.entry(name), self.phase)
        value = np.empty(self._shapes[name], numpy_dtype(self.specs[name]))
        self._cuda.copy(value.ctypes.data, address, value.nbytes, self._stream)
        self._cuda.synchronize(self._stream)
        return value

    def write(self, name: str, value: Array) -> None:
        """Replace the state input `name`. Raises `RuntimeFailure` for another shape or dtype."""
        address = self.front(self.entry(name), self.phase)
        spec, shape = self.specs[name], self._shapes[name]
        if value.shape != shape or value.dtype != numpy_dtype(spec):
            raise RuntimeFailure(
                f"state {name!r}: expected {spec.dtype} {list(shape)}, found {value.dtype} {list(value.shape)}"
            )
        held = np.ascontiguousarray(value)
        self._cuda.copy(address, held.ctypes.data, held.nbytes, self._stream)
        self._cuda.synchronize(self._stream)

    def _rows(self, entry: StateSpec, dims: Mapping[str, int]) -> tuple[int, ...]:
        return shape_of(self._outputs[entry.output], dims)

    def _size(self, name: str) -> int:
        return math.prod(self._shapes[name]) * numpy_dtype(self.specs[name]).itemsize


def _one_row(buffer: Sequence[int], axis: int) -> tuple[int, ...]:
    return (*buffer[:axis], 1, *buffer[axis + 1 :])
