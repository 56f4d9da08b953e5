"""The null runtime: returns zeros in the shapes that the manifest declares, and needs no package.

It checks feeds and keeps state by the same rules as a real runtime. So host code can be timed without the model, and
tests run where no runtime is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_sdk.bundle.manifest import Graph
from edge_sdk.errors import RuntimeFailure
from edge_sdk.runtime import Array, BoundState, Feeds, Runtime, Session, SessionOptions
from edge_sdk.runtimes.host_state import HostState
from edge_sdk.tensors import allocate, check_feeds
from edge_sdk.types import Dialect, StateSpec, TensorSpec


class NullSession:
    """A session that never reads the graph's file; only the declared tensors matter."""

    engine_sha256: str | None = None

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._closed = False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs in the manifest's order."""
        return self._graph.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs in the manifest's order."""
        return self._graph.outputs

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Return zeros for every output.

        Raises `RuntimeFailure` for a wrong feed, or for a free dimension whose length no input determines.
        """
        return self.answer(self.inputs, self.outputs, feeds, {})

    def answer(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], feeds: Feeds, dims: Mapping[str, int]
    ) -> dict[str, Array]:
        """Check `feeds` against `inputs`, and return zeros for `outputs`."""
        if self._closed:
            raise RuntimeFailure("this session is closed; open the graph again")
        known = check_feeds(inputs, feeds, dims)
        return {spec.name: allocate(spec, known) for spec in outputs}

    def bind_state(self, state: Sequence[StateSpec], dims: Mapping[str, int]) -> BoundState:
        """Keep the state tensors between calls."""
        return NullBound(self, HostState(self.inputs, self.outputs, state, dims))

    def close(self) -> None:
        """Refuse every later use."""
        self._closed = True


class NullBound:
    """A null session with bound state."""

    def __init__(self, session: NullSession, state: HostState) -> None:
        self._session = session
        self._state = state
        self.reset = state.reset
        self.read = state.read
        self.write = state.write

    def limit(self, rows: int) -> int | None:
        """Return None: a call always gets every row."""
        return None

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Return zeros for every output that is not state.

        State outputs are zeros too, and are kept as the manifest declares.
        """
        state = self._state
        found = self._session.answer(state.feed_specs, self._session.outputs, feeds, state.dims)
        state.finish(feeds, found)
        for entry in state.entries:
            if entry.kind == "alias":
                state.front(entry, state.phase)[...] = 0
        return {spec.name: found[spec.name] for spec in state.result_specs}


class NullRuntime:
    """Opens any graph of a bundle."""

    name = "null"
    version: str | None = None
    dialects: tuple[Dialect, ...] = ("native", "decomposed")

    def open(self, path: Path, graph: Graph, options: SessionOptions) -> Session:
        """Open `graph` by its declaration alone. Raises `RuntimeFailure` if the file does not exist."""
        if not path.is_file():
            raise RuntimeFailure(f"no graph file at {path}")
        return NullSession(graph)

    def why_unbuilt(self, path: Path, options: SessionOptions) -> str | None:
        """Return None: this runtime needs no build."""
        return None

    def describe(self) -> dict[str, str]:
        """Describe the runtime, which computes nothing."""
        return {"runtime": self.name, "device": "none: every output is zero"}


def open_runtime() -> Runtime:
    """Open the null runtime."""
    return NullRuntime()
