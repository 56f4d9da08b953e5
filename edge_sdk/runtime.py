"""The runtime contract: a runtime opens a graph as a `Session`, and keeps the session's state itself.

Implementations live in `runtimes/`, one file each, and are opened by name through `edge_sdk.registry`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from numpy.typing import NDArray

from edge_sdk.errors import ConfigError
from edge_sdk.types import Dialect, StateSpec, TensorSpec

if TYPE_CHECKING:  # edge_sdk.bundle imports the tensor rules, which import this module
    from edge_sdk.bundle.manifest import Graph

# Any: one mapping holds tensors of several element types; the specs say which.
Array = NDArray[Any]
Feeds = Mapping[str, Array]


class SessionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a session may use the machine. `threads` = 0 leaves the number to the runtime.

    `device` is "cpu" or "cuda", for the runtime `ort`; engines always run on the GPU. `engines` is the folder of built
    engines, for the runtimes that need them, by default the user's cache; `engine` is the digest of the engine to open,
    by default the one that was last chosen for the graph. `float_products` multiplies few-bit weights in floating
    point, as an engine does; without it, `ort` on a CPU rounds each row of their inputs to 8 bits for speed. Raises
    `ConfigError` for a number of threads below 0.
    """

    threads: int = 0
    device: str = "cpu"
    engines: Path | None = None
    engine: str | None = None
    float_products: bool = False

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ConfigError(f"expected 0 or more threads, found {self.threads}; 0 leaves them to the runtime")


class BoundState(Protocol):
    """A session whose state is kept on the device between calls; the recogniser and the reasoner use it."""

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run once: `feeds` are the inputs that are not state; returns the outputs that are not state.

        The arrays returned belong to the caller. Raises `RuntimeFailure` for a wrong feed, or for rows that do not
        fit; the state is then unchanged.
        """

    def limit(self, rows: int) -> int | None:
        """Until the next limit, show calls only the first `rows` rows of the state that the graph writes row by row.

        The rows after these are dropped, and are zero if a later limit includes them again. Returns the number of rows
        that calls see, never more than were bound; masks over the rows have as many columns. Returns None if this
        runtime always shows all rows.
        """

    def reset(self) -> None:
        """Set every state tensor to zero."""

    def read(self, name: str) -> Array:
        """A copy of the state input `name`, as the next call will see it."""

    def write(self, name: str, value: Array) -> None:
        """Replace the state input `name`; shape and dtype must be those that it was bound with."""


class Session(Protocol):
    """One graph, opened and ready; its users need not know which runtime opened it."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs in the manifest's order."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs in the manifest's order."""

    @property
    def engine_sha256(self) -> str | None:
        """SHA-256 of the engine file that was loaded; None if the graph's own file was opened."""

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run once with every input; returns every output. Raises `RuntimeFailure` for a wrong feed."""

    def bind_state(self, state: Sequence[StateSpec], dims: Mapping[str, int]) -> BoundState:
        """Allocate the state tensors as zeros, with free dimensions from `dims`, and keep them between calls."""

    def close(self) -> None:
        """Release what the session holds; using it afterwards is an error."""


class Runtime(Protocol):
    """A way of running graphs on this machine."""

    name: str

    @property
    def version(self) -> str | None:
        """The version of the package that computes; None if there is no such package."""

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """The graph dialects that this runtime reads here, the preferred one first."""

    def open(self, path: Path, graph: Graph, options: SessionOptions) -> Session:
        """Open the ONNX file at `path` (or the engine built from it), which the manifest describes as `graph`.

        The session's tensors are those of `graph`, with its names for free dimensions. Raises `RuntimeFailure`, which
        says what was refused and names the tensor in which the file differs from `graph`.
        """

    def why_unbuilt(self, path: Path, options: SessionOptions) -> str | None:
        """Why `open` would find no engine built for the ONNX file at `path`, and what to do.

        None if it would find one, and for a runtime that opens the file itself.
        """

    def describe(self) -> dict[str, str]:
        """Versions and devices, for `doctor` and for the conditions of a measurement."""
