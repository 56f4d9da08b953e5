"""Check feeds that stay the same from call to call, such as adapter matrices, only once.

A decoder has hundreds of them; checking each in every call would take longer than everything else on the host side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_sdk.runtime import Array, Feeds
from edge_sdk.tensors import check_feeds
from edge_sdk.types import TensorSpec


class StandingFeeds:
    """The feeds that one bound session holds from earlier calls.

    These are read-only arrays without a free dimension: while a call passes the same array object, it cannot have
    changed. `specs` are all the feeds, `dims` the lengths that are already fixed.
    """

    def __init__(self, specs: Sequence[TensorSpec], dims: Mapping[str, int]) -> None:
        self._specs, self._dims = tuple(specs), dims
        self._fixed = {spec.name for spec in specs if all(isinstance(length, int) for length in spec.shape)}
        self._held: dict[str, Array] = {}

    def check(self, feeds: Feeds) -> tuple[Feeds, dict[str, int]]:
        """Return the `feeds` that are not held, and the length of every free dimension.

        Raises `RuntimeFailure` for a wrong or missing feed, as `check_feeds` does.
        """
        fresh, specs = feeds, self._specs
        if self._held.keys() <= feeds.keys():
            fresh = {name: array for name, array in feeds.items() if self._held.get(name) is not array}
            specs = tuple(spec for spec in specs if spec.name in fresh or spec.name not in self._held)
        return fresh, check_feeds(specs, fresh, self._dims)

    def hold(self, fresh: Feeds) -> None:
        """Take over `fresh`, the feeds of this call: hold read-only arrays, and release the arrays they replace."""
        for name in self._fixed & fresh.keys():
            if fresh[name].flags.writeable:
                self._held.pop(name, None)
            else:
                self._held[name] = fresh[name]
