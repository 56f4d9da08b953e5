"""Answers of a model in training: plain greedy decoding for the six questions, with one prefix computed for all.

The reference answers in the same way (no sampling, the whole vocabulary, `<|im_end|>` stops). On a device the same
weights answer by forms, so the scores of a bundle come from its own runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from edge_sdk.export.mini.examples import Writer
from edge_sdk.export.mini.libraries import library
from edge_sdk.export.mini.material import Material
from edge_sdk.export.mini.model import Tower, merge
from edge_sdk.export.mini.windows import whole
from edge_sdk.reasoning.grid import Profile
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import find_task

MOST_TOKENS = 96


class Answerer:
    """One model, or one adapter over it; an answer has at most `most` tokens."""

    # Any: a transformers model, or peft's wrapper of one.
    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        writer: Writer,
        profile: Profile,
        tower: Tower,
        most: int = MOST_TOKENS,
    ) -> None:
        self._inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._tokenizer, self._writer, self._profile, self._tower = tokenizer, writer, profile, tower
        self._most = most
        # transformers 5.24 renamed this argument, and warns about the old name.
        known = signature(self._inner.model.language_model.forward).parameters
        self._kept = "cache" if "cache" in known else "past_key_values"
        [self._yes], [self._no] = (tokenizer.encode(word).tolist() for word in ("Yes", "No"))

    @torch.no_grad()
    def answers(self, clip: Material, tasks: Sequence[str]) -> tuple[dict[str, str], float | None]:
        """Answer each of `tasks` for the whole clip; also returns the probability of Yes if recognition is asked.

        That probability compares Yes with No only.
        """
        shot = whole(clip, self._profile)
        ids = torch.from_numpy(self._writer.prefix(shot.stamps_s))[None]
        embeds = self._inner.model.language_model.embed_tokens(ids)
        patches = torch.from_numpy(self._tower.eye.patches(clip.pictures, shot.pictures))
        tokens = merge(self._tower.patches_to_states(self._inner.model.vision_model, patches))
        rows = self._inner.model.projector(tokens).flatten(0, 1)
        image = (ids == self._tokenizer.control.image)[..., None]
        cache = library("transformers").DynamicCache()
        self._call(embeds.masked_scatter(image, rows), cache)
        said, sure = {}, None
        for task in tasks:
            asked = torch.from_numpy(self._writer.question(find_task(task).prompt))[None]
            logits = self._call(self._inner.model.language_model.embed_tokens(asked), cache)
            if task == "recognition":
                sure = float((logits[self._yes] - logits[self._no]).sigmoid())
            said[task] = self._answer(logits, cache)
            cache.crop(ids.shape[1] - cache.get_seq_length())
        return said, sure

    def _answer(self, logits: Tensor, cache: Any) -> str:
        tokens: list[int] = []
        while len(tokens) < self._most:
            token = int(logits.argmax())
            if token == self._tokenizer.control.im_end:
                break
            tokens.append(token)
            logits = self._call(self._inner.model.language_model.embed_tokens(torch.tensor([[token]])), cache)
        return self._tokenizer.decode(tokens)

    def _call(self, embeds: Tensor, cache: Any) -> Tensor:
        """Logits `[vocab]` after the last of `embeds [1, n, hidden]`."""
        found = self._inner.model.language_model(inputs_embeds=embeds, use_cache=True, **{self._kept: cache})
        logits: Tensor = self._inner.lm_head(found.last_hidden_state[0, -1])
        return logits
