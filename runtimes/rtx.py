"""TensorRT-RTX, for PC GPUs: the runtime of `runtimes/trt.py` with the package `tensorrt_rtx`."""

from __future__ import annotations

from edge_sdk.runtime import Runtime
from edge_sdk.runtimes import trt


def open_runtime() -> Runtime:
    """Open the installed TensorRT-RTX. Raises `MissingDependencyError` for whatever is missing."""
    return trt.open_runtime("rtx")
