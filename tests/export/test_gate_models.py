"""TensorRT-RTX compiles the model's graphs ahead of time: tiny ones in every element type, 12 at true widths."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

from ort_graphs import Exported, RandomWeights

from edge_sdk.export.gate import GateResult, compile_gate, profiles_for
from edge_sdk.export.graphs.decoder_io import DecoderForm
from edge_sdk.export.graphs.onnx_graph import ModelGraph
from edge_sdk.export.graphs.vision import Grid
from edge_sdk.export.model_config import ModelConfig, ProjectorConfig, TextConfig, TokenIds, VisionConfig
from edge_sdk.types import Dialect, DType

PARTS = ("vision", "projector", "decoder", "switchable decoder")
TINY_VISION = VisionConfig(hidden=32, layers=2, heads=2, intermediate=64)
TRUE_VISION = VisionConfig(layers=2)
COMMON = {"layers": 2, "head_dim": 128, "vocab": 4096, "max_positions": 32768, "rope_theta": 1e6, "eps": 1e-6}
TEXTS = {
    "2B": TextConfig(hidden=1536, heads=12, kv_heads=2, intermediate=8960, tied=True, **COMMON),
    "7B": TextConfig(hidden=3584, heads=28, kv_heads=4, intermediate=18944, tied=False, **COMMON),
    "tiny": TextConfig(hidden=64, heads=4, kv_heads=2, intermediate=96, tied=False, **COMMON | {"head_dim": 16}),
}
# frames of 364 x 196; the slots of a whole clip
GRID, SLOTS = Grid(rows=14, columns=26), 10_752
DECODE = {"q": (1, 1, 8), "r": (1, 1, 8), "frames": (1, 8, 16), "n": (1, 91, 2048)}
PREFILL = DECODE | {"q": (1, 512, 512), "r": (1, 1, 1)}


def graph_of(exported: Exported, part: str, dialect: Dialect) -> ModelGraph:
    if part == "vision":
        return exported.vision(GRID, dialect)
    if part == "projector":
        return exported.projector(dialect)
    rank = 64 if part.startswith("switchable") else 0
    return exported.decoder(DecoderForm(dialect=dialect, slots=SLOTS, dtype=exported.dtype, lora_rank=rank))


def compiled(folder: Path, size: str, dtype: DType, part: str, dialect: Dialect) -> tuple[GateResult, int]:
    """What the gate says, and the bytes of the graph's weights."""
    text, vision = TEXTS[size], TINY_VISION if size == "tiny" else TRUE_VISION
    config = ModelConfig(
        vision=vision,
        text=text,
        projector=ProjectorConfig(input=vision.hidden, output=text.hidden),
        tokens=TokenIds(image=1, video=1, end=(2,)),
        compression=True,
    )
    exported = Exported(RandomWeights(config), folder, dtype)
    graph = graph_of(exported, part, dialect)
    graph.save(folder / "graph.onnx")
    shapes = {spec.name: spec.shape for spec in graph.inputs}
    ranges = (DECODE, PREFILL) if "decoder" in part else (DECODE,)
    result = compile_gate(folder / "graph.onnx", *(profiles_for(shapes, sizes) for sizes in ranges))
    (weights,) = folder.glob("*.weights")
    size_bytes = weights.stat().st_size
    weights.unlink()
    return result, size_bytes


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_tiny_native_graphs_compile_in_every_type(tmp_path: Path, dtype: DType, part: str) -> None:
    result, _ = compiled(tmp_path, "tiny", dtype, part, "native")
    assert result.layers > 10


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("size", "dialect"), [("2B", "native"), ("2B", "decomposed"), ("7B", "native")])
def test_graphs_of_true_widths_compile_in_float16(tmp_path: Path, size: str, dialect: Dialect, part: str) -> None:
    result, weight_bytes = compiled(tmp_path, size, "float16", part, dialect)
    # An engine carries its weights once, whatever the number of profiles.
    assert 0.7 * weight_bytes < result.engine_bytes < 1.3 * weight_bytes
