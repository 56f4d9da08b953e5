"""Balanced choice: prefer the remaining things whose attributes were chosen least so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from itertools import combinations

# Things chosen from one stretch of a list: with fewer, stretches are short, and the periods of a list would show.
_TOGETHER = 4


class Balance:
    """Counts of how often each value was chosen, each pair of values in one thing, and each whole thing.

    A thing is a sequence of values, always of the same attributes in the same order, the most important first.
    """

    def __init__(self) -> None:
        self._chosen: Counter[Hashable] = Counter()

    def used(self, values: Sequence[Hashable]) -> tuple[int, ...]:
        """A sort key: the smaller, the sooner such a thing should be chosen.

        The counts of the single values decide first, then those of the first pair, of the whole thing and of all pairs.
        Without the pairs, a list could be even in two attributes and yet always show the same two values together.
        """
        ones, twos, whole = _parts(values)
        first, every = [self._chosen[two] for two in twos[:1]], sum(self._chosen[two] for two in twos)
        return (*(self._chosen[one] for one in ones), *first, self._chosen[whole], every)

    def choose(self, values: Sequence[Hashable]) -> None:
        """Count one thing with these values as chosen."""
        ones, twos, whole = _parts(values)
        self._chosen.update([*ones, *twos, whole])


def spread(things: Sequence[Sequence[Hashable]], count: int) -> Iterator[int]:
    """The indices of `count` of `things`, balanced among themselves, from equal stretches across the whole list."""
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
