"""From patches to logits through the sessions of a bundle: vision, projector, and the decoder with its cache.

The decoder is called with a fixed number of tokens, because engines are built for few shapes. Shorter calls are padded:
a padded row attends only to the call's first slot, because a row that attends to nothing gives NaN. No later row
attends to what it leaves in the cache before the next call overwrites it. This module does not depend on whether the
graph or the session writes the cache.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ConfigError
from edge_sdk.reasoning.embedding import EmbeddingTable
from edge_sdk.runtime import Array, Feeds, Session
from edge_sdk.types import StateSpec, Value

Ids = NDArray[np.int64]


class Widths(Value, frozen=True, kw_only=True):
    """How many tokens a call of the decoder has: `prefill` for a prompt, and `step` for a token of an answer."""

    prefill: int = 128
    step: int = 1

    def __post_init__(self) -> None:
        if min(self.prefill, self.step) < 1:
            raise ConfigError(f"expected calls of at least 1 token, found {self.prefill} and {self.step}")


def encode_frames(vision: Session, patches: Array) -> Array:
    """Encode normalised `patches [frames, patches, values]` one frame at a time, as `[frames, tokens, width]`."""
    return np.concatenate([vision.run({"patches": patches[i : i + 1]})["tokens"] for i in range(len(patches))])


def merge_rows(ids: Ids, images: Array, table: EmbeddingTable, image_token: int) -> Array:
    """Return the decoder's input for `ids [n]`: rows of the table, and at image tokens the rows of `images` in order.

    `images [m, hidden]` is the projector's output; the result has its type. Raises `ConfigError` unless there are m
    image tokens.
    """
    at = ids == image_token
    count = int(np.count_nonzero(at))
    if count != len(images):
        raise ConfigError(f"expected a row for each of the prompt's {count} image tokens, found {len(images)} rows")
    rows = table.rows(ids).astype(images.dtype, copy=False)
    rows[at] = images
    return rows


class CachedDecoder:
    """One sequence in the cache of a decoder session."""

    def __init__(
        self,
        session: Session,
        state: Sequence[StateSpec],
        table: EmbeddingTable,
        *,
        image_token: int,
        fixed: Feeds | None = None,
        widths: Widths | None = None,
    ) -> None:
        """Bind the graph's `state`; `fixed` are inputs that are the same in every call, such as LoRA matrices."""
        self._bound = session.bind_state(state, {})
        self._table, self._image_token = table, image_token
        self._fixed, self._widths = dict(fixed or {}), widths or Widths()
        specs = {spec.name: spec for spec in session.inputs}
        self._dtype = np.dtype(specs["embeds"].dtype)
        self.slots = int(specs["mask"].shape[3])
        self.used = 0

    def prefill(self, ids: Ids, images: Array) -> Array:
        """Take in `ids [n]` with `images [m, hidden]` at its image tokens; return the logits `[vocab]` after the last.

        Raises `ConfigError` if there are too few slots, before anything is taken in.
        """
        return self._extend(merge_rows(ids, images, self._table, self._image_token))

    def step(self, token: int) -> Array:
        """Take in one text token and return the logits `[vocab]` after it. Raises `ConfigError` if no slot is left."""
        return self._extend(self._table.rows(np.array([token], np.int64)))

    def restart(self) -> None:
        """Begin another sequence. The cache need not be cleared, because no later row attends to its old contents."""
        self.used = 0

    def _extend(self, embeds: Array) -> Array:
        width = self._widths.step if len(embeds) <= self._widths.step else self._widths.prefill
        starts = range(0, len(embeds), width)
        if not len(embeds) or self.used + len(starts) * width > self.slots:
            raise ConfigError(
                f"expected at least 1 token and room for calls of {width} in {self.slots} slots, found {len(embeds)} "
                f"tokens after {self.used} used ones; use a graph with more slots"
            )
        return [self._call(embeds[start : start + width], width) for start in starts][-1]

    def _call(self, embeds: Array, width: int) -> Array:
        count = len(embeds)
        padded = np.zeros((1, width, embeds.shape[1]), self._dtype)
        padded[0, :count] = embeds
        feeds = {
            "embeds": padded,
            "position_ids": self.used + np.minimum(np.arange(width), count - 1)[None],
            "mask": self._mask(count, width),
            "write_index": np.array([self.used], np.int64),
            "rows": np.array([count - 1], np.int64),
        }
        logits: Array = self._bound.run({**feeds, **self._fixed})["logits"][0]
        self.used += count
        return logits

    def _mask(self, count: int, width: int) -> NDArray[np.bool_]:
        """Return the mask, bool `[1, 1, width, slots]`: each row attends to all slots up to its own."""
        last = self.used + np.arange(width)
        mask = np.arange(self.slots) <= last[:, None]
        mask[count:] = np.arange(self.slots) == self.used
        return mask[None, None]
