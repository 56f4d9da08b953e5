"""The CUDA device: the runtimes make every CUDA call here, through NVIDIA's package `cuda-bindings`.

All calls are to the CUDA Runtime API. Versions 12.8 to 13 of the package agree on every function called here. The SDK
installs 12.9 because it runs on the drivers of both CUDA 12 and CUDA 13, but 12.8 for Python 3.10: 12.9 contains CUDA
Runtime 12.9, for which JetPack 6's driver of CUDA 12.6 may be too old, and 12.8 contains none.
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
    """`Cuda` through `cuda-bindings`, on the first device.

    Not yet run on a board: without one, only the error paths were tested.
    """

    # Any: the module exists only where the extra is installed.
    def __init__(self, api: Any) -> None:
        self.allocations = 0
        self._api = api
        self._any_way = api.cudaMemcpyKind.cudaMemcpyDefault
        self._call("cudaSetDevice", 0)

    def allocate(self, size_bytes: int) -> int:
        """Allocate device memory and return its address."""
        self.allocations += 1
        return int(self._call("cudaMalloc", size_bytes, asked=size_bytes))

    def free(self, address: int) -> None:
        """Free device memory."""
        self._call("cudaFree", address)

    def allocate_pinned(self, size_bytes: int) -> int:
        """Allocate page-locked host memory and return its address."""
        self.allocations += 1
        return int(self._call("cudaHostAlloc", size_bytes, self._api.cudaHostAllocDefault, asked=size_bytes))

    def free_pinned(self, address: int) -> None:
        """Free pinned memory."""
        self._call("cudaFreeHost", address)

    def create_stream(self) -> int:
        """Create a stream that does not wait for the default stream."""
        return int(self._call("cudaStreamCreateWithFlags", self._api.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        """Destroy a stream."""
        self._call("cudaStreamDestroy", stream)

    def copy(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Copy bytes between any two addresses."""
        self._call("cudaMemcpyAsync", target, source, size_bytes, self._any_way, stream)

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, width: int, height: int, stream: int
    ) -> None:
        """Copy `height` rows of `width` bytes; the pitch is the distance in bytes between the starts of two rows."""
        self._call(
            "cudaMemcpy2DAsync", target, target_pitch, source, source_pitch, width, height, self._any_way, stream
        )

    def clear(self, target: int, size_bytes: int, stream: int) -> None:
        """Set device memory to zero."""
        self._call("cudaMemsetAsync", target, 0, size_bytes, stream)

    def synchronize(self, stream: int) -> None:
        """Wait until a stream has finished all queued work."""
        self._call("cudaStreamSynchronize", stream)

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """Capture what `work` queues on the stream as a graph.

        Other threads, such as a decoder's, may allocate during the capture because it is limited to this thread.
        """
        self._call("cudaStreamBeginCapture", stream, self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            work()
        except BaseException:
            # The stream must leave capture mode. The error returned here only repeats that the capture failed.
            self._api.cudaStreamEndCapture(stream)
            self._api.cudaGetLastError()
            raise
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return int(self._call("cudaGraphInstantiate", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        """Queue the work that a graph holds."""
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        """Destroy a graph."""
        self._call("cudaGraphExecDestroy", graph)

    # Any: each function of the package has its own argument and return types.
    def _call(self, function: str, *arguments: Any, asked: int = 0) -> Any:
        try:
            code, *values = getattr(self._api, function)(*arguments)
        except RuntimeError as error:  # cuda-bindings 12.8 raises this where the driver library is missing
            raise MissingDependencyError(f"CUDA: {function}: {error}; {NO_DRIVER}") from error
        if int(code):
            self._api.cudaGetLastError()
            raise cuda_error(function, int(code), code.name, asked)
        return values[0] if values else None


def open_cuda() -> Cuda:
    """Open the first CUDA device.

    Raises `MissingDependencyError` if the package, the driver or a device is missing.
    """
    return CudaRuntime(_bindings())


def bindings_version() -> str:
    """Return the version of `cuda-bindings`.

    Raises `MissingDependencyError` if the package is not installed or does not load.
    """
    _bindings()
    return str(import_module("cuda.bindings").__version__)


# Any: the package exists only where the extra is installed.
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
