"""The interface of a CUDA device that the runtimes use: memory, copies, streams and captured graphs.

The runtimes use nothing else, so their own logic also runs on a machine without a device: tests implement the same
methods with host memory. Addresses, streams and graphs are plain integers, as TensorRT and ONNX Runtime expect.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import Protocol

import numpy as np

from edge_sdk.runtime import Array


class Cuda(Protocol):
    """One device. Copies, clears and launches are queued on a stream; they are complete once it is synchronised.

    `allocations` counts all device and pinned host allocations so far; it stops rising once a session is warm. Every
    method raises `MissingDependencyError` or `RuntimeFailure` with CUDA's error name and a remedy.
    """

    allocations: int

    def allocate(self, size_bytes: int) -> int:
        """Allocate device memory and return its address."""

    def free(self, address: int) -> None:
        """Free device memory."""

    def allocate_pinned(self, size_bytes: int) -> int:
        """Allocate host memory that the device copies to and from asynchronously, and return its address."""

    def free_pinned(self, address: int) -> None:
        """Free pinned memory."""

    def create_stream(self) -> int:
        """Create a stream that does not wait for the default stream."""

    def destroy_stream(self, stream: int) -> None:
        """Destroy a stream."""

    def copy(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Copy bytes between any two addresses, on the host or the device."""

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, width: int, height: int, stream: int
    ) -> None:
        """Copy `height` rows of `width` bytes; the pitch is the distance in bytes between the starts of two rows."""

    def clear(self, target: int, size_bytes: int, stream: int) -> None:
        """Set device memory to zero."""

    def synchronize(self, stream: int) -> None:
        """Wait until a stream has finished all queued work."""

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """Capture what `work` queues on the stream as a graph; none of it runs yet."""

    def launch(self, graph: int, stream: int) -> None:
        """Queue the work that a graph holds."""

    def destroy_graph(self, graph: int) -> None:
        """Destroy a graph."""


class Arena:
    """Memory and streams that are freed when their owner is garbage-collected; they do not keep the owner alive."""

    def __init__(self, cuda: Cuda, owner: object) -> None:
        self.cuda = cuda
        self._allocated: list[tuple[Callable[[int], None], int]] = []
        self.release = weakref.finalize(owner, _free_all, self._allocated)
        # At exit the process frees everything itself, in its own order.
        self.release.atexit = False

    def device(self, size_bytes: int) -> int:
        """Allocate at least one byte of device memory and return its address."""
        address = self.cuda.allocate(max(size_bytes, 1))
        self._allocated.append((self.cuda.free, address))
        return address

    def stream(self) -> int:
        """Create a stream."""
        stream = self.cuda.create_stream()
        self._allocated.append((self.cuda.destroy_stream, stream))
        return stream

    def pinned(self, size_bytes: int) -> tuple[int, Array]:
        """Allocate pinned host memory; return its address and a view of it as bytes."""
        size_bytes = max(size_bytes, 1)
        address = self.cuda.allocate_pinned(size_bytes)
        self._allocated.append((self.cuda.free_pinned, address))
        memory = (ctypes.c_uint8 * size_bytes).from_address(address)
        return address, np.ctypeslib.as_array(memory)


def _free_all(allocated: list[tuple[Callable[[int], None], int]]) -> None:
    while allocated:
        free, address = allocated.pop()
        free(address)
