"""What a model believes of times, from the part of its answers that was read, on the grid of 0.1 s.

Only the likely continuations are followed to their end. What was not followed still has its probability and a
beginning: it is spread evenly over the times that beginning can become. An end that was not read at all is taken to lie
as far behind its start as those that were read lie behind theirs; where the model's ends do not follow its starts, that
makes the end's interval wider than it need be, never narrower.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.reasoning.forms.grammar import Grammar, State

Masses = NDArray[np.float64]
TAIL = 0.1
"""Left out at each side of the central 80 %."""
_ROUNDING = 1e-9
# Tenths of a second up to which a convolution is summed as it is defined.
_PLAIN = 4096


class Belief(NamedTuple):
    """How likely the answer goes on from `state`, of all that the grammar allows."""

    state: State
    mass: float


class TimeBelief(NamedTuple):
    """How likely each time of an answer is: per number float64 `[n]` of sum 1, in tenths of a second from `first_s` on.

    Times count as the prompt's do.
    """

    first_s: float
    masses: tuple[Masses, ...]


def marginals(grammar: Grammar, beliefs: Iterable[Belief]) -> list[Masses]:
    """For each number of the grammar its distribution, float64 `[last - first + 1]`, from tenth `first` on.

    The masses of `beliefs` sum to 1.
    """
    size, zero = grammar.last - grammar.first + 1, grammar.first
    starts, ends, lengths, unread = np.zeros((4, size))
    for state, mass in beliefs:
        reach = [(0, 0)] if grammar.told(state) else grammar.reach(state)
        if not state.times:
            spread(starts, reach, mass, zero)
            spread(unread, reach, mass, zero)
            continue
        start, *end = state.times
        starts[start - zero] += mass
        if end or grammar.begun(state):
            span = [(end[0], end[0])] if end else reach
            spread(ends, span, mass, zero)
            spread(lengths, span, mass, start)
        elif grammar.numbers > 1:
            unread[start - zero] += mass
    return [starts, ends + _behind(unread, lengths)] if grammar.numbers > 1 else [starts]


def central(masses: Masses) -> tuple[int, int]:
    """Indices of the first and last place of the central 80 % of a distribution `[n]`."""
    summed = np.cumsum(masses) / masses.sum()
    low, high = np.searchsorted(summed, (TAIL - _ROUNDING, 1 - TAIL - _ROUNDING))
    return int(low), int(high)


def median(masses: Masses) -> int:
    """Index of the median of a distribution `[n]`: the answer of the least expected error in time."""
    summed = np.cumsum(masses) / masses.sum()
    return int(np.searchsorted(summed, 0.5 - _ROUNDING))


def spread(masses: Masses, ranges: Iterable[tuple[int, int]], mass: float, zero: int) -> None:
    """Add `mass` evenly over `ranges` of tenths, both ends included, where place 0 is the tenth `zero`."""
    ranges = list(ranges)
    each = mass / sum(end - start + 1 for start, end in ranges)
    for start, end in ranges:
        masses[start - zero : end + 1 - zero] += each


def _behind(starts: Masses, lengths: Masses) -> Masses:
    """Where the ends lie of `starts [n]`, by the known `lengths [n]` as far as the clip has room, else evenly."""
    size = len(starts)
    left = size - 1 - np.arange(size)
    room = np.cumsum(lengths)[left]
    like = room > _ROUNDING
    shared = np.divide(starts, room, out=np.zeros(size), where=like)
    even = np.divide(starts, left, out=np.zeros(size), where=~like & (left > 0))
    ends: Masses = _convolved(shared, lengths) + np.cumsum(even) - even
    return ends


def _convolved(first: Masses, second: Masses) -> Masses:
    """The first `[n]` of the convolution of two distributions `[n]`; of hours in time that grows hardly faster."""
    size = len(first)
    if size <= _PLAIN:
        return np.convolve(first, second)[:size]
    whole = np.fft.irfft(np.fft.rfft(first, 2 * size) * np.fft.rfft(second, 2 * size), 2 * size)
    found: Masses = np.maximum(whole[:size], 0.0)
    return found
