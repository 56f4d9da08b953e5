"""Which interval to give where a model believes in many: the one of the highest expected overlap.

The likeliest answer is right as a whole more often than any other, and still nearly never: what counts is how much of a
crash an interval covers. Minimum Bayes risk decoding (Kumar and Byrne 2004) gives the answer that does best on average
over all that the model believes; here the risk is 1 - IoU.

An end that was not read is taken to lie behind its start as in `distribution`. A start of which no more than the first
digits were read is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.reasoning.forms.distribution import Belief, Masses, spread
from edge_sdk.reasoning.forms.grammar import Grammar

Tenths = NDArray[np.int64]
# Of so many starts and ends, the likeliest, the work stays below a few ms; a clip of 25 s has no more ends.
_STARTS, _ENDS = 64, 256
_ROUNDING = 1e-9


class JointBelief(NamedTuple):
    """How likely intervals are: float64 `[starts, ends]` of sum 1, for `starts` and `ends`, in tenths, ascending."""

    starts: Tenths
    ends: Tenths
    masses: Masses

    def expected_iou(self) -> Masses:
        """The mean IoU with what is believed, float64 `[starts, ends]`, of the interval from each start to each end.

        0 where it ends before it starts. No interval has a higher one than the best of these: between two believed
        starts, or ends, the mean is a sum of functions that are convex.
        """
        ends, found = self.ends, np.zeros(self.masses.shape)
        for place, start in enumerate(self.starts):
            first, later = (each(start, self.starts)[:, None] for each in (np.minimum, np.maximum))
            # Believed ends that come before this one, itself included, bound the overlap; later ones the union. Where
            # an end is not behind its start there is neither mass nor overlap, and 1 only keeps from dividing by 0.
            union, overlap = np.maximum(ends - first, 1), np.maximum(ends - later, 0)
            before = np.cumsum(self.masses * overlap, axis=1) / union
            shares = self.masses / union
            after = (shares.sum(axis=1, keepdims=True) - np.cumsum(shares, axis=1)) * overlap
            found[place] = (before + after).sum(axis=0)
        return found

    def best(self) -> tuple[int, int]:
        """The interval of the highest expected IoU, in tenths; of several the first to start, then to end."""
        expected = self.expected_iou()
        # Sums in another order differ in their last digits.
        start, end = np.argwhere(expected >= expected.max() - _ROUNDING)[0]
        return int(self.starts[start]), int(self.ends[end])

    def weighed(self, start: Masses, end: Masses) -> JointBelief:
        """What is believed when starts and ends are as likely, by an independent opinion, as `start` and `end` say.

        They are float64 `[starts]` and `[ends]`, above 0.
        """
        masses = self.masses * start[:, None] * end
        return self._replace(masses=masses / masses.sum())

    def marginals(self, first: int, last: int) -> list[Masses]:
        """How likely each tenth of `first..last` is the start, and the end: float64 `[last - first + 1]`."""
        found = np.zeros((2, last - first + 1))
        found[0, self.starts - first], found[1, self.ends - first] = self.masses.sum(axis=1), self.masses.sum(axis=0)
        return list(found)

    def near(self, start: int, end: int, least: float) -> float:
        """The share of what is believed whose IoU with `start..end`, in tenths, is at least `least`."""
        starts = self.starts[:, None]
        overlap = np.maximum(np.minimum(self.ends, end) - np.maximum(starts, start), 0)
        union = np.maximum(np.maximum(self.ends, end) - np.minimum(starts, start), 1)
        return float(self.masses[overlap >= least * union - _ROUNDING].sum())


def joint(grammar: Grammar, beliefs: Iterable[Belief]) -> JointBelief:
    """What `beliefs` say of an interval's start and end together. One of them at least has a start."""
    begun = [belief for belief in beliefs if belief.state.times]
    known: dict[int, float] = {}
    for state, mass in begun:
        known[state.times[0]] = known.get(state.times[0], 0.0) + mass
    starts = sorted(sorted(known, key=lambda start: -known[start])[:_STARTS])
    rows, unread = np.zeros((len(starts), grammar.last - grammar.first + 1)), np.zeros(len(starts))
    for state, mass in begun:
        start, *end = state.times
        if start not in starts:
            continue
        place = starts.index(start)
        if end:
            rows[place, end[0] - grammar.first] += mass
        elif grammar.begun(state):
            spread(rows[place], grammar.reach(state), mass, grammar.first)
        else:
            unread[place] += mass
    _add_unread(rows, unread, np.array(starts) - grammar.first)
    ends = np.sort(np.argsort(-rows.sum(axis=0), kind="stable")[:_ENDS])
    ends = ends[rows[:, ends].any(axis=0)]
    masses = rows[:, ends]
    return JointBelief(np.array(starts), ends + grammar.first, masses / masses.sum())


def _add_unread(rows: Masses, unread: Masses, starts: Tenths) -> None:
    """Give each of `starts [n]` its ends that were not read, by the lengths in `rows [n, size]`, else evenly."""
    size = rows.shape[1]
    lengths = np.zeros(size)
    for row, start in zip(rows, starts, strict=True):
        lengths[: size - start] += row[start:]
    for row, mass, start in zip(rows, unread, starts, strict=True):
        room = lengths[1 : size - start]
        if not room.sum() > _ROUNDING:
            room = np.ones(size - start - 1)
        row[start + 1 :] += mass * room / room.sum()
