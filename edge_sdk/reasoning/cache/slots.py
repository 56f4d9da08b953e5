"""Which slot of the cache holds which token: a tree whose every path from the trunk to a leaf is one sequence.

The trunk (node 0) is the clip. A node behind it continues the last token of its parent, so that two nodes of one parent
are two continuations that do not see each other, and neither costs a copy of what they share. Tokens take consecutive
slots in the order in which they come, whatever their node: a node's slots are one range, and the trunk's are the first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ConfigError

TRUNK = 0
Mask = NDArray[np.bool_]


class SlotTree:
    """Nodes and positions of the slots in use; what lies behind `used` is free."""

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
        """How many nodes there are, the trunk among them; the next one gets this number."""
        return len(self._paths)

    def extend_trunk(self, count: int) -> None:
        """Append `count` tokens to the trunk. Raises `ConfigError` where branches grow behind it."""
        if self.nodes > 1:
            raise ConfigError(f"the trunk cannot grow below {self.nodes - 1} branches; drop them first")
        self._take(TRUNK, count, self.trunk)
        self.trunk = self._stops[TRUNK] = self._lengths[TRUNK] = self.used

    def grow(self, parent: int, count: int) -> int:
        """A new node of `count` tokens behind the last token of `parent`; its number.

        Raises `ConfigError` for a parent that is not there.
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
        """Raise `ConfigError` for a node that is not there."""
        if not 0 <= node < self.nodes:
            raise ConfigError(f"expected a node of 0..{self.nodes - 1}, found {node}")

    def drop_branches(self) -> None:
        """Free every slot behind the trunk."""
        self.used = self.trunk
        for held in (self._starts, self._stops, self._lengths, self._paths):
            del held[1:]

    def cut_trunk(self, length: int) -> None:
        """Drop the branches, and the trunk's tokens from `length` on. Raises `ConfigError` for a shorter trunk."""
        if not 0 <= length <= self.trunk:
            raise ConfigError(f"expected a length of 0..{self.trunk} to cut the trunk to, found {length}")
        self.drop_branches()
        self.trunk = self.used = self._stops[TRUNK] = self._lengths[TRUNK] = length

    def positions(self, first: int, count: int) -> NDArray[np.int64]:
        """Position in its own sequence of each token in the slots `first` .. `first + count`."""
        return self._position[first : first + count]

    def write_mask(self, first: int, count: int, mask: Mask) -> None:
        """Fill `mask [width, n]` for a call whose `count` tokens have the slots from `first` on, all among the first n.

        A token may attend every token of the nodes above its own, and of its own node those up to itself. Rows behind
        `count` pad the call: they may attend the call's first slot alone, since a row that attends nothing is not a
        number.
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
        """Node, begin and end of every run of slots of one node."""
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
