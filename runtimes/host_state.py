"""State tensors in host memory, for runtimes that compute on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_sdk.errors import RuntimeFailure
from edge_sdk.runtime import Array, Feeds
from edge_sdk.runtimes.state_layout import StateLayout, swaps
from edge_sdk.tensors import allocate, append_rows, check_append, describe_array
from edge_sdk.types import StateSpec, TensorSpec


class HostState(StateLayout):
    """The state of one bound session, in numpy arrays."""

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        state: Sequence[StateSpec],
        dims: Mapping[str, int],
    ) -> None:
        super().__init__(inputs, outputs, state, dims)
        self._buffers = {entry.input: self._allocate(entry) for entry in state}

    def front(self, entry: StateSpec, phase: int) -> Array:
        """Return the buffer that a call in `phase` reads."""
        return self._buffers[entry.input][phase if swaps(entry) else 0]

    def back(self, entry: StateSpec, phase: int) -> Array:
        """Return the buffer that a call in `phase` writes: the one it reads, unless the entry swaps."""
        return self._buffers[entry.input][1 - phase if swaps(entry) else 0]

    def finish(self, feeds: Feeds, rows: Mapping[str, Array]) -> None:
        """Append the `rows` (output name -> array) of a finished call, and swap buffers.

        Raises `RuntimeFailure`, before anything is changed, if rows do not fit.
        """
        todo = []
        for entry in self.entries:
            if entry.kind == "append" and entry.index is not None and entry.axis is not None:
                buffer, new = self.front(entry, 0), rows[entry.output]
                check_append(entry.input, buffer.shape, new.shape, feeds[entry.index], entry.axis)
                todo.append((buffer, new, feeds[entry.index], entry.axis))
        for step in todo:
            append_rows(*step)
        self.advance()

    def reset(self) -> None:
        """Set every state tensor to zero."""
        for buffers in self._buffers.values():
            for buffer in buffers:
                buffer[...] = 0

    def read(self, name: str) -> Array:
        """Return a copy of the state input `name` as the next call will see it."""
        value: Array = self.front(self.entry(name), self.phase).copy()
        return value

    def write(self, name: str, value: Array) -> None:
        """Replace the state input `name`. Raises `RuntimeFailure` for another shape or dtype."""
        buffer = self.front(self.entry(name), self.phase)
        if value.shape != buffer.shape or value.dtype != buffer.dtype:
            raise RuntimeFailure(f"state {name!r}: expected {describe_array(buffer)}, found {describe_array(value)}")
        buffer[...] = value

    def _allocate(self, entry: StateSpec) -> tuple[Array, ...]:
        return tuple(allocate(self.specs[entry.input], self.dims) for _ in range(2 if swaps(entry) else 1))
