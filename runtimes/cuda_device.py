"""The CUDA device itself: every CUDA call of the runtimes is made here, by NVIDIA's package `cuda-bindings`.

Calls: CUDA Runtime API. Versions 12.8 to 13 of the package agree in all that is called; 12.9 runs on the drivers of
CUDA 12 and 13 alike, so it is the one that is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from edge_sdk.errors import MissingDependencyError
from edge_sdk.packages import pip_install
from edge_sdk.runtimes.cuda_errors import NO_DRIVER, cuda_error
from edge_sdk.runtimes.cuda_memory import Cuda


class CudaRuntime:
    """`Cuda` by `cuda-bindings`, on the first device. Awaits a board: nothing here but its errors ran without one."""

    # Any: a module that is there only where the extra is installed.
    def __init__(self, api: Any) -> None:
        self.allocations = 0
        self._api = api
        self._any_way = api.cudaMemcpyKind.cudaMemcpyDefault
        self._call("cudaSetDevice", 0)

    def allocate(self, size_bytes: int) -> int:
        """Device memory; its address."""
        self.allocations += 1
        return int(self._call("cudaMalloc", size_bytes, asked=size_bytes))

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call("cudaFree", address)

    def allocate_pinned(self, size_bytes: int) -> int:
        """Page-locked host memory; its address."""
        self.allocations += 1
        return int(self._call("cudaHostAlloc", size_bytes, self._api.cudaHostAllocDefault, asked=size_bytes))

    def free_pinned(self, address: int) -> None:
        """Give pinned memory back."""
        self._call("cudaFreeHost", address)

    def create_stream(self) -> int:
        """A stream that does not wait for the default one."""
        return int(self._call("cudaStreamCreateWithFlags", self._api.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        """Give a stream back."""
        self._call("cudaStreamDestroy", stream)

    def copy(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Copy bytes between any two addresses."""
        self._call("cudaMemcpyAsync", target, source, size_bytes, self._any_way, stream)

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, width: int, height: int, stream: int
    ) -> None:
        """Copy `height` rows of `width` bytes that begin a pitch apart."""
        self._call(
            "cudaMemcpy2DAsync", target, target_pitch, source, source_pitch, width, height, self._any_way, stream
        )

    def clear(self, target: int, size_bytes: int, stream: int) -> None:
        """Set device memory to zero."""
        self._call("cudaMemsetAsync", target, 0, size_bytes, stream)

    def synchronize(self, stream: int) -> None:
        """Wait until a stream has done all that is queued."""
        self._call("cudaStreamSynchronize", stream)

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """A graph of what `work` queues on the stream.

        Other threads, such as those of a decoder, may allocate meanwhile: the capture is this thread's own.
        """
        self._call("cudaStreamBeginCapture", stream, self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            work()
        except BaseException:
            # The stream must leave capture mode; that the capture was spoilt is known already.
            self._api.cudaStreamEndCapture(stream)
            self._api.cudaGetLastError()
            raise
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return int(self._call("cudaGraphInstantiate", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        """Queue what a graph holds."""
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        """Give a graph back."""
        self._call("cudaGraphExecDestroy", graph)

    # Any: each function of the package takes and gives its own types.
    def _call(self, function: str, *arguments: Any, asked: int = 0) -> Any:
        try:
            code, *values = getattr(self._api, function)(*arguments)
        except RuntimeError as error:  # cuda-bindings 12.8 raises this where there is no driver's library
            raise MissingDependencyError(f"CUDA: {function}: {error}; {NO_DRIVER}") from error
        if int(code):
            self._api.cudaGetLastError()
            raise cuda_error(function, int(code), code.name, asked)
        return values[0] if values else None


def open_cuda() -> Cuda:
    """The first CUDA device. Raises `MissingDependencyError` where the package, the driver or a device is missing."""
    return CudaRuntime(_bindings())


def bindings_version() -> str:
    """The version of `cuda-bindings`. Raises `MissingDependencyError` where it is not installed or does not load."""
    _bindings()
    return str(import_module("cuda.bindings").__version__)


# Any: the package is there only where the extra is installed.
def _bindings() -> Any:
    try:
        return import_module("cuda.bindings.runtime")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"the package {error.name!r} is not installed; run: {pip_install('tensorrt')}"
        ) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingDependencyError(
            f"cuda-bindings is installed but does not load: {error}; run: {pip_install('tensorrt', again=True)}"
        ) from error
