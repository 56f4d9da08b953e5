"""A tiny video LLM in numpy, which needs no torch: its weights by seed, and what it says of a whole sequence.

It has what a language model has, in its plainest form: grouped-query attention, a gated MLP, positions added as sines.
Nothing is cached or cut into calls here, so that what does both can be held against it; `toy_graphs` are its graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.runtime import Array

Weights = Mapping[str, Array]

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INNER = 2, 32, 4, 2, 8, 48
VISION, PATCH_VALUES, MERGED = 24, 588, 4
RANK = 4
LORA_LINEARS = {"q": (HIDDEN, HEADS * HEAD_DIM), "v": (HIDDEN, KV_HEADS * HEAD_DIM)}
LINEARS = {
    "q": (HIDDEN, HEADS * HEAD_DIM),
    "k": (HIDDEN, KV_HEADS * HEAD_DIM),
    "v": (HIDDEN, KV_HEADS * HEAD_DIM),
    "o": (HEADS * HEAD_DIM, HIDDEN),
    "gate": (HIDDEN, INNER),
    "up": (HIDDEN, INNER),
    "down": (INNER, HIDDEN),
}
EPSILON = 1e-5


def decoder_weights(spoken: int, vocabulary: int, seed: int) -> dict[str, Array]:
    """Matrices large enough to matter. Tokens from `spoken` on have a logit of 0, which many before them exceed."""
    random = np.random.default_rng(seed)
    found = {
        f"layers.{layer}.{name}": 1.5 * _matrix(random, *sizes)
        for layer in range(LAYERS)
        for name, sizes in LINEARS.items()
    }
    found["frequencies"] = np.geomspace(3.0, 0.03, HIDDEN).astype(np.float32)
    found["phases"] = random.uniform(0, np.pi, HIDDEN).astype(np.float32)
    found["head"] = 4 * _matrix(random, HIDDEN, vocabulary)
    found["head"][:, spoken:] = 0
    return found


def lora_weights(seed: int) -> dict[str, Array]:
    """Values of the LoRA inputs by their names."""
    random = np.random.default_rng(seed)
    found = {}
    for layer in range(LAYERS):
        for name, (inputs, outputs) in LORA_LINEARS.items():
            found[f"lora.{layer}.{name}.a"] = _matrix(random, inputs, RANK)
            found[f"lora.{layer}.{name}.b"] = 2 * _matrix(random, RANK, outputs)
    return found


def vision_weights(seed: int) -> dict[str, Array]:
    return {"patch_embedding": 4 * _matrix(np.random.default_rng(seed), PATCH_VALUES, VISION)}


def projector_weights(seed: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {"inner": 2 * _matrix(random, VISION, HIDDEN), "outer": 2 * _matrix(random, HIDDEN, HIDDEN)}


def _matrix(random: np.random.Generator, inputs: int, outputs: int) -> Array:
    return np.asarray(random.standard_normal((inputs, outputs)) / np.sqrt(inputs), np.float32)


class NumpyModel(NamedTuple):
    """The model without graphs, chunks or caches."""

    vision: Weights
    projector: Weights
    decoder: Weights
    lora: Weights

    def tokens(self, patches: Array) -> Array:
        """`[frames, patches / 4, VISION]` of normalised `patches [frames, patches, PATCH_VALUES]`."""
        shown = np.tanh(patches @ self.vision["patch_embedding"])
        return np.mean(shown.reshape(len(patches), -1, MERGED, VISION), 2)

    def images(self, tokens: Array) -> Array:
        return np.tanh(tokens @ self.projector["inner"]) @ self.projector["outer"]

    def logits(self, embeds: Array) -> Array:
        """Logits `[vocabulary]` after the last of the rows `embeds [n, HIDDEN]`, which are one whole sequence."""
        count = len(embeds)
        x = embeds + np.sin(np.arange(count)[:, None] * self.decoder["frequencies"] + self.decoder["phases"])
        seen = np.tril(np.ones((count, count), bool))
        for layer in range(LAYERS):
            x = self._layer(x, layer, seen)
        found: Array = _normalised(x[-1]) @ self.decoder["head"]
        return found

    def _layer(self, x: Array, layer: int, seen: NDArray[np.bool_]) -> Array:
        y = _normalised(x)
        query, key, value = (
            self._linear(y, layer, name).reshape(len(x), -1, HEAD_DIM).transpose(1, 0, 2) for name in "qkv"
        )
        key, value = (np.repeat(each, HEADS // KV_HEADS, 0) for each in (key, value))
        scores = np.where(seen, query @ key.transpose(0, 2, 1) / np.sqrt(HEAD_DIM), -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        found = (shares / shares.sum(-1, keepdims=True)) @ value
        x = x + self._linear(found.transpose(1, 0, 2).reshape(len(x), -1), layer, "o")
        y = _normalised(x)
        gate = self._linear(y, layer, "gate")
        return x + self._linear(gate / (1 + np.exp(-gate)) * self._linear(y, layer, "up"), layer, "down")

    def _linear(self, x: Array, layer: int, name: str) -> Array:
        found: Array = x @ self.decoder[f"layers.{layer}.{name}"]
        if f"lora.{layer}.{name}.a" in self.lora:
            found = found + x @ self.lora[f"lora.{layer}.{name}.a"] @ self.lora[f"lora.{layer}.{name}.b"]
        return found


def _normalised(x: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
