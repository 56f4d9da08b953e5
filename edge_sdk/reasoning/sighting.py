"""What the student made of a clip, as answers take it into account.

The student has watched every frame and the video LLM a few of them; they err on different clips. Where validation
clips show that both together are right more often, their evidence is joined: log odds are added for a yes or no, and
for an interval what each believes is multiplied, as independent opinions are (a logarithmic opinion pool: Genest and
Zidek 1986). Texts follow the verdict on yes or no.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_sdk.events.record import Event
from edge_sdk.types import Estimate, Value

Masses = NDArray[np.float64]
TENTHS = 10

EVEN_SHARE = 0.1
"""How much of a student's density lies evenly over the clip: it may have seen another incident. From 0.01 to 0.2 the
answers are alike."""

# From the median of a normal distribution to the end of its central 80 %.
_EIGHTY = 1.2816
_LEAST_S = 0.05
# Beyond so many deviations nothing is left of a normal distribution.
_TAILS = 6


class Sighting(Value, frozen=True, kw_only=True):
    """The student's probability of a crash, and when the one that it saw began and ended, on the prompt's clock."""

    score: float
    start: Estimate | None = None
    end: Estimate | None = None


def sighting_of(events: Sequence[Event] | None, evidence: float | None, *, offset_s: float = 0.0) -> Sighting | None:
    """What `evidence`, the student's highest of a clip, and `events`, the last revision of each, say of it.

    The times are those of the closed event of the highest score. `offset_s` is the prompt's time of the first decoded
    frame. None where the student did not watch, or its score is not to go into answers.
    """
    if events is None or evidence is None:
        return None
    closed = [event for event in events if event.state == "closed"]
    if not closed:
        return Sighting(score=evidence)
    line = max(closed, key=lambda each: each.score).timeline
    start, end = (_moved(each, offset_s) for each in (line.crash_start, line.crash_end))
    return Sighting(score=evidence, start=start, end=end)


def density(seen: Estimate | None, times: NDArray[np.int64], first: int, last: int) -> Masses:
    """How likely the student holds each of `times`, tenths of a second among `first..last`: float64 as they are.

    Halves of two normal distributions meet at `seen.t`, as wide as its central 80 % on either side. `EVEN_SHARE`, and
    what lies outside of the clip, is spread over all tenths. Ones where the student says nothing.
    """
    if seen is None:
        return np.ones(len(times))
    below, above = (max(each, _LEAST_S) / _EIGHTY for each in (seen.t - seen.lo, seen.hi - seen.t))
    start, end = round((seen.t - _TAILS * below) * TENTHS), round((seen.t + _TAILS * above) * TENTHS)
    own = np.arange(start - 1, end + 2)
    peak = np.exp(-0.5 * ((own / TENTHS - seen.t) / np.where(own / TENTHS < seen.t, below, above)) ** 2)
    peak *= (1 - EVEN_SHARE) / peak.sum()
    inside = (own >= first) & (own <= last)
    masses = np.zeros(last - first + 1)
    masses[own[inside] - first] = peak[inside]
    masses += (1 - peak[inside].sum()) / len(masses)
    found: Masses = masses[times - first]
    return found


def _moved(seen: Estimate | None, offset_s: float) -> Estimate | None:
    if seen is None:
        return None
    t, lo, hi = (each + offset_s for each in (seen.t, seen.lo, seen.hi))
    return msgspec.structs.replace(seen, t=t, lo=lo, hi=hi)
