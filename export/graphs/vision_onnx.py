"""The vision tower as an ONNX graph of one grid, and the projector: see `vision` and `projector` for what they do."""

from __future__ import annotations

from edge_sdk.export.graphs.dialects import operators
from edge_sdk.export.graphs.onnx_graph import ModelGraph
from edge_sdk.export.graphs.onnx_ops import Operators
from edge_sdk.export.graphs.vision import MERGE, Grid, grid_rope
from edge_sdk.export.graphs.weight_file import WeightFile
from edge_sdk.export.model_config import ProjectorConfig, VisionConfig
from edge_sdk.types import Dialect, TensorSpec

FRAMES, TOKENS = "frames", "n"


def vision_graph(config: VisionConfig, grid: Grid, weights: WeightFile, dialect: Dialect) -> ModelGraph:
    """The graph from `patches [frames, patches, 588]` to `tokens [frames, patches / 4, 1152]`.

    All grids share one weight file.
    """
    g = operators(dialect, weights)
    cos, sin = grid_rope(config, grid)
    g.begin_frames(cos.numpy(), sin.numpy(), config.heads)
    x = g.linear("patches", "vision.patch_embedding")
    for index in range(config.layers):
        x = _layer(g, config, x, f"vision.layers.{index}")
    g.scope = ""
    x = g.layer_norm(x, "vision.norm", config.eps)
    windows = g.reshape(x, 0, grid.tokens, MERGE**2, config.hidden)
    g.op("ReduceMean", windows, g.integers(2), output="tokens", keepdims=0)
    patches = TensorSpec(name="patches", dtype=weights.dtype, shape=(FRAMES, grid.patches, config.patch_values))
    tokens = TensorSpec(name="tokens", dtype=weights.dtype, shape=(FRAMES, grid.tokens, config.hidden))
    return g.finish("vision", [patches], [tokens])


def projector_graph(config: ProjectorConfig, weights: WeightFile, dialect: Dialect) -> ModelGraph:
    """The graph from `tokens [n, 1152]` to `embeds [n, hidden]`."""
    g = operators(dialect, weights)
    inner = g.gelu(g.linear("tokens", "projector.0"), tanh=False)
    product = g.op("MatMul", inner, g.weight("projector.2.weight"))
    g.op("Add", product, g.weight("projector.2.bias"), output="embeds")
    tokens = TensorSpec(name="tokens", dtype=weights.dtype, shape=(TOKENS, config.input))
    embeds = TensorSpec(name="embeds", dtype=weights.dtype, shape=(TOKENS, config.output))
    return g.finish("projector", [tokens], [embeds])


def _layer(g: Operators, config: VisionConfig, x: str, name: str) -> str:
    g.scope = f"{name.removeprefix('vision.')}."
    y = g.layer_norm(x, f"{name}.norm1", config.eps)
    query, key, value = (g.heads(g.linear(y, f"{name}.{part}"), config.heads, config.head_dim) for part in "qkv")
    found = g.attend_frames(g.turn_frames(query), g.turn_frames(key), value, config.head_dim)
    x = g.op("Add", x, g.linear(g.joined_heads(found, config.hidden), f"{name}.out"))
    y = g.layer_norm(x, f"{name}.norm2", config.eps)
    inner = g.gelu(g.linear(y, f"{name}.fc1"), tanh=True)
    return g.op("Add", x, g.linear(inner, f"{name}.fc2"))
