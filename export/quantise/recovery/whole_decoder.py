"""A decoder with all its layers in memory, which answers the clips for recovery and passes gradients.

Weights are float32 and frozen. The backward pass computes a layer's activations again, so that memory holds only the
rows between layers and one layer's activations.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.eager import empty_layer_cache
from edge_sdk.export.graphs.decoder import DecoderLayer, Pair, TextStep, text_rope
from edge_sdk.export.graphs.loading import load, source_name
from edge_sdk.export.layouts import HEAD
from edge_sdk.export.quantise.answers import Asked
from edge_sdk.export.quantise.sequences import Sequence as Tokens

LayerPairs = Sequence[Mapping[str, Pair]]
"""LoRA matrices by layer and linear, A `[inputs, rank]` and B `[rank, outputs]`, the scale in B."""


class WholeDecoder:
    """The decoder of `weights` on `device`, including its head."""

    def __init__(self, weights: Weights, device: torch.device) -> None:
        """Raises `CheckpointError` for weights that are not finite."""
        self._text, self._device = weights.config.text, device
        self._layers = [
            load(weights, f"decoder.layers.{index}.", partial(DecoderLayer, self._text)).to(device)
            for index in range(self._text.layers)
        ]
        norm = partial(nn.RMSNorm, self._text.hidden, self._text.eps)
        self._norm = load(weights, "decoder.norm.", norm).to(device)
        self._head = weights.tensor(source_name(weights, HEAD)).to(device).float()
        cos, sin = text_rope(self._text)
        self._rope = (cos.to(device), sin.to(device))

    def states(self, tokens: Tokens, lora: LayerPairs) -> Tensor:
        """Normalised states `[rows, hidden]` float32 at the sequence's `rows`, on the device.

        Gradients go to `lora`.
        """
        given = tokens.to(self._device)
        step = TextStep.of(given.call([]).feeds, self._rope, "native")
        past = empty_layer_cache(self._text, len(given.embeds), self._device)
        state = given.embeds[None]
        for layer, pairs in zip(self._layers, lora, strict=True):
            state = checkpoint(_first_of(layer), state, step, past, pairs, use_reentrant=False)
        return self._normed(state[0, given.rows])

    def logits(self, states: Tensor) -> Tensor:
        """Logits `[rows, vocab]` float32 of normalised states `[rows, hidden]`."""
        return functional.linear(states.to(self._device), self._head)

    @torch.inference_mode()
    def answer(self, tokens: Tokens, lora: LayerPairs, table: Tensor, end: Collection[int], most: int) -> list[Tensor]:
        """The greedy answer to each question of a sequence, ids `[at most `most`]` int64 up to one of `end`.

        `table [vocab, hidden]` has the tokens' embeddings. All answers continue together until the last has ended.
        """
        asked, given = Asked.of(tokens), tokens.to(self._device)
        caches = [empty_layer_cache(self._text, len(given.embeds), self._device) for _ in self._layers]
        state = self._through(given.embeds[None], given.call([]).feeds, lora, caches)[:, asked.ends]
        said: list[Tensor] = []
        live = torch.ones(len(asked.ends), dtype=torch.bool)
        while live.any() and len(said) < most:
            said.append(self.logits(self._normed(state[0])).argmax(1).cpu())
            live &= ~torch.isin(said[-1], torch.tensor(sorted(end)))
            if live.any() and len(said) < most:
                self._make_room(caches, len(asked.ends))
                rows = table[said[-1]].float()[None]
                feeds = {name: each.to(self._device) for name, each in asked.feeds(rows, len(said)).items()}
                state = self._through(feeds["embeds"], feeds, lora, caches)
        return [_cut(ids, end) for ids in torch.stack(said, 1)]

    def _through(self, state: Tensor, feeds: Mapping[str, Tensor], lora: LayerPairs, caches: list[Pair]) -> Tensor:
        step = TextStep.of(feeds, self._rope, "native")
        for index, (layer, pairs) in enumerate(zip(self._layers, lora, strict=True)):
            state, caches[index] = layer(state, step, caches[index], pairs)
        return state

    def _make_room(self, caches: list[Pair], count: int) -> None:
        room = empty_layer_cache(self._text, count, self._device)
        for index, (key, value) in enumerate(caches):
            caches[index] = torch.cat([key, room[0]], 2), torch.cat([value, room[1]], 2)

    def _normed(self, state: Tensor) -> Tensor:
        found: Tensor = self._norm(state)
        return found


def _first_of(layer: DecoderLayer) -> Callable[[Tensor, TextStep, Pair, Mapping[str, Pair]], Tensor]:
    def run(state: Tensor, step: TextStep, past: Pair, pairs: Mapping[str, Pair]) -> Tensor:
        found: Tensor = layer(state, step, past, pairs)[0]
        return found

    return run


def _cut(ids: Tensor, end: Collection[int]) -> Tensor:
    """Cut an answer after its first end token."""
    ends = torch.nonzero(torch.isin(ids, torch.tensor(sorted(end))))
    return ids[: int(ends[0]) + 1] if len(ends) else ids
