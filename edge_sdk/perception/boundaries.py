"""Boundaries of an incident with their intervals: where heat peaks, and what a point says of the truth around it."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from edge_sdk.bundle.manifest import OperatingPoint, Residual
from edge_sdk.events.record import CrashTimeline
from edge_sdk.types import Estimate

HEAT_FLOOR = 0.05
CENTROID_FRAMES = 3


def heat_peak(heat: Sequence[tuple[float, float]]) -> float | None:
    """Time of the highest heat, refined by the centroid of its neighbours; None below `HEAT_FLOOR`.

    `heat`: pairs of a time, s, and the heat there, in order of time.
    """
    if not heat:
        return None
    times_s, values = (np.asarray(column, np.float64) for column in zip(*heat, strict=True))
    top = int(values.argmax())
    if values[top] < HEAT_FLOOR:
        return None
    near = slice(max(0, top - CENTROID_FRAMES), top + CENTROID_FRAMES + 1)
    return float(np.average(times_s[near], weights=values[near]))


def estimate(t_s: float, residual: Residual, last_s: float | None = None) -> Estimate:
    """A boundary with its calibrated interval, to the millisecond.

    Never before 0, and not after `last_s` where the source has ended.
    """
    limit_s = inf if last_s is None else last_s
    t = round(min(max(0.0, t_s + residual.shift_s), limit_s), 3)
    low, high = max(0.0, t + residual.lo_s), min(t + residual.hi_s, limit_s)
    return Estimate(t=t, lo=min(round(low, 3), t), hi=max(round(high, 3), t))


def widened(found: Estimate, low_s: float, high_s: float) -> Estimate:
    """`found` with an interval that reaches from `low_s`, but not from before 0, to `high_s` at least."""
    return Estimate(t=found.t, lo=min(found.lo, max(0.0, round(low_s, 3))), hi=max(found.hi, round(high_s, 3)))


def in_order(
    point: OperatingPoint, start: Estimate, pre_s: float | None, end_s: float | None, last_s: float | None
) -> CrashTimeline:
    """The timeline around `start`, with the seconds of the other boundaries where they are known.

    Each has a shift of its own, by which it could pass another: those beside the start wait for it, and in an event
    that was over at `last_s` the start waits for that. An interval grows where it would lose its boundary.
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
