"""TensorRT-RTX, for the GPUs of PCs: as `runtimes/trt.py`, by the package `tensorrt_rtx`."""

from __future__ import annotations

from edge_sdk.runtime import Runtime
from edge_sdk.runtimes import trt


def open_runtime() -> Runtime:
    """TensorRT-RTX here. Raises `MissingDependencyError` for what is not here."""
    return trt.open_runtime("rtx")
