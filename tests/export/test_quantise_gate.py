"""TensorRT-RTX compiles few-bit weights in both block sizes and both dialects, with LoRA beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

from quantise_cases import DIALECTS, stored_decoder, tiny_weights, w4_formats

from edge_sdk.engine_shapes import Lengths, ShapeProfile
from edge_sdk.export.gate import compile_gate
from edge_sdk.export.quantise.formats import Format
from edge_sdk.types import Dialect

RANGES = {"q": Lengths(smallest=1, best=1, largest=8), "r": Lengths(smallest=1, best=1, largest=8)}


def compiled(width: int, block: int, dialect: Dialect, folder: Path) -> tuple[int, int, int]:
    """Bytes of the engine, of the stored matrices, and of the same ones in float16."""
    weights = tiny_weights(hidden=width, inner=4 * width)
    formats = w4_formats(weights, Format(bits=4, block=block))
    files, graphs = stored_decoder(weights, folder, formats, "float16", lora_rank=4)
    path = folder / f"decoder.16.{dialect}.onnx"
    profile = ShapeProfile(name="decode", lengths=RANGES)
    result = compile_gate(path, graphs[dialect, 16].entry(path.name), [profile])
    stored = sum(files.places[name].part.size_bytes for name in formats)
    return result.engine_bytes, stored, sum(2 * weights.tensor(name).numel() for name in formats)


@pytest.mark.parametrize(("dialect", "block"), [("native", 128), ("decomposed", 32)])
def test_few_bit_decoders_compile(block: int, dialect: Dialect, tmp_path: Path) -> None:
    engine, stored, _ = compiled(128, block, dialect, tmp_path)
    assert engine > stored


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("block", [128, 32])
def test_engines_keep_the_few_bits(block: int, dialect: Dialect, tmp_path: Path) -> None:
    engine, stored, in_half = compiled(512, block, dialect, tmp_path)
    # 7.0 to 8.4 MB for 4.1 MB stored, of which kernels are 3 MB; in float16 the weights alone would be 16 MB.
    assert engine < stored + in_half / 2
