"""The decoder as a torch module with the inputs and outputs of its graphs: their eager reference.

A Qwen2.5 without tokens or growing caches: embeddings are inputs, and the cache has a fixed number of slots that the
caller assigns (see `decoder_io`). It computes in either dialect. The native dialect writes new keys and values into the
cache and attends all of it. The decomposed dialect computes the scores of cached and of new slots separately and joins
them before the softmax, so that the graph only reads the cache and a runtime copies only the new rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_sdk.export.graphs.decoder_io import kept_names, linear_sizes, lora_names, past_names
from edge_sdk.export.graphs.vision import turn
from edge_sdk.export.layouts import LINEARS
from edge_sdk.export.model_config import TextConfig
from edge_sdk.types import Dialect

Pair = tuple[Tensor, Tensor]


def text_rope(config: TextConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position, `[max_positions, head_dim / 2]`, float32.

    Tables, because angles reach tens of thousands of radians, where a device's fast cosine is wrong.
    """
    cpu = torch.device("cpu")  # even inside `torch.device("meta")`
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=cpu) / config.head_dim
    positions = torch.arange(config.max_positions, dtype=torch.float32, device=cpu)
    angles = positions[:, None] * config.rope_theta**-exponents
    return angles.cos(), angles.sin()


@dataclass(frozen=True, eq=False)
class TextStep:
    """Inputs that all layers of a call share; `bias` is 0 where a token may attend, else the type's lowest value."""

    dialect: Dialect
    cos: Tensor
    sin: Tensor
    bias: Tensor
    slots: Tensor

    @classmethod
    def of(cls, feeds: Mapping[str, Tensor], rope: Pair, dialect: Dialect) -> TextStep:
        """The step for a call with the inputs `feeds`; `rope` are the tables of `text_rope`."""
        dtype, positions = feeds["embeds"].dtype, feeds["position_ids"]
        device = positions.device
        return cls(
            dialect=dialect,
            cos=rope[0][positions][:, None].to(dtype),
            sin=rope[1][positions][:, None].to(dtype),
            bias=torch.zeros((), dtype=dtype, device=device).where(feeds["mask"], torch.finfo(dtype).min),
            slots=feeds["write_index"] + torch.arange(positions.shape[1], device=device),
        )

    def attend(self, query: Tensor, new: Pair, past: Pair) -> tuple[Tensor, Pair]:
        """The attention result and the cache output: the whole cache (native) or `new` (decomposed)."""
        if self.dialect == "native":
            key, value = (kept.index_copy(2, self.slots, rows) for kept, rows in zip(past, new, strict=True))
            return attend_grouped(query, key, value, self.bias), (key, value)
        return self._joined(query * query.shape[-1] ** -0.5, new, past), new

    def _joined(self, query: Tensor, new: Pair, past: Pair) -> Tensor:
        group, slots = query.shape[1] // new[0].shape[1], past[0].shape[2]
        keys, values = ([part.repeat_interleave(group, 1) for part in parts] for parts in zip(past, new, strict=True))
        # Mask the cached values in this call's slots: `new` replaces them.
        cached = self.bias.index_fill(3, self.slots, torch.finfo(self.bias.dtype).min)
        biases = (cached, self.bias.index_select(3, self.slots))
        scores = [query @ key.mT + bias for key, bias in zip(keys, biases, strict=True)]
        shares = torch.cat(scores, -1).softmax(-1)
        return shares[..., :slots] @ values[0] + shares[..., slots:] @ values[1]


def attend_grouped(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention of `query [1, heads, q, n]` over `key` and `value [1, kv_heads, slots, n]`, without all scores at once.

    On CUDA the only float32 kernel with a mask needs as many key heads as query heads, so keys and values are repeated.
    Otherwise torch would hold the scores of every head, 11 GB for 10,000 tokens of the 7B.
    """
    if query.is_cuda:
        group = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    return functional.scaled_dot_product_attention(query, key, value, bias, enable_gqa=True)


class Decoder(nn.Module):
    """The decoder in one dialect."""

    def __init__(self, config: TextConfig, dialect: Dialect) -> None:
        super().__init__()
        self.config, self.dialect = config, dialect
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.hidden, config.eps)
        self.lm_head = nn.Linear(config.hidden, config.vocab, bias=False)
        self.cos, self.sin = text_rope(config)

    def forward(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs by name, from the inputs by name; names and shapes are those of `decoder_io`."""
        x = feeds["embeds"]
        step = TextStep.of(feeds, (self.cos, self.sin), self.dialect)
        outputs: dict[str, Tensor] = {}
        for index, layer in enumerate(self.layers):
            key, value = past_names(index)
            x, kept = layer(x, step, (feeds[key], feeds[value]), _lora(feeds, index))
            outputs |= zip(kept_names(index, self.dialect), kept, strict=True)
        wanted = x[0].index_select(0, feeds["rows"])
        return {"logits": self.lm_head(self.norm(wanted)).float(), **outputs}


class DecoderLayer(nn.Module):
    """One decoder layer, computing on `x [1, q, hidden]` and the layer's cached keys and values."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.norm1 = nn.RMSNorm(config.hidden, config.eps)
        self.norm2 = nn.RMSNorm(config.hidden, config.eps)
        for linear, sizes in linear_sizes(config).items():
            self.add_module(linear, nn.Linear(*sizes, bias=linear in ("q", "k", "v")))

    def forward(self, x: Tensor, step: TextStep, past: Pair, lora: Mapping[str, Pair]) -> tuple[Tensor, Pair]:
        """The next `x`, and the cache output of `step.attend`; `past` and `lora` are this layer's."""
        y = self.norm1(x)
        query, key, value = (self._heads(self._linear(part, y, lora)) for part in ("q", "k", "v"))
        new = (turn(key, step.cos, step.sin), value)
        found, kept = step.attend(turn(query, step.cos, step.sin), new, past)
        x = x + self._linear("o", found.transpose(1, 2).flatten(2), lora)
        y = self.norm2(x)
        gate = self._linear("gate", y, lora)
        inner = gate * gate.sigmoid() * self._linear("up", y, lora)
        return x + self._linear("down", inner, lora), kept

    def _linear(self, name: str, x: Tensor, lora: Mapping[str, Pair]) -> Tensor:
        y: Tensor = self.get_submodule(name)(x)
        if name not in lora:
            return y
        a, b = lora[name]
        return y + x @ a @ b

    def _heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(2, (-1, self.head_dim)).transpose(1, 2)
        return heads


def _lora(feeds: Mapping[str, Tensor], layer: int) -> dict[str, Pair]:
    names = {linear: lora_names(layer, linear) for linear in LINEARS}
    return {linear: (feeds[a], feeds[b]) for linear, (a, b) in names.items() if a in feeds}
