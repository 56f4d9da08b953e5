"""Joint training of tower and decoder: one loss on words, and others on heads that are dropped later.

For a long time, words alone teach nothing about the picture: a model that ignores it soon gives the most common answer,
and the picture could improve on that only by a faint signal in a word or two per clip. The heads predict for each token
which vehicle it shows, how that moves and whether it is one of a crash, and for each frame whether a crash has begun.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_sdk.export.mini.examples import NO_TARGET
from edge_sdk.export.mini.model import Tower, merge
from edge_sdk.export.mini.packed import packed_states
from edge_sdk.export.mini.recipe import Auxiliary
from edge_sdk.export.mini.seeing import SCALE, TowerHeads, blank_head
from edge_sdk.export.mini.training import Batch

_MOMENTS, _PLACES, _EDGES, _MOTION = 3, 2, 4, 3


class SpeakingLearner(nn.Module):
    """A model with its heads. A batch holds `collate`'s entries and `patches` uint8 `[batch, frames, patches, 588]`.

    Without `auxiliary` the loss is on words alone. A copy of `frozen`, a vision tower, runs in place of the model's own
    tower and is not trained: in that one peft would compute a LoRA without effect at every step.
    """

    # Any: a transformers model, or peft's wrapper of one; a vision tower.
    def __init__(
        self,
        model: Any,
        tower: Tower,
        hidden: int,
        image: int,
        auxiliary: Auxiliary | None = None,
        frozen: Any = None,
    ) -> None:
        super().__init__()
        self.model, self._tower, self._image, self._auxiliary = model, tower, image, auxiliary
        self.frozen = None if frozen is None else copy.deepcopy(frozen).requires_grad_(False)
        if auxiliary:
            self.tower_heads = TowerHeads(hidden)
            self.moment_head = blank_head(hidden, _MOMENTS)
            self.token_head = blank_head(hidden, _PLACES + _EDGES + _MOTION)

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        states, hidden = self._run(batch)
        wanted = batch["targets"] != NO_TARGET
        logits = self.model.lm_head(hidden[wanted])
        said = functional.cross_entropy(logits.float(), batch["targets"][wanted], reduction="none")
        loss = (said * batch["weights"][wanted]).sum() / batch["weights"].sum()
        if not self._auxiliary:
            return loss
        return loss + self._beside(self._auxiliary, states, hidden, batch)

    def hidden(self, batch: Batch) -> Tensor:
        """Last hidden states `[batch, n, hidden]`."""
        return self._run(batch)[1]

    def _run(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The tower's states of all patches, and the decoder's last ones."""
        inner = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        vision = inner.model.vision_model if self.frozen is None else self.frozen
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.frozen is None):
            states = self._tower.patches_to_states(vision, batch["patches"].flatten(0, 1))
        decoder = inner.model.language_model
        embeds = decoder.embed_tokens(batch["ids"])
        rows = inner.model.projector(merge(states)).flatten(0, -2)
        embeds = embeds.masked_scatter((batch["ids"] == self._image)[..., None], rows.to(embeds.dtype))
        return states, packed_states(decoder, embeds, batch["positions"], batch["branches"])

    def _beside(self, auxiliary: Auxiliary, states: Tensor, hidden: Tensor, batch: Batch) -> Tensor:
        loss = auxiliary.patches * self.tower_heads(states.unflatten(0, batch["patches"].shape[:2]), batch)
        ends = hidden.gather(1, batch["frame_ends"][..., None].expand(-1, -1, hidden.shape[2]))
        moments = functional.binary_cross_entropy_with_logits(self.moment_head(ends).float(), batch["moments"])
        loss = loss + auxiliary.moments * moments
        said = self.token_head(hidden[batch["ids"] == self._image]).float()
        places, edges, motion = said.split((_PLACES, _EDGES, _MOTION), -1)
        crash = functional.binary_cross_entropy_with_logits(places, batch["places"].flatten(0, 1))
        loss = loss + auxiliary.places * crash
        boxes = _mean_apart(edges, SCALE * batch["edges"], batch["shown"])
        told: Tensor = loss + auxiliary.tokens * (boxes + _mean_apart(motion, batch["motion"], batch["moved"]))
        return told


def _mean_apart(said: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Mean distance between the rows of `said` and `truth [batch, n, k]` whose truth is known."""
    weights = known.flatten()
    apart = functional.smooth_l1_loss(said, truth.flatten(0, 1), reduction="none", beta=0.05).mean(-1)
    return (apart * weights).sum() / weights.sum().clamp(min=1)
