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


class Sighting(Value, frozen=True, kw_only=True):
    """`score` is the student's probability of a crash; `start` and `end` when it saw one, on the prompt's clock."""

    score: float
    start: Estimate | None = None
    end: Estimate | None = None


def sighting_of(
    events: Sequence[Event] | None, peak_score: float | None = None, *, offset_s: float = 0.0
) -> Sighting | None:
    """What `events`, the last revision of each, say of a clip: the one of the highest score that was not rejected.

    Without one it is `peak_score`, the student's highest of the whole clip. `offset_s` is the prompt's time of the
    first decoded frame. None where the student did not watch, has not made up its mind, or was told of the event by
    hand.
    """
    if events is None:
        return None
    kept = [event for event in events if event.state not in ("provisional", "rejected")]
    undecided = not kept and any(event.state == "provisional" for event in events)
    if undecided or any(event.trigger != "student" for event in events):
        return None
    if not kept:
        return None if peak_score is None else Sighting(score=peak_score)
    event = max(kept, key=lambda each: each.score)
    line = event.timeline
    start, end = (_moved(each, offset_s) for each in (line.crash_start, line.crash_end))
    return Sighting(score=event.score, start=start, end=end)


def density(seen: Estimate | None, times: NDArray[np.int64], first: int, last: int) -> Masses:
    """How likely the student holds each of `times`, tenths of a second among `first..last`: float64 as they are.

    Halves of two normal distributions meet at `seen.t`, as wide as its central 80 % on either side, and `EVEN_SHARE` is
    spread over all tenths. Ones where the student says nothing.
    """
    if seen is None:
        return np.ones(len(times))
    everything = np.arange(first, last + 1) / TENTHS
    below, above = (max(each, _LEAST_S) / _EIGHTY for each in (seen.t - seen.lo, seen.hi - seen.t))
    width = np.where(everything < seen.t, below, above)
    peak = np.exp(-0.5 * ((everything - seen.t) / width) ** 2)
    # A time far outside of the clip leaves nothing but what is even.
    share = 1 - EVEN_SHARE if peak.sum() > 0 else 0.0
    masses = share * peak / max(peak.sum(), np.finfo(float).tiny) + (1 - share) / len(everything)
    found: Masses = masses[times - first]
    return found


def _moved(seen: Estimate | None, offset_s: float) -> Estimate | None:
    if seen is None:
        return None
    t, lo, hi = (each + offset_s for each in (seen.t, seen.lo, seen.hi))
    return msgspec.structs.replace(seen, t=t, lo=lo, hi=hi)
