"""A decoder of random weights in 4 bits, as this SDK stores it, and with the same whole numbers as llama.cpp does."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from ort_graphs import RandomWeights
from quantise_cases import w4_formats
from torch import Tensor

from edge_sdk.bundle.manifest import Graph
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.graphs.decoder_io import DecoderForm
from edge_sdk.export.graphs.decoder_onnx import decoder_graph
from edge_sdk.export.graphs.weight_file import WeightFile
from edge_sdk.export.layouts import EMBEDDING, HEAD
from edge_sdk.export.model_config import ModelConfig, ProjectorConfig, TextConfig, TokenIds, VisionConfig
from edge_sdk.export.quantise.decoder_files import DecoderFiles
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.rewrite import with_stored
from edge_sdk.runtime import Array

BLOCK = 32
W4 = Format(bits=4, block=BLOCK)
# VideoLLaMA3-2B's decoder (Qwen2.5-1.5B); the head is a tensor of its own here, since both sides store it in 4 bits.
TEXT = TextConfig(
    hidden=1536,
    layers=28,
    heads=12,
    kv_heads=2,
    head_dim=128,
    intermediate=8960,
    vocab=151_936,
    max_positions=32_768,
    rope_theta=1e6,
    eps=1e-6,
    tied=False,
)
# This SDK's parts of a layer and llama.cpp's names for them.
_PARTS = {
    "norm1": "attn_norm",
    "norm2": "ffn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}
_OUTSIDE = {"decoder.norm.weight": "output_norm.weight", HEAD: "output.weight"}


class _Plain(RandomWeights):
    """Random weights with norms about 1, so that layers say something."""

    def tensor(self, name: str) -> Tensor:
        values = super().tensor(name)
        return values + 1 if "norm" in name else values


def random_decoder(layers: int) -> Weights:
    """Weights of a 2B's decoder of `layers`."""
    config = ModelConfig(
        vision=VisionConfig(hidden=32, layers=1, heads=2, intermediate=64),
        text=msgspec.structs.replace(TEXT, layers=layers),
        projector=ProjectorConfig(input=32, output=TEXT.hidden),
        tokens=TokenIds(image=1, video=1, end=(2,)),
        compression=True,
    )
    return _Plain(config)


def write_ours(weights: Weights, folder: Path, slots: int) -> Graph:
    """Weight files, `decoder.onnx` and `embed_tokens.bin` (float16) in `folder`; the graph's entry of a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    text, formats = weights.config.text, w4_formats(weights, W4, W4)
    files = DecoderFiles(weights, "float32", formats)
    form = DecoderForm(dialect="native", slots=slots, dtype="float32")
    graph = with_stored(decoder_graph(text, form, WeightFile(weights, "decoder", "float32")), files.places, formats)
    if not (folder / "done").exists():
        for file in files.files:
            file.write(folder)
        (folder / "embed_tokens.bin").write_bytes(weights.tensor(EMBEDDING).half().numpy().tobytes())
        (folder / "done").touch()
    graph.save(folder / "decoder.onnx")
    return graph.entry("decoder.onnx")


def write_theirs(ours: Path, folder: Path) -> None:
    """Every tensor of the decoder in `ours` under llama.cpp's name, `folder / tensors / NAME.npy`: Q4_0 as bytes."""
    place = folder / "tensors"
    if place.exists():
        return
    place.mkdir(parents=True)
    model = onnx.load(ours / "decoder.onnx")
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    scales = {node.input[0]: node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for name, tensor in held.items():
        their = _name(name)
        if their and name in scales:
            numbers = numpy_helper.to_array(tensor).astype(np.int8)
            np.save(place / f"{their}.npy", q4_0(numbers, numpy_helper.to_array(held[scales[name]])))
        elif their:
            np.save(place / f"{their}.npy", numpy_helper.to_array(tensor))
    shape = (TEXT.vocab, TEXT.hidden)
    np.save(place / "token_embd.weight.npy", np.fromfile(ours / "embed_tokens.bin", np.float16).reshape(shape))


def q4_0(numbers: NDArray[np.int8], scales: Array) -> NDArray[np.uint8]:
    """Bytes `[outputs, inputs / 32 * 18]` of whole numbers -8..7 `[inputs, outputs]` and their scales.

    A block is its scale in float16, then byte j with number j + 8 in its low half and number j + 16, plus 8, in its
    high one (ggml's `block_q4_0`).
    """
    blocks = (numbers.T.reshape(numbers.shape[1], -1, BLOCK) + 8).astype(np.uint8)
    halves = blocks[..., : BLOCK // 2] | blocks[..., BLOCK // 2 :] << 4
    stored = np.ascontiguousarray(scales.T.astype(np.float16))[..., None].view(np.uint8)
    return np.concatenate([stored, halves], 2).reshape(len(blocks), -1)


def _name(ours: str) -> str | None:
    if ours in _OUTSIDE:
        return _OUTSIDE[ours]
    words = ours.split(".")
    if words[:2] != ["decoder", "layers"]:
        return None
    return f"blk.{words[2]}.{_PARTS[words[3]]}.{words[4]}"
