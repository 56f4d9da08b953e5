"""The decoder learns to speak of what the tower saw: one loss on words, and two beside it that are dropped later.

The heads beside the words say, of each frame, whether a crash goes on, has begun, or was foreseeable by then, and of
each image token whether it shows a vehicle of the crash. A word or two a clip is little to learn from; these are
hundreds of numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edge_sdk.export.mini.examples import MOMENTS, NO_TARGET, PLACES, branch_mask
from edge_sdk.export.mini.model import Tower, merge
from edge_sdk.export.mini.recipe import Auxiliary
from edge_sdk.export.mini.training import Batch

_NONE = Auxiliary(moments=0.0, places=0.0)
_CHUNK = 96


class SpeakingLearner(nn.Module):
    """A model with its heads. A batch holds `tokens` of the tower, or `patches` where the tower is trained too."""

    # Any: a transformers model, or peft's wrapper of one.
    def __init__(self, model: Any, tower: Tower, hidden: int, image: int, auxiliary: Auxiliary | None = None) -> None:
        super().__init__()
        self.model, self._tower, self._image = model, tower, image
        self._auxiliary = auxiliary or _NONE
        if auxiliary:
            self.moment_head, self.place_head = nn.Linear(hidden, MOMENTS), nn.Linear(hidden, PLACES)

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch of `collate`."""
        hidden = self.hidden(batch)
        wanted = batch["targets"] != NO_TARGET
        logits = self.model.lm_head(hidden[wanted])
        said = functional.cross_entropy(logits.float(), batch["targets"][wanted], reduction="none")
        loss = (said * batch["weights"][wanted]).sum() / batch["weights"].sum()
        if self._auxiliary.moments:
            ends = hidden.gather(1, batch["frame_ends"][..., None].expand(-1, -1, hidden.shape[2]))
            moments = functional.binary_cross_entropy_with_logits(self.moment_head(ends), batch["moments"])
            loss = loss + self._auxiliary.moments * moments
        if self._auxiliary.places:
            shown = self.place_head(hidden[batch["ids"] == self._image])
            places = functional.binary_cross_entropy_with_logits(shown, batch["places"].flatten(0, 1))
            loss = loss + self._auxiliary.places * places
        return loss

    def hidden(self, batch: Batch) -> Tensor:
        """Last hidden states `[batch, n, hidden]`."""
        inner = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        embeds = inner.model.language_model.embed_tokens(batch["ids"])
        rows = inner.model.projector(self._tokens(inner, batch)).flatten(0, -2)
        embeds = embeds.masked_scatter((batch["ids"] == self._image)[..., None], rows.to(embeds.dtype))
        found: Tensor = inner.model.language_model(
            inputs_embeds=embeds,
            attention_mask=branch_mask(batch["branches"]),
            position_ids=batch["positions"],
            use_cache=False,
        ).last_hidden_state
        return found

    def _tokens(self, inner: Any, batch: Batch) -> Tensor:
        if "tokens" in batch:
            return batch["tokens"]
        return merge(self._tower.patches_to_states(inner.model.vision_model, batch["patches"].flatten(0, 1)))


class Features:
    """Tokens of a frozen tower by picture, float16, worked out when first asked for and kept in a file.

    A file of one byte a picture says which are there; a run that is killed between the two works a picture out again.
    """

    # Any: a transformers tower.
    def __init__(self, vision: Any, tower: Tower, patches: NDArray[np.uint8], hidden: int, path: Path) -> None:
        self._vision, self._tower, self._patches = vision, tower, patches
        shape = (len(patches), tower.grid.tokens, hidden)
        path.parent.mkdir(parents=True, exist_ok=True)
        known = path.with_suffix(".known")
        new = not (path.is_file() and known.is_file())
        self._tokens = np.memmap(path, np.float16, "w+" if new else "r+", shape=shape)
        self._known = np.memmap(known, np.bool_, "w+" if new else "r+", shape=(len(patches),))

    def __call__(self, pictures: NDArray[np.int64], device: torch.device | str = "cpu") -> Tensor:
        """Tokens float32 `[..., tokens, hidden]` of pictures `[...]`, by their numbers in the cache."""
        asked = np.unique(pictures)
        missing = asked[~self._known[asked]]
        for begin in range(0, len(missing), _CHUNK):
            some = missing[begin : begin + _CHUNK]
            given = torch.from_numpy(self._patches[some]).to(device)
            with torch.inference_mode():
                found = merge(self._tower.patches_to_states(self._vision, given))
            self._tokens[some] = found.half().cpu().numpy()
            self._known[some] = True
        return torch.from_numpy(self._tokens[pictures].astype(np.float32))


def with_tokens(batch: Batch, features: Callable[[NDArray[np.int64]], Tensor]) -> dict[str, Tensor]:
    """The batch with the tower's tokens in it."""
    return {**batch, "tokens": features(batch["pictures"].numpy())}
