"""Choose the operators of a dialect."""

from __future__ import annotations

from edge_sdk.export.graphs.native_ops import NativeOperators
from edge_sdk.export.graphs.onnx_ops import Operators
from edge_sdk.export.graphs.plain_ops import PlainOperators
from edge_sdk.export.graphs.weight_file import WeightFile
from edge_sdk.types import Dialect


def operators(dialect: Dialect, weights: WeightFile) -> Operators:
    """An empty graph builder for `dialect`."""
    return NativeOperators(weights) if dialect == "native" else PlainOperators(weights)
