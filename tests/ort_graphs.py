"""Exported graphs written to a folder and opened with ONNX Runtime, as a device opens them."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor

from edge_sdk.bundle.manifest import Graph
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.graphs.decoder_io import DecoderForm
from edge_sdk.export.graphs.decoder_onnx import decoder_graph
from edge_sdk.export.graphs.onnx_graph import ModelGraph
from edge_sdk.export.graphs.vision import Grid
from edge_sdk.export.graphs.vision_onnx import projector_graph, vision_graph
from edge_sdk.export.graphs.weight_file import Part, WeightFile
from edge_sdk.export.layouts import tensor_shapes
from edge_sdk.export.model_config import ModelConfig
from edge_sdk.runtime import Session, SessionOptions
from edge_sdk.runtimes.ort import OrtRuntime
from edge_sdk.types import Dialect, DType, TensorSpec


class RandomWeights:
    """Weights of any configuration, made when they are asked for: the same small values, begun elsewhere by name.

    Compilers keep equal tensors once, so no two of one model may be equal.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config, self._shapes = config, tensor_shapes(config)
        self._values = torch.randn(1 << 16, generator=torch.Generator().manual_seed(0)) * 0.02

    def names(self) -> tuple[str, ...]:
        return tuple(self._shapes)

    def spec(self, name: str) -> TensorSpec:
        return TensorSpec(name=name, dtype="bfloat16", shape=self._shapes[name])

    def tensor(self, name: str) -> Tensor:
        shape = torch.Size(self._shapes[name])
        values = self._values.roll(crc32(name.encode()))
        return values.repeat(-(-shape.numel() // len(values)))[: shape.numel()].reshape(shape)


class Exported:
    """A model's parts in one folder as an export has them: each weight file written once, graphs as asked for."""

    def __init__(self, weights: Weights, folder: Path, dtype: DType = "float32") -> None:
        self.config, self.folder, self.dtype = weights.config, folder, dtype
        self.weights, self._files = weights, dict[Part, WeightFile]()

    def file(self, part: Part) -> WeightFile:
        if part not in self._files:
            self._files[part] = WeightFile(self.weights, part, self.dtype, hold_table=True)
            self._files[part].write(self.folder)
        return self._files[part]

    def vision(self, grid: Grid, dialect: Dialect) -> ModelGraph:
        return vision_graph(self.config.vision, grid, self.file("vision"), dialect)

    def projector(self, dialect: Dialect) -> ModelGraph:
        return projector_graph(self.config.projector, self.file("projector"), dialect)

    def decoder(self, form: DecoderForm) -> ModelGraph:
        return decoder_graph(self.config.text, form, self.file("decoder"))

    def open(self, graph: ModelGraph) -> tuple[Session, Graph]:
        """A session of `graph`, and its entry of a manifest."""
        name = f"{graph.model.graph.name}.{graph.dialect}.{len(list(self.folder.iterdir()))}.onnx"
        graph.save(self.folder / name)
        entry = graph.entry(name)
        return OrtRuntime().open(self.folder / name, entry, SessionOptions(threads=1)), entry
