"""The runtime contract: a graph opened by a runtime is a `Session`; its state stays where the runtime keeps it.

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

if TYPE_CHECKING:  # a bundle checks its graphs' tensors by the rules of runtimes
    from edge_sdk.bundle.manifest import Graph

# Any: tensors of several element types travel in one mapping; the specs say which.
Array = NDArray[Any]
Feeds = Mapping[str, Array]


class SessionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a session may use the machine. `threads` = 0 leaves the number to the runtime.

    `device` is "cpu" or "cuda", for the runtime `ort`; engines run on the GPU in any case. `engines` is the folder of
    built engines for the runtimes that need one, by default the user's cache; `engine` is the digest of the one to
    open, by default the one for the graph that was chosen last. `float_products` multiplies few-bit weights in floats,
    as an engine does, where `ort` on a CPU would round each row of their inputs to 8 bits for speed. Raises
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
    """A session with its state kept between calls, on the device; called by the recogniser and the reasoner."""

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run once: `feeds` are the inputs that are not state; returns the outputs that are not state.

        The arrays returned belong to the caller. Raises `RuntimeFailure` for a wrong feed, or for rows that do not
        fit; the state is then as it was.
        """

    def limit(self, rows: int) -> int | None:
        """Give calls only the first `rows` rows of state that the graph writes row by row, until the next limit.

        Rows behind them are dropped, and are zero when they come back. Returns how many calls have now, never more than
        there are; masks over them have as many columns. None: this runtime gives all of them always.
        """

    def reset(self) -> None:
        """Set every state tensor to zero."""

    def read(self, name: str) -> Array:
        """Copy of the state input `name` as the next call will see it."""

    def write(self, name: str, value: Array) -> None:
        """Replace the state input `name`; shape and dtype must be those it was bound with."""


class Session(Protocol):
    """One graph, opened and ready; called by consumers that hold no opinion about the runtime."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs in the manifest's order."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs in the manifest's order."""

    @property
    def engine_sha256(self) -> str | None:
        """Digest of the engine's file that this was loaded from; None where the graph's own file was opened."""

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run once with every input given; returns every output. Raises `RuntimeFailure` for a wrong feed."""

    def bind_state(self, state: Sequence[StateSpec], dims: Mapping[str, int]) -> BoundState:
        """Allocate the state tensors as zeros, free dimensions taken from `dims`, and keep them between calls."""

    def close(self) -> None:
        """Release what the session holds; using it afterwards is an error."""


class Runtime(Protocol):
    """A way of running graphs on this machine."""

    name: str

    @property
    def version(self) -> str | None:
        """The version of the package that computes; None where there is none."""

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """The dialects of graphs that it reads here, the one to take first in front."""

    def open(self, path: Path, graph: Graph, options: SessionOptions) -> Session:
        """Open the ONNX file at `path` (or what was built from it), which the manifest describes as `graph`.

        The session's tensors are those of `graph`, free dimensions under its names. Raises `RuntimeFailure` saying
        what was refused, and naming the tensor in which the file differs from `graph`.
        """

    def why_unbuilt(self, path: Path, options: SessionOptions) -> str | None:
        """Why `open` would find nothing that was built for the ONNX file at `path`, and what to do.

        None where it would, and for a runtime that opens the file itself.
        """

    def describe(self) -> dict[str, str]:
        """Versions and devices, for `doctor` and for the conditions of a measurement."""
