"""Host memory in the place of a CUDA device: what is queued on a stream is done when the stream is synchronised.

So a result that is read too early, or a feed that is overwritten too soon, is wrong here too. Fresh memory holds
rubbish, and a copy that leaves its allocation fails.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from itertools import count

import numpy as np

from edge_sdk.errors import RuntimeFailure
from edge_sdk.runtime import Array

RUBBISH = 0xA5


class HostCuda:
    """`Cuda` on numpy memory. `capturable` decides whether a capture works; `copied` counts the bytes of each copy."""

    def __init__(self, *, capturable: bool = True) -> None:
        self.allocations = 0
        self.launches = 0
        self.capturing: int | None = None
        self.live: dict[int, Array] = {}
        self.streams: set[int] = set()
        self.graphs: dict[int, list[Callable[[], object]]] = {}
        self.copied: list[int] = []
        self._capturable = capturable
        self._numbers = count(1)
        self._queues: dict[int, list[Callable[[], object]]] = {}

    def allocate(self, size_bytes: int) -> int:
        self.allocations += 1
        memory = np.full(size_bytes, RUBBISH, np.uint8)
        self.live[memory.ctypes.data] = memory
        return memory.ctypes.data

    def free(self, address: int) -> None:
        del self.live[address]

    allocate_pinned, free_pinned = allocate, free

    def create_stream(self) -> int:
        stream = next(self._numbers)
        self._queues[stream] = []
        return stream

    def destroy_stream(self, stream: int) -> None:
        del self._queues[stream]

    def copy(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        self._inside(target, size_bytes)
        self._inside(source, size_bytes)
        self.copied.append(size_bytes)
        self.queue(stream, lambda: ctypes.memmove(target, source, size_bytes))

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, width: int, height: int, stream: int
    ) -> None:
        assert width <= target_pitch
        assert width <= source_pitch
        for row in range(height):
            self.copy(target + row * target_pitch, source + row * source_pitch, width, stream)

    def clear(self, target: int, size_bytes: int, stream: int) -> None:
        self._inside(target, size_bytes)
        self.queue(stream, lambda: ctypes.memset(target, 0, size_bytes))

    def synchronize(self, stream: int) -> None:
        if self.capturing is not None:
            raise RuntimeFailure("a stream that is captured cannot be waited for")
        queue = self._queues[stream]
        while queue:
            queue.pop(0)()

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        waiting, self._queues[stream] = self._queues[stream], []
        self.capturing = stream
        try:
            work()
        finally:
            self.capturing = None
            held, self._queues[stream] = self._queues[stream], waiting
        if not self._capturable:
            raise RuntimeFailure("CUDA: cudaStreamEndCapture gave cudaErrorStreamCaptureInvalidated (901)")
        graph = next(self._numbers)
        self.graphs[graph] = held
        return graph

    def launch(self, graph: int, stream: int) -> None:
        self.launches += 1
        self._queues[stream] += self.graphs[graph]

    def destroy_graph(self, graph: int) -> None:
        del self.graphs[graph]

    def queue(self, stream: int, work: Callable[[], object]) -> None:
        """What an engine does to queue its kernels."""
        self._queues[stream].append(work)

    def view(self, address: int, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Array:
        """The array at an address."""
        size = int(np.prod(shape, dtype=int)) * dtype.itemsize
        self._inside(address, size, known=True)
        memory = (ctypes.c_uint8 * size).from_address(address)
        view: Array = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
        return view

    def _inside(self, address: int, size: int, *, known: bool = False) -> None:
        for start, memory in self.live.items():
            if start <= address < start + memory.nbytes:
                assert address + size <= start + memory.nbytes, "the copy leaves its memory"
                return
        assert not known, "the address is of no allocation"
