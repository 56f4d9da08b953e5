"""A call of a TensorRT session: memory for its tensors, and the order in which its work is queued."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from edge_sdk.bundle.manifest import Graph
from edge_sdk.runtime import Array, Feeds
from edge_sdk.runtimes.cuda_memory import Arena, Cuda
from edge_sdk.runtimes.device_staging import Staging, largest_lengths
from edge_sdk.runtimes.device_state import DeviceState
from edge_sdk.runtimes.standing_feeds import StandingFeeds
from edge_sdk.runtimes.trt_engine import Ranges
from edge_sdk.runtimes.trt_lane import Addresses, Lane
from edge_sdk.tensors import numpy_dtype, shape_of
from edge_sdk.types import StateSpec, TensorSpec


class Device(Protocol):
    """What a call needs from its session."""

    graph: Graph
    cuda: Cuda
    stream: int
    ranges: tuple[Ranges, ...]
    hosted: frozenset[str]

    def lane(self, dims: Mapping[str, int]) -> Lane:
        """Return the context for these lengths. Raises `RuntimeFailure` if no context accepts them."""


class Call:
    """Feeds in, one run, results out; `state` lists the entries that stay on the device, empty for a plain run.

    All memory is allocated on construction, for the largest lengths of any profile.
    """

    def __init__(self, device: Device, state: Sequence[StateSpec], dims: Mapping[str, int]) -> None:
        graph, self._device = device.graph, device
        arena = Arena(device.cuda, self)
        self.release = arena.release
        self.state = DeviceState(graph.inputs, graph.outputs, state, dims, arena, device.stream)
        device.lane(self.state.dims)
        self._standing = StandingFeeds(self.state.feed_specs, self.state.dims)
        largest = largest_lengths(device.ranges, self.state.dims)
        rows = {entry.output for entry in self.state.entries if entry.kind == "append"}
        specs = [spec for spec in graph.outputs if spec.name in rows]
        self._rows = {spec.name: arena.device(_size(spec, largest)) for spec in specs}
        where: dict[str, Any] = {"arena": arena, "stream": device.stream, "on_host": device.hosted}
        in_place = _written_in_place(graph)
        self._feeds = Staging(self.state.feed_specs, largest, written=frozenset(in_place.values()), **where)
        addresses = self._feeds.addresses
        shared = {output: addresses[name] for output, name in in_place.items() if name in addresses}
        self._results = Staging(self.state.result_specs, largest, shared=shared, **where)
        self._addresses = [self._in_phase(phase) for phase in range(self.state.phases)]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run once. Raises `RuntimeFailure` for a wrong feed before any work is queued."""
        device, state = self._device, self.state
        fresh, dims = self._standing.check(feeds)
        lane = device.lane(dims)
        state.check(feeds, dims)
        self._standing.hold(fresh)
        self._feeds.send(feeds)
        lane.run(device.graph, dims, self._addresses[state.phase])
        state.finish(feeds, dims, self._rows)
        self._results.fetch(dims)
        device.cuda.synchronize(device.stream)
        return self._results.results(dims)

    def _in_phase(self, phase: int) -> Addresses:
        state = self.state
        found = self._feeds.addresses | self._results.addresses | self._rows
        for entry in state.entries:
            found[entry.input] = state.front(entry, phase)
            if entry.kind == "alias":
                found[entry.output] = state.back(entry, phase)
        return tuple(found.items())


def _written_in_place(graph: Graph) -> dict[str, str]:
    """Return the input that shares memory with each output whose rows the graph writes in place, by output name.

    This holds whether or not the tensors are bound as state.
    """
    return {entry.output: entry.input for entry in graph.state if entry.kind == "alias" and entry.index is not None}


def _size(spec: TensorSpec, dims: Mapping[str, int]) -> int:
    return math.prod(shape_of(spec, dims)) * numpy_dtype(spec).itemsize
