"""ONNX Runtime with state on a CUDA device: state, feeds and results are bound by their addresses.

State is kept as in the TensorRT runtime (`device_state.py`): CUDA's strided copies append rows, because ONNX Runtime
cannot write into a part of a tensor. ONNX Runtime computes on its own stream, so each call waits twice: for its feeds
before the run, and for its results after it.

Not yet run on a board: CUDA itself. The tests bind host memory by address and compute with the CPU provider.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge_sdk.bundle.manifest import Graph
from edge_sdk.runtime import Array, Feeds
from edge_sdk.runtimes.cuda_memory import Arena, Cuda
from edge_sdk.runtimes.device_staging import Staging
from edge_sdk.runtimes.device_state import DeviceState
from edge_sdk.runtimes.standing_feeds import StandingFeeds
from edge_sdk.tensors import numpy_dtype, shape_of
from edge_sdk.types import StateSpec, TensorSpec

MAX_BINDINGS = 8
Dims = Mapping[str, int]


class Places:
    """Memory for the feeds, results and appended rows of calls with lengths up to `largest`."""

    def __init__(self, graph: Graph, state: DeviceState, largest: Dims, cuda: Cuda, stream: int) -> None:
        self.largest = dict(largest)
        arena = Arena(cuda, self)
        self.release = arena.release
        self.feeds = Staging(state.feed_specs, largest, arena, stream)
        self.results = Staging(state.result_specs, largest, arena, stream)
        appended = {entry.output for entry in state.entries if entry.kind == "append"}
        self.rows = {spec.name: arena.device(_size(spec, largest)) for spec in graph.outputs if spec.name in appended}

    def hold(self, dims: Dims) -> bool:
        """Return whether a call with these lengths fits."""
        return all(length <= self.largest.get(name, 0) for name, length in dims.items())


class OrtDeviceBound:
    """A session whose state tensors are in the memory of `cuda`.

    `native` returns the session, or raises if it is closed; `guarded` runs a call and raises its errors as the SDK's.
    """

    # Any: onnxruntime ships no types.
    def __init__(
        self,
        native: Callable[[], Any],
        guarded: Callable[[Callable[[], None]], None],
        graph: Graph,
        state: Sequence[StateSpec],
        dims: Dims,
        cuda: Cuda,
        device: str = "cuda",
    ) -> None:
        self._native, self._guarded, self._graph, self._cuda, self._device = native, guarded, graph, cuda, device
        arena = Arena(cuda, self)
        self._stream = arena.stream()
        self._state = DeviceState(graph.inputs, graph.outputs, state, dims, arena, self._stream)
        self._standing = StandingFeeds(self._state.feed_specs, self._state.dims)
        self._places: Places | None = None
        self._bindings: dict[object, Any] = {}
        self._release = arena.release

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run once with the inputs that are not state; return the outputs that are not state."""
        native, state = self._native(), self._state
        fresh, dims = self._standing.check(feeds)
        state.check(feeds, dims)
        self._standing.hold(fresh)
        places = self._places_for(dims)
        binding = self._binding(native, places, dims)
        places.feeds.send(feeds)
        self._cuda.synchronize(self._stream)
        self._guarded(lambda: native.run_with_iobinding(binding))
        state.finish(feeds, dims, places.rows)
        places.results.fetch(dims)
        self._cuda.synchronize(self._stream)
        return places.results.results(dims)

    def limit(self, rows: int) -> int | None:
        """Return None: a call always gets every row."""
        return None

    def reset(self) -> None:
        """Set every state tensor to zero."""
        self._native()
        self._state.reset()

    def read(self, name: str) -> Array:
        """Return a copy of the state input `name` as the next call will see it."""
        self._native()
        return self._state.read(name)

    def write(self, name: str, value: Array) -> None:
        """Replace the state input `name`. Raises `RuntimeFailure` for another shape or dtype."""
        self._native()
        self._state.write(name, value)

    def release(self) -> None:
        """Free the memory; called when the session is closed."""
        self._bindings.clear()
        if self._places is not None:
            self._places.release()
        self._release()

    def _places_for(self, dims: Dims) -> Places:
        """Return memory for this call's tensors: the existing memory, or larger memory where they have grown."""
        if self._places is None or not self._places.hold(dims):
            before = self._places.largest if self._places is not None else {}
            largest = before | {name: max(length, before.get(name, 0)) for name, length in dims.items()}
            self._bindings.clear()
            self._places = None  # frees the old memory before the larger is allocated
            self._places = Places(self._graph, self._state, largest, self._cuda, self._stream)
        return self._places

    # Any: onnxruntime ships no types.
    def _binding(self, native: Any, places: Places, dims: Dims) -> Any:
        key = (self._state.phase, *sorted(dims.items()))
        if key not in self._bindings:
            if len(self._bindings) >= MAX_BINDINGS:
                self._bindings.clear()
            self._bindings[key] = self._bind(native, places, dims)
        return self._bindings[key]

    def _bind(self, native: Any, places: Places, dims: Dims) -> Any:
        state, binding = self._state, native.io_binding()
        inputs, outputs = dict(places.feeds.addresses), places.results.addresses | places.rows
        for entry in state.entries:
            inputs[entry.input] = state.front(entry, state.phase)
            if entry.kind == "alias":
                outputs[entry.output] = state.back(entry, state.phase)
        for spec in self._graph.inputs:
            binding.bind_input(*self._bound(spec, dims, inputs[spec.name]))
        for spec in self._graph.outputs:
            binding.bind_output(*self._bound(spec, dims, outputs[spec.name]))
        return binding

    def _bound(self, spec: TensorSpec, dims: Dims, address: int) -> tuple[object, ...]:
        return spec.name, self._device, 0, numpy_dtype(spec), shape_of(spec, dims), address


def _size(spec: TensorSpec, dims: Dims) -> int:
    return math.prod(shape_of(spec, dims)) * numpy_dtype(spec).itemsize
