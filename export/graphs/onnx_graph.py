"""Builds ONNX graphs node by node: only the operators that are written down, under names that say where they are.

Tracing a module would leave the choice of operators to a tool and its version; the two dialects are a promise about
exactly that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.bundle.manifest import Graph
from edge_sdk.export.graphs.weight_file import WeightFile
from edge_sdk.runtime import Array
from edge_sdk.types import Dialect, DType, StateSpec, TensorSpec

OPSETS: dict[Dialect, int] = {"native": 24, "decomposed": 20}

_TYPES: dict[DType, int] = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


@dataclass(frozen=True, eq=False)
class ModelGraph:
    """A graph without its weights, and what a manifest says of it."""

    model: onnx.ModelProto
    dialect: Dialect
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    state: tuple[StateSpec, ...] = ()

    def save(self, path: Path) -> None:
        """Write the graph; the file that holds its weights belongs beside it."""
        path.write_bytes(self.model.SerializeToString())

    def entry(self, file: str) -> Graph:
        """The manifest's entry for the graph as `file`."""
        return Graph(
            file=file,
            dialects=(self.dialect,),
            opset=int(self.model.opset_import[0].version),
            inputs=self.inputs,
            outputs=self.outputs,
            state=self.state,
        )


class GraphBuilder:
    """Nodes in the order in which they are asked for. `scope` is put before the names of nodes and values."""

    def __init__(self, weights: WeightFile, dialect: Dialect) -> None:
        self.dtype, self.scope = weights.dtype, ""
        self._weights, self._dialect = weights, dialect
        self._nodes: list[onnx.NodeProto] = []
        self._initialisers: dict[str, TensorProto] = {}

    # Any, twice: attributes are numbers, words and lists of them, which the onnx package tells apart.
    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """A node of one output; returns the output's name, which is `output` where that is given."""
        return self.ops(kind, *inputs, outputs=(output,), **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: Sequence[str], **attributes: Any) -> list[str]:
        """A node of several outputs; an empty name in `outputs` is filled in."""
        name = f"{self.scope}{kind}.{len(self._nodes)}"
        suffixes = [""] if len(outputs) == 1 else [f".{index}" for index in range(len(outputs))]
        named = [given or name + suffix for given, suffix in zip(outputs, suffixes, strict=True)]
        self._nodes.append(helper.make_node(kind, inputs, named, name=name, **attributes))
        return named

    def cast(self, x: str, dtype: DType, output: str = "") -> str:
        """`x` in another element type."""
        return self.op("Cast", x, output=output, to=_TYPES[dtype])

    def weight(self, name: str) -> str:
        """A tensor of the weight file."""
        if name not in self._initialisers:
            placed = self._weights[name]
            tensor = TensorProto(name=name, data_type=_TYPES[self.dtype], dims=placed.shape)
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": self._weights.location, "offset": placed.offset, "length": placed.length}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            self._initialisers[name] = tensor
        return name

    def integers(self, *values: int) -> str:
        """A list of integers, such as a shape."""
        name = f"integers.{'_'.join(map(str, values))}"
        return self._constant(name, np.array(values, np.int64), "int64")

    def integer(self, value: int) -> str:
        """One integer, without a dimension."""
        return self._constant(f"integer.{value}", np.array(value, np.int64), "int64")

    def number(self, value: float, dtype: DType | None = None) -> str:
        """One number, without a dimension, in the graph's element type or in `dtype`."""
        kind = dtype or self.dtype
        return self._constant(f"{kind}.{value:.9g}", np.array(value, np.float64), kind)

    def table(self, name: str, values: Array) -> str:
        """A constant tensor in the graph's element type."""
        return self._constant(name, values, self.dtype)

    def finish(
        self,
        name: str,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        state: Sequence[StateSpec] = (),
    ) -> ModelGraph:
        """The graph, its shapes inferred and compared with `outputs` by the onnx package."""
        graph = helper.make_graph(
            self._nodes, name, _values(inputs), _values(outputs), initializer=list(self._initialisers.values())
        )
        opset = helper.make_opsetid("", OPSETS[self._dialect])
        ir_version = helper.find_min_ir_version_for([opset])
        model = helper.make_model(graph, producer_name="edge-sdk", opset_imports=[opset], ir_version=ir_version)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        return ModelGraph(model, self._dialect, tuple(inputs), tuple(outputs), tuple(state))

    def _constant(self, name: str, values: Array, dtype: DType) -> str:
        if name not in self._initialisers:
            kind = helper.tensor_dtype_to_np_dtype(_TYPES[dtype])
            self._initialisers[name] = numpy_helper.from_array(values.astype(kind), name)
        return name


def _values(specs: Sequence[TensorSpec]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(spec.name, _TYPES[spec.dtype], spec.shape) for spec in specs]
