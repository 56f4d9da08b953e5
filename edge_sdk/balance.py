"""Choosing evenly: which of the things that are left has attributes that were chosen least."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from itertools import combinations

# So many are chosen from a stretch of a list: fewer would leave little to choose among, and lists have periods.
_TOGETHER = 4


class Balance:
    """How often each value was chosen, each two of one thing together, and all of them together.

    A thing is a sequence of values, always of the same attributes in the same order, the most important first.
    """

    def __init__(self) -> None:
        self._chosen: Counter[Hashable] = Counter()

    def used(self, values: Sequence[Hashable]) -> tuple[int, ...]:
        """The smaller, the sooner such a thing should be chosen.

        Each value by itself decides, then the first two together, all together, and every two. Without the latter a
        list could be even in two attributes and never show a value of one but with the same of the other.
        """
        ones, twos, whole = _parts(values)
        first, every = [self._chosen[two] for two in twos[:1]], sum(self._chosen[two] for two in twos)
        return (*(self._chosen[one] for one in ones), *first, self._chosen[whole], every)

    def choose(self, values: Sequence[Hashable]) -> None:
        """Count one such thing as chosen."""
        ones, twos, whole = _parts(values)
        self._chosen.update([*ones, *twos, whole])


def spread(things: Sequence[Sequence[Hashable]], count: int) -> Iterator[int]:
    """Numbers of `count` of `things`, balanced among themselves, from even stretches all over the list."""
    balance, stretches = Balance(), max(1, count // _TOGETHER)
    for stretch in range(stretches):
        (begin, end), (done, due) = (_part(size, stretch, stretches) for size in (len(things), count))
        left = list(range(begin, end))
        for _ in range(due - done):
            number = min(left, key=lambda each: balance.used(things[each]))
            left.remove(number)
            balance.choose(things[number])
            yield number


def _part(size: int, number: int, parts: int) -> tuple[int, int]:
    return size * number // parts, size * (number + 1) // parts


def _parts(values: Sequence[Hashable]) -> tuple[list[Hashable], list[Hashable], Hashable]:
    ones: list[Hashable] = list(enumerate(values))
    return ones, list(combinations(ones, 2)), ("whole", *values)
