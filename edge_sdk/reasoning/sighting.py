"""What the student saw of a clip, in the form in which answers take it into account.

The student has watched every frame, the video LLM only a few, and they err on different clips. Where validation clips
show that both together are right more often, their evidence is joined. For a yes or no, log odds are added. For an
interval, the two distributions are multiplied as independent opinions (a logarithmic opinion pool: Genest and Zidek
1986). Texts follow the verdict on yes or no.
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
"""Share of the student's density spread evenly over the clip, because it may have seen another incident. Values from
0.01 to 0.2 give similar answers."""

# Standard deviations from the median of a normal distribution to the end of its central 80 %.
_EIGHTY = 1.2816
_LEAST_S = 0.05
# Beyond this many standard deviations, a normal distribution is negligible.
_TAILS = 6


class Sighting(Value, frozen=True, kw_only=True):
    """The student's probability of a crash, and the start and end of the crash it saw, on the prompt's clock."""

    score: float
    start: Estimate | None = None
    end: Estimate | None = None


def sighting_of(events: Sequence[Event] | None, evidence: float | None, *, offset_s: float = 0.0) -> Sighting | None:
    """Combine `evidence`, the student's highest score of a clip, with `events`, the last revision of each.

    The times are those of the closed event with the highest score. `offset_s` is the prompt's time of the first decoded
    frame. Returns None if the student did not watch, or if its score is not to be used in answers.
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
    """Return the student's probability of each of `times`, in tenths of a second within `first..last`, as float64.

    Halves of two normal distributions meet at `seen.t`; their widths match its central 80 % on either side.
    `EVEN_SHARE`, and the part that lies outside the clip, is spread over all tenths. Without `seen`, returns ones.
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
