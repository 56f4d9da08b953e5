"""The decoder as an ONNX graph: see `decoder` for what it does and `decoder_io` for its inputs and outputs."""

from __future__ import annotations

from edge_sdk.export.graphs.decoder_io import (
    DecoderForm,
    decoder_inputs,
    decoder_outputs,
    decoder_state,
    kept_names,
    lora_names,
    past_names,
)
from edge_sdk.export.graphs.dialects import operators
from edge_sdk.export.graphs.onnx_graph import ModelGraph
from edge_sdk.export.graphs.onnx_ops import Cache, Operators
from edge_sdk.export.graphs.weight_file import WeightFile
from edge_sdk.export.layouts import HEAD
from edge_sdk.export.model_config import TextConfig


def decoder_graph(config: TextConfig, form: DecoderForm, weights: WeightFile) -> ModelGraph:
    """The graph of `form`. Dialects, numbers of slots, and graphs with and without LoRA share one weight file."""
    g = operators(form.dialect, weights)
    g.begin_text(form.slots, config.head_dim)
    x = "embeds"
    for index in range(config.layers):
        x = _layer(g, config, form, x, index)
    g.scope = ""
    wanted = g.op("Gather", g.op("Squeeze", x, g.integers(0)), "rows", axis=0)
    wanted = g.rms_norm(wanted, "decoder.norm.weight", config.eps)
    head = g.weight(HEAD)
    logits = g.op("Gemm", wanted, head, transB=1) if weights.holds_table else g.op("MatMul", wanted, head)
    g.cast(logits, "float32", output="logits")
    return g.finish(
        "decoder", decoder_inputs(config, form), decoder_outputs(config, form), decoder_state(config, form.dialect)
    )


def _layer(g: Operators, config: TextConfig, form: DecoderForm, x: str, index: int) -> str:
    name = f"decoder.layers.{index}"
    g.scope = f"layers.{index}."

    def linear(y: str, part: str) -> str:
        lora = lora_names(index, part) if part in form.linears else None
        return g.linear(y, f"{name}.{part}", bias=part in ("q", "k", "v"), lora=lora)

    y = g.rms_norm(x, f"{name}.norm1.weight", config.eps)
    query = g.turn_text(g.heads(linear(y, "q"), config.heads, config.head_dim))
    key = g.turn_text(g.heads(linear(y, "k"), config.kv_heads, config.head_dim))
    value = g.heads(linear(y, "v"), config.kv_heads, config.head_dim)
    cache = Cache(past_names(index), kept_names(index, form.dialect))
    found = g.attend_cache(query, (key, value), cache, (config.heads, config.kv_heads, config.head_dim))
    x = g.op("Add", x, linear(g.joined_heads(found, config.heads * config.head_dim), "o"))
    y = g.rms_norm(x, f"{name}.norm2.weight", config.eps)
    inner = g.op("Mul", g.silu(linear(y, "gate")), linear(y, "up"))
    return g.op("Add", x, linear(inner, "down"))
