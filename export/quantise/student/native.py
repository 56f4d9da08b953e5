"""ONNX Runtime as the workstation uses it: sessions that can show any value, and its own calibration methods."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any, Literal

import onnxruntime
from onnx import ModelProto
from onnxruntime.quantization.calibrate import HistogramCollector

from edge_sdk.runtime import Array

_FATAL_ONLY = 4
# The entropy method tries a cut at every bin; signed 8-bit numbers have 128 steps above zero.
_BINS, _STEPS = 2048, 128


# Any: onnxruntime ships no types.
def open_session(model: ModelProto, *, plainly: bool = False) -> Any:
    """A session with one thread; `plainly` runs every operator as written, without fusion."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, _FATAL_ONLY
    if plainly:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


class Histograms:
    """Histograms of values, and the limits at which a method would cut them."""

    def __init__(self, method: Literal["percentile", "entropy"], percentile: float) -> None:
        self._native = HistogramCollector(
            method=method,
            symmetric=method == "percentile",
            num_bins=_BINS,
            num_quantized_bins=_STEPS,
            percentile=percentile,
            scenario="same",
        )

    def add(self, values: Mapping[str, Array]) -> None:
        """Add float32 values by name."""
        with _silence():
            self._native.collect(dict(values))

    def limits(self) -> dict[str, tuple[float, float]]:
        """The lowest and the highest value of the method's range, by name."""
        with _silence():
            found = self._native.compute_collection_result()
        return {name: (float(each[0]), float(each[1])) for name, each in found.items()}


def _silence() -> contextlib.AbstractContextManager[Any]:
    """Silence stdout, because ONNX Runtime's collectors print their progress."""
    return contextlib.redirect_stdout(io.StringIO())
