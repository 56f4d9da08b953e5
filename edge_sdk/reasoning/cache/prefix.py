"""One clip in the cache of a decoder, and the questions and answers that branch from it.

The clip is prefilled in whole calls while its frames arrive. The calls do not depend on how the frames came: streamed
or all at once, the cache is bit-identical. Tokens that do not fill a call wait and go in with the questions. All
additions of one growth go through the decoder together, each seeing only its own path (`slots.py`), so the weights are
read once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from edge_sdk.errors import ConfigError, RuntimeFailure
from edge_sdk.reasoning.cache.calls import Call, CallShape, cut
from edge_sdk.reasoning.cache.feeding import Feeding, prefix_bytes
from edge_sdk.reasoning.cache.slots import SlotTree
from edge_sdk.runtime import Array, Feeds, Session
from edge_sdk.types import StateSpec, Value


class Addition(NamedTuple):
    """Rows `embeds [n, hidden]` to take in behind the node `parent`."""

    parent: int
    embeds: Array


class Grown(NamedTuple):
    """The result of one addition: its place in the growth, its node, and float32 `logits [vocab]` after its end."""

    place: int
    node: int
    logits: Array


class Mark(Value, frozen=True, kw_only=True):
    """A length of the clip that `rewind` can return to."""

    clip: int
    tokens: int


class Prefix:
    """A clip's tokens in one decoder session, with branches behind them; all memory is allocated on construction.

    `calls` counts the calls of the decoder, each of which reads its weights once. `on_call` is called after each call
    and may raise: tokens taken in until then stay, except for branches that were growing.
    """

    def __init__(
        self,
        session: Session,
        state: Sequence[StateSpec],
        *,
        fixed: Feeds | None = None,
        shape: CallShape | None = None,
        buckets: Sequence[int] = (),
        on_call: Callable[[], None] | None = None,
    ) -> None:
        """Bind the graph's `state`; `fixed` are inputs that stay the same, such as LoRA matrices, passed on unchanged.

        `buckets` are the slot counts of all graphs with these weights, which errors suggest when a clip does not fit.
        """
        self.shape, self.on_call, self.calls = shape or CallShape(), on_call, 0
        self._feeding = Feeding(session.inputs, self.shape)
        self.slots, self.hidden = self._feeding.slots, self._feeding.hidden
        self.memory_mb = prefix_bytes(session.inputs, state, self.shape) / 1e6
        self._bound = session.bind_state(state, {})
        self._fixed, self._buckets = dict(fixed or {}), sorted({*buckets, self.slots})
        self._tree, self._clip, self._written, self._sound = SlotTree(self.slots), 0, 0, True
        # Slots below this one may hold values that no checked logits depend on.
        self._unseen = 0
        self._waiting = self._nothing = np.zeros((0, self.hidden), self._feeding.dtype)

    @property
    def tokens(self) -> int:
        """Tokens of the clip, including those that wait for a whole call."""
        return self._tree.trunk

    @property
    def used(self) -> int:
        """Slots in use or reserved for waiting tokens."""
        return self._tree.used

    @property
    def free(self) -> int:
        """Tokens that can still be taken in."""
        return max(0, self.slots - self._tree.used - self.shape.slack)

    @property
    def nodes(self) -> int:
        """The number of nodes; the additions of the next growth are numbered from here."""
        return self._tree.nodes

    def append(self, embeds: Array) -> None:
        """Append `embeds [n, hidden]` to the clip; branches are dropped first. Raises as `take`."""
        self.take(embeds)
        self.flush()

    def take(self, embeds: Array) -> None:
        """Append `embeds [n, hidden]` to the clip without a call of the decoder: all of them wait.

        Raises `ConfigError` if they do not fit, and `RuntimeFailure` for values that are not finite; in both cases
        nothing is taken in.
        """
        rows = self._checked(embeds)
        self.check_room(len(rows), behind_clip=True)
        self.forget_branches()
        self._tree.extend_trunk(len(rows))
        self._waiting = np.concatenate([self._waiting, rows])

    def flush(self) -> None:
        """Run the waiting tokens that fill whole calls through the decoder."""
        while len(self._waiting) >= self.shape.prefill:
            self._run(Call(begin=0, count=self.shape.prefill, width=self.shape.prefill, ends=(0, 0)), ())

    def grow(self, additions: Sequence[Addition]) -> list[Grown]:
        """Take in all additions together, each as a new node. Raises as `growing`."""
        return list(self.growing(additions))

    def growing(self, additions: Sequence[Addition]) -> Generator[Grown, None, None]:
        """Like `grow`, but yield each result as soon as its call is done; abandoning the iterator drops all branches.

        Raises `ConfigError` for additions that do not fit or whose parent does not exist, and `RuntimeFailure` for
        values that are not finite, before anything is taken in.
        """
        rows = [self._checked(each.embeds) for each in additions]
        for each in additions:
            self._tree.check_node(each.parent)
        self.check_room(sum(map(len, rows)))
        return self._grow([each.parent for each in additions], rows)

    def forget_branches(self) -> None:
        """Drop all branches behind the clip and free their slots."""
        self._tree.drop_branches()
        self._cut()

    def reset(self) -> None:
        """Begin another clip."""
        self._clip += 1
        self._tree.cut_trunk(0)
        self._cut()
        if not self._sound or self._unseen:
            # A NaN in the cache spoils every sum it enters, even with a weight of zero.
            self._bound.reset()
            self._sound, self._unseen = True, 0

    def mark(self) -> Mark:
        """Return a mark of the clip's current length."""
        return Mark(clip=self._clip, tokens=self._tree.trunk)

    def rewind(self, mark: Mark) -> None:
        """Drop the branches and the clip's tokens since `mark`. Raises `ConfigError` for a mark of another clip."""
        if mark.clip != self._clip or mark.tokens > self._tree.trunk:
            raise ConfigError(
                f"expected a mark of this clip's {self._tree.trunk} tokens, found {mark.tokens} tokens of clip "
                f"{mark.clip} in clip {self._clip}; take a new mark after `reset` and `rewind`"
            )
        self._tree.cut_trunk(mark.tokens)
        self._cut()

    def check_room(self, count: int, *, behind_clip: bool = False) -> None:
        """Raise `ConfigError` unless `count` tokens fit behind the branches, or `behind_clip`, after the clip alone."""
        used = self._tree.trunk if behind_clip else self._tree.used
        needed = used + count + self.shape.slack
        if needed <= self.slots:
            return
        large = next((f"use the graph of {slots} slots" for slots in self._buckets if slots >= needed), None)
        raise ConfigError(
            f"expected room for {count} tokens, found {max(0, self.slots - used - self.shape.slack)} free of "
            f"{self.slots} slots, where the clip has {self._tree.trunk} and its questions {used - self._tree.trunk}; "
            + (large or f"use fewer frames, or export a decoder of {needed} slots")
        )

    def _grow(self, parents: Sequence[int], rows: Sequence[Array]) -> Generator[Grown, None, None]:
        if not rows:
            return
        first = self._tree.nodes
        ends = [len(self._waiting) - 1 + end for end in accumulate(map(len, rows))]
        self._waiting = np.concatenate([self._waiting, *rows])
        for parent, new in zip(parents, rows, strict=True):
            self._tree.grow(parent, len(new))
        finished = False
        try:
            for call in cut(len(self._waiting), ends, self.slots - self._written, self.shape):
                logits = self._run(call, [end - call.begin for end in ends[slice(*call.ends)]])
                yield from (Grown(at, first + at, logits[at - call.ends[0]]) for at in range(*call.ends))
            finished = True
        finally:
            if not finished:
                self.forget_branches()

    def _run(self, call: Call, rows: Sequence[int]) -> Array:
        """Run one call with the next `call.count` waiting tokens, and return the logits of its `rows`."""
        slots = self._bound.limit(self.shape.slots_for(self._written + call.width))
        feeds = self._feeding.fill(self._tree, self._written, call, self._waiting[: call.count], rows, slots)
        self._unseen = max(self._unseen, self._written + call.count)
        found = self._bound.run({**feeds, **self._fixed})["logits"]
        self.calls += 1
        self._written += call.count
        self._waiting = self._waiting[call.count :]
        self._sound = self._sound and bool(np.isfinite(found).all())
        # Logits after the last token of a growth cover all its tokens; abandoned values may still lie behind it.
        if rows and rows[-1] == call.count - 1 and self._written >= self._unseen:
            self._unseen = 0
        if self.on_call:
            self.on_call()
        return found[: len(rows)]

    def _checked(self, embeds: Array) -> Array:
        if embeds.ndim != 2 or embeds.shape[1] != self.hidden or not len(embeds):
            raise ConfigError(f"expected rows [n, {self.hidden}] for the decoder, found {list(embeds.shape)}")
        if not np.isfinite(embeds).all():
            bad = int(embeds.size - np.isfinite(embeds).sum())
            raise RuntimeFailure(
                f"{bad} of {embeds.size} values for the decoder are not finite; run edge-sdk verify on this device"
            )
        return embeds.astype(self._feeding.dtype, copy=False)

    def _cut(self) -> None:
        """Shorten the written and the waiting tokens to match a tree that has been cut."""
        self._written = min(self._written, self._tree.trunk)
        left = self._tree.trunk - self._written
        self._waiting = self._waiting[:left] if left else self._nothing
