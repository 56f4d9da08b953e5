"""Errors of localised times and intervals: start error, overlap, coverage, delay.

A missing answer is NaN. It counts as a miss in shares and is left out of means, so each mean is reported together with
its number of answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.resample import Proportion, proportion
from edge_sdk.types import Value

Floats = NDArray[np.float64]
IOU_LEVELS = (0.3, 0.5, 0.7)
# Labels are in tenths of a second, which binary numbers represent inexactly. The tolerance exceeds that rounding error,
# but is far below a tenth, and below the difference of any two IoUs of such intervals in clips of less than an hour.
TOLERANCE = 1e-6
# Number of spans compared at a time with all intervals that share a begin; bounds the memory.
_BLOCK = 256
# An alarm belongs to a crash if it is raised in this span around the labelled start. If the first warning sign is
# labelled, the span begins before that sign.
ALARM_BEFORE_S = 1.5
ALARM_AFTER_S = 2.0


class StartError(Value, frozen=True, kw_only=True):
    """Absolute error of start times of `n` crashes, of which `answered` have an estimate.

    The mean and the median are over the answered crashes, the shares over all.
    """

    n: int
    answered: int
    mae_s: float | None
    median_s: float | None
    within_half_s: Proportion
    within_one_s: Proportion


class Overlap(Value, frozen=True, kw_only=True):
    """Interval overlap over `n` crashes with a labelled end; a missing answer has overlap 0."""

    n: int
    mean_iou: float | None
    recall: dict[str, Proportion]


class Delay(Value, frozen=True, kw_only=True):
    """Alarms of crashes: the share with an alarm in time, and for these the seconds from labelled start to alarm."""

    recall: Proportion
    median_s: float | None
    p90_s: float | None


def start_error(truth_s: ArrayLike, estimate_s: ArrayLike) -> StartError:
    """Compare start times, both float `[n]` in seconds; NaN in `estimate_s` means no answer."""
    error = np.abs(_pair(estimate_s, truth_s))
    known = error[~np.isnan(error)]
    return StartError(
        n=error.size,
        answered=known.size,
        mae_s=float(known.mean()) if known.size else None,
        median_s=float(np.median(known)) if known.size else None,
        within_half_s=proportion(int((known <= 0.5 + TOLERANCE).sum()), error.size),
        within_one_s=proportion(int((known <= 1.0 + TOLERANCE).sum()), error.size),
    )


def interval_iou(a: ArrayLike, b: ArrayLike) -> Floats:
    """Intersection over union of intervals, float `[n, 2]` each (begin, end); NaN and two empty intervals give 0."""
    first, second = np.asarray(a, np.float64).reshape(-1, 2), np.asarray(b, np.float64).reshape(-1, 2)
    if first.shape != second.shape:
        raise ConfigError(f"intervals must be two lists of equal length, found {len(first)} and {len(second)}")
    inner = np.minimum(first[:, 1], second[:, 1]) - np.maximum(first[:, 0], second[:, 0])
    inner = np.maximum(inner, 0.0)
    union = np.diff(first).ravel() + np.diff(second).ravel() - inner
    iou: Floats = np.divide(inner, union, out=np.zeros_like(union), where=union > 0)
    return np.nan_to_num(iou)


def overlap(truth: ArrayLike, estimate: ArrayLike) -> Overlap:
    """Mean IoU and recall at IoU .3, .5 and .7 of intervals float `[n, 2]`; NaN in `estimate` means no answer."""
    iou = interval_iou(estimate, truth)
    return Overlap(
        n=iou.size,
        mean_iou=float(iou.mean()) if iou.size else None,
        recall={f"{level:g}": proportion(int((iou >= level - TOLERANCE).sum()), iou.size) for level in IOU_LEVELS},
    )


def best_constant_interval(truth: ArrayLike, step_s: float = 0.1) -> tuple[float, float]:
    """Find the one (begin, end) with the highest mean IoU over all `truth` intervals: the best blind answer.

    Empty intervals are ignored, because nothing overlaps them. Raises `ConfigError` if there are no others.
    """
    spans = np.asarray(truth, np.float64).reshape(-1, 2)
    spans = spans[spans[:, 1] > spans[:, 0]]
    if not spans.size:
        raise ConfigError("a constant interval needs at least one labelled interval longer than 0 s")
    ticks = _worth_trying(spans, np.arange(0.0, float(spans.max()) + step_s, step_s), step_s)
    best, found = -1.0, (0.0, 0.0)
    for place, begin in enumerate(ticks[:-1]):
        ends = ticks[place + 1 :]
        sums = _iou_sums(float(begin), ends, spans)
        at = int(sums.argmax())
        if sums[at] > best:
            best, found = float(sums[at]), (float(begin), float(ends[at]))
    return found


def _worth_trying(spans: Floats, ticks: Floats, step_s: float) -> Floats:
    """Return the `ticks` that are next to a labelled boundary.

    Between two of these, the sum of IoUs is convex in either end of an interval, so no tick in between is the best.
    """
    nearest = np.floor(spans.ravel() / step_s).astype(np.int64)
    near = np.unique(nearest[:, None] + np.arange(-1, 3))
    return np.asarray(ticks[near[(near >= 0) & (near < len(ticks))]], np.float64)


def _iou_sums(begin: float, ends: Floats, spans: Floats) -> Floats:
    """Sum, over `spans [n, 2]`, their IoU with the interval from `begin` to each of `ends [k]`; float `[k]`."""
    total = np.zeros_like(ends)
    for first in range(0, len(spans), _BLOCK):
        low, high = spans[first : first + _BLOCK].T[..., None]
        inner = np.maximum(np.minimum(ends, high) - np.maximum(begin, low), 0.0)
        total += (inner / (ends - begin + (high - low) - inner)).sum(axis=0)
    return total


def coverage(truth_s: ArrayLike, lo_s: ArrayLike, hi_s: ArrayLike) -> Proportion:
    """Share of truths inside `lo..hi` among those answered with an interval; NaN bounds mean no answer."""
    truth, lo, hi = (np.asarray(values, np.float64) for values in (truth_s, lo_s, hi_s))
    answered = ~np.isnan(lo) & ~np.isnan(hi)
    inside = (lo <= truth) & (truth <= hi) & answered
    return proportion(int(inside.sum()), int(answered.sum()))


def alarm_begin_s(start_s: float, warning_s: float | None = None) -> float:
    """Return the time from which an alarm counts for the crash at `start_s`; `warning_s` is its labelled first sign."""
    return (start_s if warning_s is None else min(warning_s, start_s)) - ALARM_BEFORE_S


def first_alarm_s(start_s: float, alarms_s: Sequence[float], warning_s: float | None = None) -> float | None:
    """Return the earliest alarm for the crash at `start_s`: from 1.5 s before its first sign to 2 s after its start."""
    begin_s = alarm_begin_s(start_s, warning_s)
    return min((alarm for alarm in alarms_s if begin_s <= alarm <= start_s + ALARM_AFTER_S), default=None)


def delay(start_s: Sequence[float], alarm_s: Sequence[float | None]) -> Delay:
    """Compute the share of crashes with an alarm, and the seconds from start to alarm (negative: before it)."""
    late = [alarm - start for start, alarm in zip(start_s, alarm_s, strict=True) if alarm is not None]
    return Delay(
        recall=proportion(len(late), len(start_s)),
        median_s=float(np.median(late)) if late else None,
        p90_s=float(np.quantile(late, 0.9)) if late else None,
    )


def _pair(a: ArrayLike, b: ArrayLike) -> Floats:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ConfigError(f"times must be two lists of equal length, found {first.shape} and {second.shape}")
    difference: Floats = first - second
    return difference
