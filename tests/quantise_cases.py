"""A tiny decoder stored in few bits, in a folder as a bundle has it, and ways to run it that share no code with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from ort_graphs import RandomWeights

from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.graphs.decoder_io import DecoderForm
from edge_sdk.export.graphs.decoder_onnx import decoder_graph
from edge_sdk.export.graphs.onnx_graph import ModelGraph
from edge_sdk.export.graphs.weight_file import WeightFile
from edge_sdk.export.layouts import HEAD
from edge_sdk.export.model_config import ModelConfig, ProjectorConfig, TextConfig, TokenIds, VisionConfig
from edge_sdk.export.quantise.decoder_files import DecoderFiles, matrix_names
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.rewrite import with_stored
from edge_sdk.runtime import Array
from edge_sdk.types import Dialect, DType

DIALECTS: tuple[Dialect, ...] = ("native", "decomposed")
W4, W8 = Format(bits=4, block=32), Format(bits=8)


def tiny_weights(*, hidden: int = 64, inner: int = 96, tied: bool = False) -> RandomWeights:
    """Two layers, grouped queries, 256 words."""
    text = TextConfig(
        hidden=hidden,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=hidden // 4,
        intermediate=inner,
        vocab=256,
        max_positions=1024,
        rope_theta=1e6,
        eps=1e-6,
        tied=tied,
    )
    vision = VisionConfig(hidden=32, layers=2, heads=2, intermediate=64)
    projector = ProjectorConfig(input=32, output=hidden)
    tokens = TokenIds(image=1, video=1, end=(2,))
    return RandomWeights(ModelConfig(vision=vision, text=text, projector=projector, tokens=tokens, compression=True))


def w4_formats(weights: Weights, linears: Format = W4, head: Format = W8) -> dict[str, Format]:
    """Every linear of the layers in one format, the head in another."""
    return {name: head if name == HEAD else linears for name in matrix_names(weights.config.text.layers)}


def stored_decoder(
    weights: Weights,
    folder: Path,
    formats: Mapping[str, Format],
    dtype: DType = "float32",
    *,
    slots: tuple[int, ...] = (16,),
    lora_rank: int = 0,
) -> tuple[DecoderFiles, dict[tuple[Dialect, int], ModelGraph]]:
    """Weight files and graphs of every dialect and number of slots, written to `folder`."""
    files = DecoderFiles(weights, dtype, formats)
    for file in files.files:
        file.write(folder)
    graphs = {}
    for dialect in DIALECTS:
        for count in slots:
            form = DecoderForm(dialect=dialect, slots=count, dtype=dtype, lora_rank=lora_rank)
            plain = decoder_graph(weights.config.text, form, WeightFile(weights, "decoder", dtype))
            graphs[dialect, count] = with_stored(plain, files.places, formats)
            graphs[dialect, count].save(folder / f"decoder.{count}.{dialect}.onnx")
    return files, graphs


def run_plainly(path: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The graph by ONNX Runtime with every operator as it is written, no two of them joined."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


# Any: onnxruntime ships no types.
def optimised(path: Path, out: Path, **config: str) -> tuple[Any, onnx.ModelProto]:
    """A session as a device opens it, and the graph that ONNX Runtime made for it, without its weights."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(out)
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    for key, value in config.items():
        options.add_session_config_entry(f"session.{key}", value)
    session = onnxruntime.InferenceSession(path, options)
    return session, onnx.load(out, load_external_data=False)


def onnx_weights(path: Path) -> dict[str, Array]:
    """Every weight of a graph as the onnx package reads it, float64, blocks multiplied out by numpy."""
    model = onnx.load(path)
    held = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in held:
            continue
        numbers, scales = (held[name] for name in node.input)
        settings = {attribute.name: attribute.i for attribute in node.attribute}
        if block := settings.get("block_size", 0):
            scales = np.repeat(scales, block, settings["axis"])
        held[node.input[0]] = numbers * scales
    return held
