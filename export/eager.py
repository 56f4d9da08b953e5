"""The model in float32 with one layer in memory at a time: the reference for models larger than the memory.

The modules are those of `graphs`. Several calls run together, so that each layer is read once for all of them:
a layer of the 7B takes 1 GB in float32, and all of its layers 26 GB. Each layer is loaded into the memory of the
previous one, because allocating fresh memory takes ten times as long as filling in the values. `encode`, `project`
and `head_logits` compute on the device that holds their inputs, `decode` on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edge_sdk.export.adapters import Adapter
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.device import CPU
from edge_sdk.export.graphs.decoder import DecoderLayer, Pair, TextStep, text_rope
from edge_sdk.export.graphs.loading import load, round_inputs, source_name
from edge_sdk.export.graphs.projector import Projector
from edge_sdk.export.graphs.vision import MERGE, Grid, VisionLayer, grid_rope
from edge_sdk.export.layouts import EMBEDDING, HEAD, LINEARS
from edge_sdk.export.model_config import TextConfig

# Called when a layer is done.
OnLayer = Callable[[], None]
Watch = Callable[[int, nn.Module], AbstractContextManager[None]]

_HEAD_BYTES = 1 << 28


@dataclass(eq=False)
class Call:
    """One call of the decoder, with the KV cache that it reads and updates.

    `feeds` are the inputs of `decoder_io` that are neither cache nor LoRA. `past` has a pair for each layer, with as
    many slots as `mask` is wide. `adapter` is applied beside the weights.
    """

    feeds: Mapping[str, Tensor]
    past: list[Pair]
    adapter: Adapter | None = None


class Line:
    """One sequence with its own cache."""

    def __init__(self, config: TextConfig, slots: int, adapter: Adapter | None = None) -> None:
        self._slots, self._adapter, self._used = slots, adapter, 0
        self._past = empty_cache(config, slots)

    def call(self, embeds: Tensor) -> Call:
        """The call that appends `embeds [n, hidden]` and gives the logits after the last row."""
        places = torch.arange(self._used, self._used + len(embeds))
        self._used += len(embeds)
        feeds = {
            "embeds": embeds[None],
            "position_ids": places[None],
            "mask": (torch.arange(self._slots) <= places[:, None])[None, None],
            "write_index": places[:1],
            "rows": torch.tensor([len(embeds) - 1]),
        }
        return Call(feeds, self._past, self._adapter)


def empty_cache(config: TextConfig, slots: int) -> list[Pair]:
    """Zeros for `slots` tokens in each layer."""
    return [empty_layer_cache(config, slots) for _ in range(config.layers)]


def empty_layer_cache(config: TextConfig, slots: int, device: torch.device = CPU) -> Pair:
    """Zeros for `slots` tokens in one layer."""
    shape = (1, config.kv_heads, slots, config.head_dim)
    return torch.zeros(shape, device=device), torch.zeros(shape, device=device)


@torch.inference_mode()
def encode(
    weights: Weights, clips: Sequence[tuple[Grid, Tensor]], on_layer: OnLayer, watch: Watch | None = None
) -> list[Tensor]:
    """Vision tokens `[frames, tokens, width]` of each clip, a grid and normalised `patches [frames, patches, 588]`.

    `watch` is entered with the number and the module of each layer while the layer computes.
    """
    config, device = weights.config.vision, clips[0][1].device
    embed = load(weights, "vision.patch_embedding.", partial(nn.Linear, config.patch_values, config.hidden)).to(device)
    states = [embed(patches) for _, patches in clips]
    ropes = [tuple(table.to(device) for table in grid_rope(config, grid)) for grid, _ in clips]
    for index, layer in enumerate(_layers(weights, "vision", config.layers, partial(VisionLayer, config), device)):
        with watch(index, layer) if watch else nullcontext():
            states = [
                torch.cat([layer(frame, *rope) for frame in state.split(1)])
                for state, rope in zip(states, ropes, strict=True)
            ]
        on_layer()
    norm = load(weights, "vision.norm.", partial(nn.LayerNorm, config.hidden, config.eps)).to(device)
    return [norm(state).unflatten(1, (-1, MERGE**2)).mean(2) for state in states]


@torch.inference_mode()
def project(weights: Weights, tokens: Sequence[Tensor]) -> list[Tensor]:
    """The decoder's rows `[n, hidden]` for each `tokens [n, width]`."""
    projector = load(weights, "projector.", partial(Projector, weights.config.projector)).to(tokens[0].device)
    return [projector(rows) for rows in tokens]


@torch.inference_mode()
def decode(weights: Weights, calls: Sequence[Call], on_layer: OnLayer) -> list[Tensor]:
    """Logits `[rows, vocab]` of each call; each call's cache is replaced by the updated one."""
    config, rope = weights.config.text, text_rope(weights.config.text)
    states = [call.feeds["embeds"] for call in calls]
    steps = [TextStep.of(call.feeds, rope, "native") for call in calls]
    for index, layer in enumerate(_layers(weights, "decoder", config.layers, partial(DecoderLayer, config))):
        for at, call in enumerate(calls):
            states[at], call.past[index] = layer(
                states[at], steps[at], call.past[index], lora_pairs(call.adapter, index)
            )
        on_layer()
    norm = load(weights, "decoder.norm.", partial(nn.RMSNorm, config.hidden, config.eps))
    wanted = [norm(state[0].index_select(0, call.feeds["rows"])) for state, call in zip(states, calls, strict=True)]
    return head_logits(weights, wanted)


def embedding_rows(weights: Weights, ids: NDArray[np.int64]) -> Tensor:
    """Rows of the embedding table `[n, hidden]` for `ids [n]`, float32."""
    return weights.tensor(EMBEDDING)[torch.from_numpy(ids)].float()


def _layers(
    weights: Weights, part: str, count: int, build: Callable[[], nn.Module], device: torch.device = CPU
) -> Iterator[nn.Module]:
    """Yield one module again and again, filled with each layer's weights in turn."""
    with torch.device("meta"):
        layer = build()
    layer.to_empty(device=device).eval()
    for index in range(count):
        for name, parameter in layer.named_parameters():
            parameter.copy_(weights.tensor(f"{part}.layers.{index}.{name}"))
        hooks = round_inputs(layer, weights, f"{part}.layers.{index}.")
        yield layer
        for hook in hooks:
            hook.remove()


def head_logits(weights: Weights, states: Sequence[Tensor]) -> list[Tensor]:
    """Logits for each of the normalised `states [rows, hidden]`; the head is cast to float32 block by block."""
    head = weights.tensor(source_name(weights, HEAD))
    rows = max(1, _HEAD_BYTES // (4 * head.shape[1]))
    wide = torch.empty(min(rows, len(head)), head.shape[1], device=states[0].device)
    found: list[list[Tensor]] = [[] for _ in states]
    for block in head.split(rows):
        matrix = wide[: len(block)].copy_(block)
        for logits, state in zip(found, states, strict=True):
            logits.append(functional.linear(state, matrix))
    return [torch.cat(logits, 1) for logits in found]


def lora_pairs(adapter: Adapter | None, layer: int, device: torch.device = CPU) -> dict[str, Pair]:
    """The adapter's matrices for a layer by linear, in the order of multiplication; B includes the scale."""
    pairs = {linear: adapter.lora(layer, linear) for linear in LINEARS} if adapter else {}
    return {
        linear: (pair[0].to(device).float().mT, pair[1].to(device).float().mT * pair[2])
        for linear, pair in pairs.items()
        if pair
    }
