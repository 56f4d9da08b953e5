"""State tensors in host memory, for the runtimes that compute there.

An `alias` without index has two buffers that change places after each call: a runtime may write an output before it
has read the input that shares its memory. An `alias` with index has one, for the graph itself writes single rows of
it. `append` has one, into which the rows the graph gives are copied after the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_sdk.errors import RuntimeFailure
from edge_sdk.runtime import Array, Feeds
from edge_sdk.tensors import allocate, append_rows, check_append, describe_array, state_problem
from edge_sdk.types import StateSpec, TensorSpec


def swaps(entry: StateSpec) -> bool:
    """Whether a state entry needs two buffers."""
    return entry.kind == "alias" and entry.index is None


class HostState:
    """The state of one bound session.

    `feed_specs` and `result_specs` are the inputs and outputs that are not state; `dims` are the lengths of the free
    dimensions of state tensors. `phase` says which of two buffers is read by the next call.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        state: Sequence[StateSpec],
        dims: Mapping[str, int],
    ) -> None:
        problem = state_problem(inputs, outputs, state)
        if problem:
            raise RuntimeFailure(problem)
        kept, given = {entry.input for entry in state}, {entry.output for entry in state}
        specs = [spec for spec in inputs if spec.name in kept]
        self.entries = tuple(state)
        self.feed_specs = tuple(spec for spec in inputs if spec.name not in kept)
        self.result_specs = tuple(spec for spec in outputs if spec.name not in given)
        self.dims = {d: dims[d] for spec in specs for d in spec.shape if isinstance(d, str) and d in dims}
        self.phases = 2 if any(swaps(entry) for entry in state) else 1
        self.phase = 0
        self._buffers = {entry.input: self._allocate(entry, specs) for entry in state}

    def front(self, entry: StateSpec, phase: int) -> Array:
        """The buffer that a call in `phase` reads."""
        return self._buffers[entry.input][phase if swaps(entry) else 0]

    def back(self, entry: StateSpec, phase: int) -> Array:
        """The buffer that a call in `phase` writes: the same one, unless the entry swaps."""
        return self._buffers[entry.input][1 - phase if swaps(entry) else 0]

    def finish(self, feeds: Feeds, rows: Mapping[str, Array]) -> None:
        """A call has run: append its `rows` (output name -> array) and let the buffers change places.

        Raises `RuntimeFailure` before anything is changed when rows do not fit.
        """
        todo = []
        for entry in self.entries:
            if entry.kind == "append" and entry.index is not None and entry.axis is not None:
                step = (self.front(entry, 0), rows[entry.output], feeds[entry.index], entry.axis)
                check_append(entry.input, *step)
                todo.append(step)
        for step in todo:
            append_rows(*step)
        self.phase = (self.phase + 1) % self.phases

    def reset(self) -> None:
        """Set every state tensor to zero."""
        for buffers in self._buffers.values():
            for buffer in buffers:
                buffer[...] = 0

    def read(self, name: str) -> Array:
        """Copy of the state input `name` as the next call will see it."""
        return self.front(self._entry(name), self.phase).copy()

    def write(self, name: str, value: Array) -> None:
        """Replace the state input `name`. Raises `RuntimeFailure` for another shape or dtype."""
        buffer = self.front(self._entry(name), self.phase)
        if value.shape != buffer.shape or value.dtype != buffer.dtype:
            raise RuntimeFailure(f"state {name!r}: expected {describe_array(buffer)}, found {describe_array(value)}")
        buffer[...] = value

    def _allocate(self, entry: StateSpec, specs: Sequence[TensorSpec]) -> tuple[Array, ...]:
        spec = next(spec for spec in specs if spec.name == entry.input)
        return tuple(allocate(spec, self.dims) for _ in range(2 if swaps(entry) else 1))

    def _entry(self, name: str) -> StateSpec:
        for entry in self.entries:
            if entry.input == name:
                return entry
        known = ", ".join(entry.input for entry in self.entries) or "none"
        raise RuntimeFailure(f"no state is called {name!r}; known: {known}")
