"""The kernels that TensorRT-RTX compiles on this GPU at first use, cached beside the engine.

Compiling them takes seconds. TensorRT-RTX itself rejects kernels cached for another GPU, version or driver; they are
then compiled and cached again. Not yet run on a GPU that TensorRT-RTX supports; it compiles nothing without one.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_sdk.files import write_bytes
from edge_sdk.runtimes.trt_engine import Loaded


class Kernels:
    """The configuration for all contexts of one engine, with the kernels cached in the file at `path`."""

    def __init__(self, loaded: Loaded, path: Path | None) -> None:
        module = loaded.tensorrt.module
        self._path = path
        # Any: the package ships no types.
        self.config: Any = loaded.engine.create_runtime_config()
        self.config.set_execution_context_allocation_strategy(module.ExecutionContextAllocationStrategy.USER_MANAGED)
        self.config.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._kernels: Any = self.config.create_runtime_cache()
        self._before = path.read_bytes() if path is not None and path.is_file() else b""
        if self._before:
            self._kernels.deserialize(self._before)
        self.config.set_runtime_cache(self._kernels)

    def keep(self) -> None:
        """Write newly compiled kernels to the file; if that fails, they are compiled again next time."""
        made = bytes(self._kernels.serialize())
        if self._path is not None and made and made != self._before:
            with suppress(OSError):
                write_bytes(self._path, made)
                self._before = made
