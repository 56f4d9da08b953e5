"""Prefill and greedy decoding over anything that runs one call of the decoder, as a device would do it.

The mask, the slots and the padding are written down here from the contract and not taken from the export code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from checkpoint_makers import video_inputs
from torch import Tensor

from edge_sdk.runtime import Array, Feeds
from edge_sdk.types import TensorSpec


class Caller(Protocol):
    """One call of the decoder, its cache kept inside."""

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Outputs that are not state, from the inputs that are not state."""


class EagerCaller:
    """The decoder's module with its cache: outputs replace it (native) or are written into it (decomposed)."""

    def __init__(self, decoder: Any, slots: int, lora: Mapping[str, Tensor] | None = None, fill: float = 0.0) -> None:
        config = decoder.config
        shape = (1, config.kv_heads, slots, config.head_dim)
        self.decoder, self.lora = decoder, dict(lora or {})
        self.past = {f"past_{p}.{i}": torch.full(shape, fill) for i in range(config.layers) for p in ("key", "value")}

    @torch.inference_mode()
    def run(self, feeds: Feeds) -> dict[str, Array]:
        given = {name: torch.from_numpy(array) for name, array in feeds.items()}
        found = self.decoder({**given, **self.past, **self.lora})
        start, length = int(feeds["write_index"][0]), feeds["embeds"].shape[1]
        for name in self.past:
            if self.decoder.dialect == "native":
                self.past[name] = found[name.replace("past", "present")]
            else:
                self.past[name][:, :, start : start + length] = found[name.replace("past", "new")]
        return {"logits": found["logits"].numpy()}


class Loop:
    """A sequence in a cache of `slots`, given in calls of `width` tokens, the last one padded with noise."""

    def __init__(self, caller: Caller, slots: int, width: int) -> None:
        self.caller, self.slots, self.width, self.used = caller, slots, width, 0

    def extend(self, embeds: Array) -> Array:
        """Logits of every token of `embeds [n, hidden]`."""
        found = [self._call(embeds[start : start + self.width]) for start in range(0, len(embeds), self.width)]
        return np.concatenate(found)

    def greedy(self, embeds: Array, table: Array, count: int) -> list[int]:
        """The `count` most likely tokens after `embeds`, one by one."""
        tokens = [int(self.extend(embeds)[-1].argmax())]
        while len(tokens) < count:
            tokens.append(int(self.extend(table[tokens[-1:]])[-1].argmax()))
        return tokens

    def _call(self, embeds: Array) -> Array:
        count, padded = len(embeds), np.full((self.width, embeds.shape[1]), 3.0, embeds.dtype)
        padded[:count] = embeds
        mask = np.zeros((1, 1, self.width, self.slots), bool)
        for row in range(self.width):
            mask[0, 0, row, : self.used + row + 1] = row < count
        mask[0, 0, count:, self.used] = True
        positions = np.full((1, self.width), self.used)
        positions[0, :count] += np.arange(count)
        feeds = {"embeds": padded[None], "position_ids": positions, "mask": mask}
        feeds |= {"write_index": np.array([self.used]), "rows": np.arange(count)}
        self.used += count
        return self.caller.run(feeds)["logits"]


def scattered_feeds(specs: Sequence[TensorSpec], *, start: int = 6, seed: int = 0) -> dict[str, Tensor]:
    """One call in the middle of a full cache: live slots on both sides, any mask, any positions, some rows twice.

    `specs` are the decoder's inputs. As branches of one prefix would have it; every row attends slot 0 at least.
    """
    generator = torch.Generator().manual_seed(seed)
    feeds: dict[str, Tensor] = {}
    for spec in specs:
        shape = [{"q": 5, "r": 4}.get(str(d), d) for d in spec.shape]
        feeds[spec.name] = torch.randn([int(length) for length in shape], generator=generator)
    feeds["mask"] = feeds["mask"] > 0
    feeds["mask"][..., 0] = True
    feeds["position_ids"] = torch.randint(1000, (1, 5), generator=generator)
    feeds["write_index"], feeds["rows"] = torch.tensor([start]), torch.tensor([4, 0, 2, 0])
    return feeds


@torch.no_grad()
def lively(model: Any, gain: float = 8.0) -> Any:
    """`model` with larger matrices in its layers: as initialised, a tiny model hardly attends, and proves nothing."""
    for name, parameter in model.named_parameters():
        if ".layers." in name and parameter.ndim == 2:
            parameter.mul_(gain)
    return model


@torch.no_grad()
def oracle_embeds(model: Any) -> Array:
    """What transformers' decoder is given for `video_inputs`, `[tokens, hidden]`."""
    inputs = video_inputs(model)
    embeds = model.get_input_embeddings()(inputs["input_ids"])[0]
    video = {name: value for name, value in inputs.items() if "video" in name}
    features = model.model.get_video_features(**video, return_dict=True).pooler_output
    embeds[inputs["input_ids"][0] == model.config.video_token_id] = torch.cat(tuple(features))
    found: Array = embeds.numpy()
    return found


@torch.no_grad()
def oracle_tokens(model: Any, count: int) -> list[int]:
    """transformers' own greedy answer to `video_inputs`, never ended early."""
    inputs = video_inputs(model)
    generated = model.generate(
        **inputs, max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0, use_cache=True
    )
    return [int(token) for token in generated[0, inputs["input_ids"].shape[1] :]]
