"""Which tensors of a graph are state and which are not, whether the state is on the host or the device.

An `alias` without index has two buffers that swap after each call, because a runtime may write an output before it has
read an input that shares its memory. An `alias` with index has one buffer, because the graph itself writes single rows
of it. An `append` has one buffer, into which the graph's output rows are copied after the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_sdk.errors import RuntimeFailure
from edge_sdk.tensors import state_problem
from edge_sdk.types import StateSpec, TensorSpec


def swaps(entry: StateSpec) -> bool:
    """Return whether a state entry needs two buffers."""
    return entry.kind == "alias" and entry.index is None


class StateLayout:
    """The state entries of one bound session.

    `specs` are the inputs that are state, by name. `feed_specs` and `result_specs` are the inputs and outputs that are
    not state. `dims` are the lengths of the free dimensions of state tensors. `phase` says which of two buffers the
    next call reads. Raises `RuntimeFailure` for a state that the graph does not have.
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
        self.entries = tuple(state)
        self.specs = {spec.name: spec for spec in inputs if spec.name in kept}
        self.feed_specs = tuple(spec for spec in inputs if spec.name not in kept)
        self.result_specs = tuple(spec for spec in outputs if spec.name not in given)
        self.dims = {d: dims[d] for spec in self.specs.values() for d in spec.shape if isinstance(d, str) and d in dims}
        self.phases = 2 if any(swaps(entry) for entry in state) else 1
        self.phase = 0

    def advance(self) -> None:
        """Swap buffers after a call."""
        self.phase = (self.phase + 1) % self.phases

    def entry(self, name: str) -> StateSpec:
        """Return the entry whose input is called `name`. Raises `RuntimeFailure` if there is none."""
        for entry in self.entries:
            if entry.input == name:
                return entry
        known = ", ".join(entry.input for entry in self.entries) or "none"
        raise RuntimeFailure(f"no state is called {name!r}; known: {known}")
