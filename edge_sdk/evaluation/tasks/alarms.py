"""What a driver notices: false alarms per hour of footage without a crash, and the delay of the alarm.

The rate of rare events needs an interval more than any other number: with no alarm in ten minutes, 22 per hour are
still possible. The interval is the exact one of a Poisson count (Garwood 1936).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation import boundaries
from edge_sdk.evaluation.resample import poisson_cdf, poisson_mean_where
from edge_sdk.types import Value

TAIL = 0.025


class AlarmRate(Value, frozen=True, kw_only=True):
    """`count` alarms in `hours`, per hour, with the exact central 95 % interval; null without footage."""

    count: int
    hours: float
    per_hour: float | None
    lo: float | None
    hi: float | None


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One watched clip: its length, its alarms, the start of its crash (None: no crash) and its first sign, in seconds.

    If `duration_s` is None, the length is unknown and the clip does not count for the rate of false alarms. If
    `alarms_s` is None, only the verdict on the whole clip is known: `claimed` is true if a crash was claimed.
    """

    duration_s: float | None
    alarms_s: Sequence[float] | None
    claimed: bool
    crash_s: float | None = None
    sign_s: float | None = None


def poisson_rate(count: int, hours: float) -> AlarmRate:
    """Compute the rate of `count` events in `hours` with its exact interval. Raises `ConfigError` for negatives."""
    if count < 0 or hours < 0:
        raise ConfigError(f"a rate needs a count and hours of at least 0, found {count} in {hours}")
    if hours == 0:
        return AlarmRate(count=count, hours=0.0, per_hour=None, lo=None, hi=None)
    low = 0.0 if count == 0 else poisson_mean_where(lambda mean: 1 - poisson_cdf(count - 1, mean) < TAIL, count)
    high = poisson_mean_where(lambda mean: poisson_cdf(count, mean) > TAIL, count)
    return AlarmRate(count=count, hours=hours, per_hour=count / hours, lo=low / hours, hi=high / hours)


def false_alarms(clips: Sequence[Watched]) -> AlarmRate:
    """Compute the rate of alarms per hour of footage in which any alarm is false.

    All footage of a clip without a crash counts. Of a clip with a crash and known alarms, the footage counts up to the
    time from which an alarm is right (`boundaries.alarm_begin_s`). If only the verdict is known, a wrong yes is one
    alarm.
    """
    count, seconds = 0, 0.0
    for clip in clips:
        if clip.duration_s is None:
            continue
        if clip.crash_s is None:
            seconds += clip.duration_s
            count += int(clip.claimed) if clip.alarms_s is None else len(clip.alarms_s)
        elif clip.alarms_s is not None:
            begin_s = max(0.0, boundaries.alarm_begin_s(clip.crash_s, clip.sign_s))
            seconds += min(begin_s, clip.duration_s)
            count += sum(alarm < begin_s for alarm in clip.alarms_s)
    return poisson_rate(count, seconds / 3600)


def detection_delay(clips: Sequence[Watched]) -> boundaries.Delay | None:
    """Compute recall in time, and the delay of alarms after the labelled start; None if no crash has known alarms."""
    starts, caught = [], []
    for clip in clips:
        if clip.crash_s is not None and clip.alarms_s is not None:
            starts.append(clip.crash_s)
            caught.append(boundaries.first_alarm_s(clip.crash_s, clip.alarms_s, clip.sign_s))
    return boundaries.delay(starts, caught) if starts else None
