"""What the runtimes ask of a CUDA device: memory, copies, streams and captured graphs.

They ask no more than this, so that their own logic runs on a machine without a device: a test puts host memory behind
the same methods. Addresses, streams and graphs are plain integers, as TensorRT and ONNX Runtime take them.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import Protocol

import numpy as np

from edge_sdk.runtime import Array


class Cuda(Protocol):
    """One device. Copies, clearing and launches are queued on a stream and done when it is synchronised.

    `allocations` counts what was allocated so far, on the device and pinned on the host: it stands still once a session
    is warm. Every method raises `MissingDependencyError` or `RuntimeFailure` with CUDA's words and what to do.
    """

    allocations: int

    def allocate(self, size_bytes: int) -> int:
        """Device memory; its address."""

    def free(self, address: int) -> None:
        """Give device memory back."""

    def allocate_pinned(self, size_bytes: int) -> int:
        """Host memory that the device copies from and to without waiting; its address."""

    def free_pinned(self, address: int) -> None:
        """Give pinned memory back."""

    def create_stream(self) -> int:
        """A stream that does not wait for the default one."""

    def destroy_stream(self, stream: int) -> None:
        """Give a stream back."""

    def copy(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Copy bytes between any two addresses, host's or device's."""

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, width: int, height: int, stream: int
    ) -> None:
        """Copy `height` rows of `width` bytes that begin a pitch apart."""

    def clear(self, target: int, size_bytes: int, stream: int) -> None:
        """Set device memory to zero."""

    def synchronize(self, stream: int) -> None:
        """Wait until a stream has done all that is queued."""

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """A graph of what `work` queues on the stream, none of which is done yet."""

    def launch(self, graph: int, stream: int) -> None:
        """Queue what a graph holds."""

    def destroy_graph(self, graph: int) -> None:
        """Give a graph back."""


class Arena:
    """Memory, and a stream, that live and die with their owner, who is not kept alive by them."""

    def __init__(self, cuda: Cuda, owner: object) -> None:
        self.cuda = cuda
        self._allocated: list[tuple[Callable[[int], None], int]] = []
        self.release = weakref.finalize(owner, _free_all, self._allocated)
        # The end of the process frees all there is, in an order of its own.
        self.release.atexit = False

    def device(self, size_bytes: int) -> int:
        """Device memory of at least one byte; its address."""
        address = self.cuda.allocate(max(size_bytes, 1))
        self._allocated.append((self.cuda.free, address))
        return address

    def stream(self) -> int:
        """A stream."""
        stream = self.cuda.create_stream()
        self._allocated.append((self.cuda.destroy_stream, stream))
        return stream

    def pinned(self, size_bytes: int) -> tuple[int, Array]:
        """Pinned host memory; its address, and a view of it as bytes."""
        size_bytes = max(size_bytes, 1)
        address = self.cuda.allocate_pinned(size_bytes)
        self._allocated.append((self.cuda.free_pinned, address))
        memory = (ctypes.c_uint8 * size_bytes).from_address(address)
        return address, np.ctypeslib.as_array(memory)


def _free_all(allocated: list[tuple[Callable[[int], None], int]]) -> None:
    while allocated:
        free, address = allocated.pop()
        free(address)
