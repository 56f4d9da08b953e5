"""One execution context of a TensorRT engine: its shapes, its addresses, and the CUDA graphs captured from it.

An engine has one context for each profile. All contexts share the engine's weights and one scratch buffer, because only
one runs at a time. A call that repeats with the same shapes and addresses is captured as a CUDA graph; from then on the
graph is launched. A state with two swapping buffers has two sets of addresses, so two graphs. When its shapes change,
TensorRT updates the context, which invalidates earlier captures.

Not yet verified on a board: that contexts sharing scratch memory, and graphs of them, behave as NVIDIA documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edge_sdk.bundle.manifest import Graph
from edge_sdk.engine.tensorrt_library import problems, short_of_memory
from edge_sdk.errors import EdgeError, RuntimeFailure
from edge_sdk.runtimes.cuda_errors import MORE_MEMORY
from edge_sdk.runtimes.cuda_memory import Cuda
from edge_sdk.runtimes.trt_engine import Loaded, Ranges, host_tensors
from edge_sdk.tensors import shape_of

WARM_CALLS = 2
"""Calls with the same shapes and addresses before one is captured; TensorRT requires at least one."""
MAX_GRAPHS = 8
"""Graphs kept per profile: those launched last."""
Addresses = tuple[tuple[str, int], ...]


class Lane:
    """The context of profile `index`, whose free dimensions lie in `ranges`."""

    # Any: the packages ship no types.
    def __init__(self, loaded: Loaded, context: Any, index: int, ranges: Ranges, cuda: Cuda, stream: int) -> None:
        self.ranges = ranges
        self.why_uncaptured = _why_uncaptured(loaded)
        self._loaded, self._context, self._cuda, self._stream = loaded, context, cuda, stream
        self._dims: dict[str, int] | None = None
        self._bound: Addresses = ()
        self._calls: dict[Addresses, int] = {}
        self._graphs: dict[Addresses, int] = {}
        self._must(context.set_optimization_profile_async(index, stream), f"it has no profile {index}")
        cuda.synchronize(stream)

    @property
    def graphs(self) -> int:
        """The number of captured graphs."""
        return len(self._graphs)

    @property
    def words(self) -> str:
        """The profile in words, such as `q 1..8, r 1..8`."""
        return ", ".join(f"{name} {lo}..{hi}" for name, (lo, hi) in sorted(self.ranges.items())) or "fixed shapes"

    def volume(self) -> int:
        """Return the size of the profile: the product of its largest lengths."""
        return math.prod(hi for _, hi in self.ranges.values())

    def serves(self, dims: Mapping[str, int]) -> bool:
        """Return whether every length lies in the profile's range."""
        return all(lo <= dims.get(name, lo) <= hi for name, (lo, hi) in self.ranges.items())

    def run(self, graph: Graph, dims: Mapping[str, int], addresses: Addresses) -> None:
        """Queue one run with these lengths and tensor addresses, by launching a captured graph if there is one.

        Raises `RuntimeFailure` if TensorRT refuses the lengths or infers other output shapes than the manifest's.
        """
        self._loaded.log.restart()
        if self._dims != dims:
            self._shape(graph, dims, addresses)
        captured = self._graphs.pop(addresses, 0) or self._capture(addresses)
        if captured:
            self._graphs[addresses] = captured
            self._cuda.launch(captured, self._stream)
        else:
            self._bind(addresses)
            self._execute()
        self._calls[addresses] = self._calls.get(addresses, 0) + 1

    def forget(self) -> None:
        """Destroy every captured graph and restart the count of calls."""
        self._dims = None
        for graph in self._graphs.values():
            self._cuda.destroy_graph(graph)
        self._graphs.clear()
        self._calls.clear()

    def _shape(self, graph: Graph, dims: Mapping[str, int], addresses: Addresses) -> None:
        self.forget()
        for spec in graph.inputs:
            if -1 in tuple(self._loaded.engine.get_tensor_shape(spec.name)):
                shape = shape_of(spec, dims)
                self._must(
                    self._context.set_input_shape(spec.name, shape), f"it rejects {spec.name!r} of shape {shape}"
                )
        self._bind(addresses)  # shape inference reads the tensors whose values set shapes
        unknown = self._context.infer_shapes()
        self._must(not unknown, f"it does not know the shapes of {unknown}")
        for spec in graph.outputs:
            expected, found = shape_of(spec, dims), tuple(self._context.get_tensor_shape(spec.name))
            self._must(found == expected, f"output {spec.name!r} would be {found}, the manifest makes it {expected}")
        self._dims = dict(dims)

    def _capture(self, addresses: Addresses) -> int:
        """Capture a call that has come often enough and return its graph, else 0.

        After a failed capture, none is tried again.
        """
        if self.why_uncaptured or self._calls.get(addresses, 0) < WARM_CALLS:
            return 0
        self._bind(addresses)
        try:
            graph = self._cuda.capture(self._stream, self._execute)
        except EdgeError as error:
            self.why_uncaptured = str(error)
            return 0
        if len(self._graphs) >= MAX_GRAPHS:
            oldest = next(iter(self._graphs))
            self._cuda.destroy_graph(self._graphs.pop(oldest))
            del self._calls[oldest]
        return graph

    def _bind(self, addresses: Addresses) -> None:
        if addresses == self._bound:
            return
        self._bound = ()
        for name, address in addresses:
            self._must(self._context.set_tensor_address(name, address), f"it rejects the address of {name!r}")
        self._bound = addresses

    def _execute(self) -> None:
        self._must(self._context.execute_async_v3(self._stream), "it did not run")

    def _must(self, done: bool, otherwise: str) -> None:
        if not done:
            raise RuntimeFailure(f"{self._loaded.label}: TensorRT refuses a call: {otherwise}: {_told(self._loaded)}")


def _why_uncaptured(loaded: Loaded) -> str:
    """Return why calls of this engine are never captured here; empty if they may be."""
    if loaded.tensorrt.flavour == "rtx":
        return "TensorRT-RTX captures by itself"
    hosted = ", ".join(sorted(host_tensors(loaded.engine)))
    return f"the host reads the values of {hosted}" if hosted else ""


def _told(loaded: Loaded) -> str:
    """Return TensorRT's own messages, with a remedy if memory was short."""
    remedy = f"; {MORE_MEMORY}" if short_of_memory(loaded.log) else ""
    return f"{problems(loaded.log)}{remedy}"


# Any: the packages ship no types.
def create_context(loaded: Loaded, how: Any, scratch: int, size_bytes: int) -> Any:
    """Create a context that uses the memory at `scratch`; `how` is an allocation strategy or a runtime configuration.

    Raises `RuntimeFailure` with TensorRT's message.
    """
    context = loaded.engine.create_execution_context(how)
    if context is None:
        raise RuntimeFailure(f"{loaded.label}: TensorRT cannot create an execution context: {_told(loaded)}")
    context.set_device_memory(scratch, size_bytes)
    return context
