"""The mask of a call is the definition of a path, for any tree."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.reasoning.cache.slots import SlotTree

SLOTS = 96


class Story:
    """The same tree as a list of (node, place within the node) by slot, with each node's parent."""

    def __init__(self) -> None:
        self.tokens: list[tuple[int, int]] = []
        self.parents = {0: -1}
        self.lengths = {0: 0}

    def add(self, node: int, parent: int, count: int) -> None:
        self.parents[node] = parent
        start = self.lengths.get(node, 0)
        self.tokens += [(node, start + i) for i in range(count)]
        self.lengths[node] = start + count

    def above(self, node: int) -> list[int]:
        found = []
        while self.parents[node] >= 0:
            node = self.parents[node]
            found.append(node)
        return found

    def may_attend(self, row: int, slot: int) -> bool:
        if slot >= len(self.tokens):
            return False
        (node, place), (other, at) = self.tokens[row], self.tokens[slot]
        return other in self.above(node) or (other == node and at <= place)

    def position(self, row: int) -> int:
        node, place = self.tokens[row]
        return place + sum(self.lengths[each] for each in self.above(node))


def grown(seed: int) -> tuple[SlotTree, Story]:
    """A random tree: a trunk that came in pieces, and up to 20 nodes behind any node before them."""
    random = np.random.default_rng(seed)
    tree, story = SlotTree(SLOTS), Story()
    for _ in range(random.integers(1, 4)):
        count = int(random.integers(1, 12))
        tree.extend_trunk(count)
        story.add(0, -1, count)
    for _ in range(random.integers(0, 20)):
        count, parent = int(random.integers(1, 5)), int(random.integers(tree.nodes))
        if tree.used + count > SLOTS:
            break
        story.add(tree.grow(parent, count), parent, count)
    return tree, story


@pytest.mark.parametrize("seed", range(40))
def test_the_mask_of_every_call_is_the_definition(seed: int) -> None:
    tree, story = grown(seed)
    random = np.random.default_rng(seed)
    first = 0
    while first < tree.used:
        count = min(int(random.integers(1, 20)), tree.used - first)
        width = count + int(random.integers(4))
        mask = np.ones((width, SLOTS), bool)
        tree.write_mask(first, count, mask)
        expected = [[story.may_attend(first + row, slot) for slot in range(SLOTS)] for row in range(count)]
        padding = np.arange(SLOTS) == first
        np.testing.assert_array_equal(mask, np.array(expected + [padding] * (width - count)))
        positions = [story.position(first + row) for row in range(count)]
        np.testing.assert_array_equal(tree.positions(first, count), positions)
        first += count


def test_no_row_attends_nothing() -> None:
    tree = SlotTree(SLOTS)
    tree.extend_trunk(1)
    mask = np.zeros((8, SLOTS), bool)
    tree.write_mask(0, 1, mask)
    assert mask.any(1).all()


@pytest.mark.parametrize("length", [0, 5, 9])
def test_a_cut_trunk_goes_on_from_its_end(length: int) -> None:
    tree = SlotTree(SLOTS)
    tree.extend_trunk(9)
    tree.grow(tree.grow(0, 3), 2)
    tree.cut_trunk(length)
    assert (tree.trunk, tree.used, tree.nodes) == (length, length, 1)
    tree.extend_trunk(2)
    np.testing.assert_array_equal(tree.positions(length, 2), [length, length + 1])
    node = tree.grow(0, 1)
    mask = np.zeros((1, SLOTS), bool)
    tree.write_mask(length + 2, 1, mask)
    assert node == 1
    np.testing.assert_array_equal(np.flatnonzero(mask), np.arange(length + 3))


def test_dropped_branches_free_their_slots_and_numbers() -> None:
    tree = SlotTree(16)
    tree.extend_trunk(4)
    assert [tree.grow(0, 6), tree.grow(1, 6)] == [1, 2]
    tree.drop_branches()
    assert (tree.used, tree.grow(0, 12)) == (4, 1)


def test_what_cannot_be_is_refused() -> None:
    tree = SlotTree(16)
    tree.extend_trunk(4)
    with pytest.raises(ConfigError, match=re.escape("expected 1..12 tokens for the free slots, found 13")):
        tree.grow(0, 13)
    with pytest.raises(ConfigError, match=re.escape("expected a node of 0..0, found 1")):
        tree.grow(1, 1)
    with pytest.raises(ConfigError, match=re.escape("a length of 0..4 to cut the trunk to, found 5")):
        tree.cut_trunk(5)
    tree.grow(0, 1)
    with pytest.raises(ConfigError, match="cannot grow below 1 branches"):
        tree.extend_trunk(1)
