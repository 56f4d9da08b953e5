"""The model's distribution over times on a grid of 0.1 s, from the part of its answers that was read.

Only likely continuations are followed to their end. The probability of the others is spread evenly over the times that
their known beginning can become. An end that was not read at all is assumed to lie as far behind its start as the ends
that were read. Where the model's ends do not depend on its starts, this makes the interval of the end wider than
necessary, never narrower.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.reasoning.forms.grammar import Grammar, State

Masses = NDArray[np.float64]
TAIL = 0.1
"""Probability outside the central 80 %, on each side."""
_ROUNDING = 1e-9
# Up to this many tenths of a second, a convolution is computed directly; above, by FFT.
_PLAIN = 4096


class Belief(NamedTuple):
    """The probability `mass`, among all legal answers, of an answer that continues from `state`."""

    state: State
    mass: float


class TimeBelief(NamedTuple):
    """The distribution of an answer's times: for each number float64 `[n]` of sum 1, in tenths from `first_s` on.

    Times are seconds on the prompt's clock.
    """

    first_s: float
    masses: tuple[Masses, ...]


def marginals(grammar: Grammar, beliefs: Iterable[Belief]) -> list[Masses]:
    """Return the distribution of each number of the grammar, float64 `[last - first + 1]`, from the tenth `first` on.

    The masses of `beliefs` must sum to 1.
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
    """Return the first and last index of the central 80 % of a distribution `[n]`."""
    summed = np.cumsum(masses) / masses.sum()
    low, high = np.searchsorted(summed, (TAIL - _ROUNDING, 1 - TAIL - _ROUNDING))
    return int(low), int(high)


def median(masses: Masses) -> int:
    """Return the index of the median of a distribution `[n]`, which minimises the expected absolute error."""
    summed = np.cumsum(masses) / masses.sum()
    return int(np.searchsorted(summed, 0.5 - _ROUNDING))


def spread(masses: Masses, ranges: Iterable[tuple[int, int]], mass: float, zero: int) -> None:
    """Add `mass` evenly over `ranges` of tenths, both ends included; index 0 is the tenth `zero`."""
    ranges = list(ranges)
    each = mass / sum(end - start + 1 for start, end in ranges)
    for start, end in ranges:
        masses[start - zero : end + 1 - zero] += each


def _behind(starts: Masses, lengths: Masses) -> Masses:
    """Return the ends for `starts [n]`, by the known `lengths [n]` that fit into the clip, or evenly if none fits."""
    size = len(starts)
    left = size - 1 - np.arange(size)
    room = np.cumsum(lengths)[left]
    like = room > _ROUNDING
    shared = np.divide(starts, room, out=np.zeros(size), where=like)
    even = np.divide(starts, left, out=np.zeros(size), where=~like & (left > 0))
    ends: Masses = _convolved(shared, lengths) + np.cumsum(even) - even
    return ends


def _convolved(first: Masses, second: Masses) -> Masses:
    """Return the first n values of the convolution of two distributions `[n]`, in near-linear time for long clips."""
    size = len(first)
    if size <= _PLAIN:
        return np.convolve(first, second)[:size]
    whole = np.fft.irfft(np.fft.rfft(first, 2 * size) * np.fft.rfft(second, 2 * size), 2 * size)
    found: Masses = np.maximum(whole[:size], 0.0)
    return found
