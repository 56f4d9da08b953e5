"""The seeded cases of an export's references: the inputs of each part of the model, laid out for a graph.

A picture has structure, and half of it stands still, so that compression has something to drop. The decoder's case is
one call after empty slots, as two branches of one prefix would have it, with rows of the model's own embedding table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_sdk.bundle.manifest import Graph
from edge_sdk.bundle.manifest_language import VisionProfile
from edge_sdk.export.adapters import Adapter
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.eager import Call, embedding_rows, empty_cache
from edge_sdk.export.graphs.decoder_io import past_names
from edge_sdk.reasoning.patches import patchify
from edge_sdk.runtime import Array
from edge_sdk.verify.reference_files import ChainCase

TOP = 16
# The decoder's case: tokens of the call, slots before it, and the rows whose logits are compared.
_TOKENS, _START, _ROWS = 5, 3, (4, 2)
_POSITIONS = (100, 101, 102, 103, 103)


@dataclass(frozen=True, eq=False)
class Values:
    """A graph's inputs and outputs by name; `inputs_from` is the file of the bundle that holds its LoRA inputs."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    inputs_from: str | None = None


def moving_squares(random: np.random.Generator, profile: VisionProfile, frames: int, patch: int) -> NDArray[np.uint8]:
    """Patches `[frames, patches, values]` of coloured squares under noise; the left half is that of the first frame."""
    height, width, side = profile.height, profile.width, patch // 2
    pictures = np.empty((frames, height, width, 3), np.uint8)
    for index in range(frames):
        squares = random.integers(32, 224, (-(-height // side), -(-width // side), 3))
        picture = squares.repeat(side, 0).repeat(side, 1)[:height, :width]
        pictures[index] = picture + random.integers(-16, 17, (height, width, 3))
        pictures[index, :, : width // 2] = pictures[0, :, : width // 2]
    return patchify(pictures, patch)


def decoder_call(random: np.random.Generator, weights: Weights, adapter: Adapter | None) -> Call:
    """The decoder's case, with values that float16 can hold. The last token does not attend the one before it."""
    config, slots = weights.config.text, _START + _TOKENS
    mask = np.arange(slots) <= np.arange(_START, slots)[:, None]
    mask[_TOKENS - 1, slots - 2] = False
    feeds = {
        "embeds": embedding_rows(weights, random.integers(0, config.vocab, _TOKENS)).half().float()[None],
        "position_ids": torch.tensor([_POSITIONS]),
        "mask": torch.from_numpy(mask)[None, None],
        "write_index": torch.tensor([_START]),
        "rows": torch.tensor(_ROWS),
    }
    return Call(feeds, empty_cache(config, slots), adapter)


def decoder_values(graph: Graph, call: Call, logits: Tensor, lora: str | None) -> Values:
    """The case for a graph with any number of slots and either kind of state, after `call` has been computed."""
    slots = next(int(spec.shape[3]) for spec in graph.inputs if spec.name == "mask")
    inputs = {name: tensor.numpy() for name, tensor in call.feeds.items()}
    mask = np.zeros((1, 1, _TOKENS, slots), bool)
    mask[..., : inputs["mask"].shape[3]] = inputs["mask"]
    inputs |= {"mask": mask, "embeds": inputs["embeds"].astype(np.float16)}
    return Values(inputs, {"logits": logits.numpy(), **dict(_cached(graph, call, slots))}, lora)


def _cached(graph: Graph, call: Call, slots: int) -> Iterator[tuple[str, Array]]:
    """Cache outputs of the first and the last layer after the call."""
    wanted: dict[str, Tensor] = {}
    for layer in (0, len(call.past) - 1):
        wanted |= zip(past_names(layer), call.past[layer], strict=True)
    for entry in graph.state:
        if entry.input in wanted:
            rows = wanted[entry.input][:, :, _START:].numpy()
            if entry.kind == "alias":
                whole = np.zeros((*rows.shape[:2], slots, rows.shape[3]), np.float32)
                whole[:, :, _START : _START + _TOKENS] = rows
                rows = whole
            yield entry.output, rows


def answer_case(clip: NDArray[np.uint8], ids: NDArray[np.int64], logits: Array, forced: Array | None) -> ChainCase:
    """The case of a clip and a prompt, from the logits `[steps, vocab]`; `forced` are the tokens that were fed in."""
    top_ids = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    return ChainCase(
        patches=clip,
        ids=ids,
        tokens=top_ids[:, 0].copy() if forced is None else forced,
        top_ids=top_ids,
        top_logits=np.take_along_axis(logits, top_ids, 1),
    )
