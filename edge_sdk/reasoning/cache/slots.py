"""Which slot of the cache holds which token: a tree in which every path from the trunk to a leaf is one sequence.

The trunk (node 0) is the clip. Every other node continues after the last token of its parent. Two nodes of one parent
are two continuations that do not see each other, and their shared tokens are not copied. Tokens of all nodes take
consecutive slots in the order in which they come, so a node's slots are one range, and the trunk's range is the first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ConfigError

TRUNK = 0
Mask = NDArray[np.bool_]


class SlotTree:
    """Nodes and positions of the slots in use; slots from `used` on are free."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.trunk = self.used = 0
        self._node = np.zeros(slots, np.int64)
        self._position = np.zeros(slots, np.int64)
        self._starts, self._stops = [0], [0]
        self._lengths = [0]
        self._paths = [np.zeros(1, np.int64)]

    @property
    def nodes(self) -> int:
        """The number of nodes, including the trunk; the next node gets this number."""
        return len(self._paths)

    def extend_trunk(self, count: int) -> None:
        """Append `count` tokens to the trunk. Raises `ConfigError` if there are branches behind it."""
        if self.nodes > 1:
            raise ConfigError(f"the trunk cannot grow below {self.nodes - 1} branches; drop them first")
        self._take(TRUNK, count, self.trunk)
        self.trunk = self._stops[TRUNK] = self._lengths[TRUNK] = self.used

    def grow(self, parent: int, count: int) -> int:
        """Add a node of `count` tokens behind the last token of `parent`, and return its number.

        Raises `ConfigError` for a parent that does not exist.
        """
        self.check_node(parent)
        node, first = self.nodes, self._lengths[parent]
        self._starts.append(self.used)
        self._take(node, count, first)
        self._stops.append(self.used)
        self._lengths.append(first + count)
        self._paths.append(np.append(self._paths[parent], node))
        return node

    def check_node(self, node: int) -> None:
        """Raise `ConfigError` for a node that does not exist."""
        if not 0 <= node < self.nodes:
            raise ConfigError(f"expected a node of 0..{self.nodes - 1}, found {node}")

    def drop_branches(self) -> None:
        """Free every slot behind the trunk."""
        self.used = self.trunk
        for held in (self._starts, self._stops, self._lengths, self._paths):
            del held[1:]

    def cut_trunk(self, length: int) -> None:
        """Drop the branches and the trunk's tokens from `length` on.

        Raises `ConfigError` if the trunk is shorter than `length`.
        """
        if not 0 <= length <= self.trunk:
            raise ConfigError(f"expected a length of 0..{self.trunk} to cut the trunk to, found {length}")
        self.drop_branches()
        self.trunk = self.used = self._stops[TRUNK] = self._lengths[TRUNK] = length

    def positions(self, first: int, count: int) -> NDArray[np.int64]:
        """Return the position of each token in the slots `first` .. `first + count` within its own sequence."""
        return self._position[first : first + count]

    def write_mask(self, first: int, count: int, mask: Mask) -> None:
        """Fill `mask [width, n]` for a call whose `count` tokens take slots from `first` on, all among the first n.

        A token attends to all tokens of the nodes above its own, and to its own node's tokens up to itself. Rows from
        `count` on are padding: they attend only to the call's first slot, because a row that attends to nothing gives
        NaN.
        """
        mask[...] = False
        mask[count:, first] = True
        for node, begin, stop in self._runs(first, first + count):
            self._mask_run(node, begin, stop, mask[begin - first : stop - first])

    def _mask_run(self, node: int, begin: int, stop: int, rows: Mask) -> None:
        start = self._starts[node]
        if node != TRUNK:
            rows[:, : self.trunk] = True
            above = np.zeros(node + 1, bool)
            above[self._paths[node]] = True
            rows[:, self.trunk : start] = above[self._node[self.trunk : start]]
        rows[:, start:begin] = True
        rows[:, begin:stop] = np.tri(stop - begin, dtype=bool)

    def _runs(self, first: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield node, begin and end of every run of slots that belong to one node."""
        while first < stop:
            node = int(self._node[first])
            end = min(self._stops[node], stop)
            yield node, first, end
            first = end

    def _take(self, node: int, count: int, position: int) -> None:
        if count < 1 or self.used + count > self.slots:
            raise ConfigError(f"expected 1..{self.slots - self.used} tokens for the free slots, found {count}")
        taken = slice(self.used, self.used + count)
        self._node[taken] = node
        self._position[taken] = np.arange(position, position + count)
        self.used += count
