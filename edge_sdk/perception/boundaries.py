"""Boundaries of an incident: where heat peaks, with intervals from the operating point's residuals."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from edge_sdk.bundle.manifest import OperatingPoint, Residual
from edge_sdk.events.record import CrashTimeline
from edge_sdk.types import Estimate

HEAT_FLOOR = 0.05
# A crash whose cars drive on, or leave the picture, has no moment of its end: the highest end heat is then a bump that
# may lie anywhere. On rendered crashes, the fall of the scores tells the end better than heat below this.
END_FLOOR = 0.5
CENTROID_FRAMES = 3


def heat_peak(heat: Sequence[tuple[float, float]], floor: float = HEAT_FLOOR) -> float | None:
    """Time of the highest heat, refined by the centroid of its neighbours; None if it is below `floor`.

    `heat` is pairs of a time in seconds and the heat at that time, in order of time.
    """
    if not heat:
        return None
    times_s, values = (np.asarray(column, np.float64) for column in zip(*heat, strict=True))
    top = int(values.argmax())
    if values[top] < floor:
        return None
    near = slice(max(0, top - CENTROID_FRAMES), top + CENTROID_FRAMES + 1)
    return float(np.average(times_s[near], weights=values[near]))


def estimate(t_s: float, residual: Residual, last_s: float | None = None) -> Estimate:
    """A boundary with its calibrated interval, to the millisecond.

    It is never before 0, and not after `last_s` if that is given.
    """
    limit_s = inf if last_s is None else last_s
    t = round(min(max(0.0, t_s + residual.shift_s), limit_s), 3)
    low, high = max(0.0, t + residual.lo_s), min(t + residual.hi_s, limit_s)
    return Estimate(t=t, lo=min(round(low, 3), t), hi=max(round(high, 3), t))


def widened(found: Estimate, low_s: float, high_s: float) -> Estimate:
    """`found` with an interval that covers at least `low_s` (or 0, if that is later) to `high_s`."""
    return Estimate(t=found.t, lo=min(found.lo, max(0.0, round(low_s, 3))), hi=max(found.hi, round(high_s, 3)))


def in_order(
    point: OperatingPoint, start: Estimate, pre_s: float | None, end_s: float | None, last_s: float | None
) -> CrashTimeline:
    """The timeline around `start`; `pre_s` and `end_s` are the other boundaries in seconds, None if unknown.

    Each boundary has its own shift, so one could pass another. Therefore the pre-crash start is kept from passing the
    start, the end from preceding it, and the start from passing `last_s`, when the event was over. An interval grows
    where it would not contain its boundary.
    """
    if last_s is not None:
        start = _moved(start, min(start.t, round(last_s, 3)))
    pre = None if pre_s is None else estimate(pre_s, point.pre_crash_start)
    end = None if end_s is None else estimate(end_s, point.crash_end, last_s)
    return CrashTimeline(
        pre_crash_start=None if pre is None else _moved(pre, min(pre.t, start.t)),
        crash_start=start,
        crash_end=None if end is None else _moved(end, max(end.t, start.t)),
    )


def _moved(found: Estimate, t: float) -> Estimate:
    return Estimate(t=t, lo=min(found.lo, t), hi=max(found.hi, t))
