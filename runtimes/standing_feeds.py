"""Feeds that stay as they are from call to call, such as the matrices of an adapter, are checked once.

A decoder has hundreds of them, and to check each in every call takes longer than the rest of what a call costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_sdk.runtime import Array, Feeds
from edge_sdk.tensors import check_feeds
from edge_sdk.types import TensorSpec


class StandingFeeds:
    """The feeds of one bound session that it has from an earlier call.

    Those are arrays without a free dimension into which nobody can write: while a call brings the very same one, it is
    what it was. `specs` are all the feeds, `dims` the lengths that stand already.
    """

    def __init__(self, specs: Sequence[TensorSpec], dims: Mapping[str, int]) -> None:
        self._specs, self._dims = tuple(specs), dims
        self._fixed = {spec.name for spec in specs if all(isinstance(length, int) for length in spec.shape)}
        self._held: dict[str, Array] = {}

    def check(self, feeds: Feeds) -> tuple[Feeds, dict[str, int]]:
        """Those of `feeds` that are not held, and the length of every free dimension.

        Raises `RuntimeFailure` as `check_feeds`, for a wrong or missing one.
        """
        fresh, specs = feeds, self._specs
        if self._held.keys() <= feeds.keys():
            fresh = {name: array for name, array in feeds.items() if self._held.get(name) is not array}
            specs = tuple(spec for spec in specs if spec.name in fresh or spec.name not in self._held)
        return fresh, check_feeds(specs, fresh, self._dims)

    def hold(self, fresh: Feeds) -> None:
        """`fresh` is what the session has now: hold what will not change, let go of what was there before it."""
        for name in self._fixed & fresh.keys():
            if fresh[name].flags.writeable:
                self._held.pop(name, None)
            else:
                self._held[name] = fresh[name]
