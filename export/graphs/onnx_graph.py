"""Build ONNX graphs node by node, with exactly the operators asked for and names that show each node's place.

Tracing a module would leave the choice of operators to a tool and its version, and the two dialects promise exactly
which operators a graph uses.
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
    """A graph without its weights, and the data for its manifest entry."""

    model: onnx.ModelProto
    dialect: Dialect
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    state: tuple[StateSpec, ...] = ()

    def save(self, path: Path) -> None:
        """Write the graph; its weight file must lie beside it."""
        path.write_bytes(self.model.SerializeToString())

    def entry(self, file: str) -> Graph:
        """The manifest's entry for the graph stored as `file`."""
        return Graph(
            file=file,
            dialects=(self.dialect,),
            opset=int(self.model.opset_import[0].version),
            inputs=self.inputs,
            outputs=self.outputs,
            state=self.state,
        )


class GraphBuilder:
    """Collect nodes in the order of the calls. `scope` is the prefix of the names of nodes and values."""

    def __init__(self, weights: WeightFile, dialect: Dialect) -> None:
        self.dtype, self.scope = weights.dtype, ""
        self._weights, self._dialect = weights, dialect
        self._nodes: list[onnx.NodeProto] = []
        self._initialisers: dict[str, TensorProto] = {}

    # Any, twice: attributes are numbers, strings and lists of them; the onnx package checks which.
    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node with one output; returns the output's name, which is `output` where that is given."""
        return self.ops(kind, *inputs, outputs=(output,), **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: Sequence[str], **attributes: Any) -> list[str]:
        """Add a node with several outputs; an empty name in `outputs` is replaced by a generated one."""
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
        """A scalar integer."""
        return self._constant(f"integer.{value}", np.array(value, np.int64), "int64")

    def number(self, value: float, dtype: DType | None = None) -> str:
        """A scalar in the graph's element type or in `dtype`."""
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
        """Return the graph; the onnx package infers its shapes and compares them with `outputs`."""
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
