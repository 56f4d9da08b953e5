"""Choose the interval with the highest expected overlap under the model's joint distribution.

The likeliest interval is exactly right more often than any other, and still almost never; what counts is how much of a
crash an interval covers. Minimum Bayes risk decoding (Kumar and Byrne 2004) gives the answer that does best on average
over the model's distribution; here the risk is 1 - IoU.

Ends that were not read are placed behind their starts as in `distribution`. Starts of which only the first digits were
read are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.reasoning.forms.distribution import Belief, Masses, spread
from edge_sdk.reasoning.forms.grammar import Grammar

Tenths = NDArray[np.int64]
# With this many likeliest starts and ends, the work takes at most a few ms; a clip of 25 s has no more ends.
_STARTS, _ENDS = 64, 256
_ROUNDING = 1e-9


class JointBelief(NamedTuple):
    """The distribution of intervals: `masses` is float64 `[starts, ends]`, sum 1; both axes ascend, in tenths."""

    starts: Tenths
    ends: Tenths
    masses: Masses

    def expected_iou(self) -> Masses:
        """Return the expected IoU, float64 `[starts, ends]`, of the interval from each start to each end.

        It is 0 for an interval that ends before it starts. No interval outside this grid can do better, because between
        two neighbouring starts, or ends, the expectation is a sum of convex functions.
        """
        ends, found = self.ends, np.zeros(self.masses.shape)
        for place, start in enumerate(self.starts):
            first, later = (each(start, self.starts)[:, None] for each in (np.minimum, np.maximum))
            # Ends up to this one limit the overlap, later ends the union. An end that is not behind its start has no
            # mass and no overlap; the 1 there only avoids a division by 0.
            union, overlap = np.maximum(ends - first, 1), np.maximum(ends - later, 0)
            before = np.cumsum(self.masses * overlap, axis=1) / union
            shares = self.masses / union
            after = (shares.sum(axis=1, keepdims=True) - np.cumsum(shares, axis=1)) * overlap
            found[place] = (before + after).sum(axis=0)
        return found

    def best(self) -> tuple[int, int]:
        """Return the interval of the highest expected IoU, in tenths; of equals, the first to start, then to end."""
        expected = self.expected_iou()
        # Sums computed in another order differ in their last digits.
        start, end = np.argwhere(expected >= expected.max() - _ROUNDING)[0]
        return int(self.starts[start]), int(self.ends[end])

    def weighed(self, start: Masses, end: Masses) -> JointBelief:
        """Multiply the distribution by an independent opinion of starts and ends, and normalise it.

        `start` is float64 `[starts]` and `end` float64 `[ends]`, both above 0.
        """
        masses = self.masses * start[:, None] * end
        return self._replace(masses=masses / masses.sum())

    def marginals(self, first: int, last: int) -> list[Masses]:
        """Return the distributions of start and end over tenths `first..last`: float64 `[last - first + 1]` each."""
        found = np.zeros((2, last - first + 1))
        found[0, self.starts - first], found[1, self.ends - first] = self.masses.sum(axis=1), self.masses.sum(axis=0)
        return list(found)

    def near(self, start: int, end: int, least: float) -> float:
        """Return the probability of intervals whose IoU with `start..end`, in tenths, is at least `least`."""
        starts = self.starts[:, None]
        overlap = np.maximum(np.minimum(self.ends, end) - np.maximum(starts, start), 0)
        union = np.maximum(np.maximum(self.ends, end) - np.minimum(starts, start), 1)
        return float(self.masses[overlap >= least * union - _ROUNDING].sum())


def joint(grammar: Grammar, beliefs: Iterable[Belief]) -> JointBelief:
    """Return the joint distribution of an interval's start and end. At least one of `beliefs` must have a start."""
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
    """Add the unread ends of each of `starts [n]`, by the lengths in `rows [n, size]`, or evenly if none fits."""
    size = rows.shape[1]
    lengths = np.zeros(size)
    for row, start in zip(rows, starts, strict=True):
        lengths[: size - start] += row[start:]
    for row, mass, start in zip(rows, unread, starts, strict=True):
        room = lengths[1 : size - start]
        if not room.sum() > _ROUNDING:
            room = np.ones(size - start - 1)
        row[start + 1 :] += mass * room / room.sum()
