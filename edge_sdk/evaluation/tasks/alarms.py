"""What a driver notices: false alarms per hour of footage without a crash, and how late the alarm comes.

A rate of rare events needs its interval more than any other number: no alarm in ten minutes still leaves 22 an hour
possible. The interval is the exact one of a Poisson count (Garwood 1936).
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
    """One clip that was watched: its length, its alarms, and its crash (None: it has none), in seconds of the clip.

    `duration_s` None: it is not known, and the clip says nothing of how often alarms are false. `alarms_s` None: only
    the verdict of the clip as a whole is known, and `claimed` says whether it was a crash.
    """

    duration_s: float | None
    alarms_s: Sequence[float] | None
    claimed: bool
    crash_s: float | None = None
    sign_s: float | None = None


def poisson_rate(count: int, hours: float) -> AlarmRate:
    """The rate of `count` events in `hours` with its exact interval. Raises `ConfigError` for a negative number."""
    if count < 0 or hours < 0:
        raise ConfigError(f"a rate needs a count and hours of at least 0, found {count} in {hours}")
    if hours == 0:
        return AlarmRate(count=count, hours=0.0, per_hour=None, lo=None, hi=None)
    low = 0.0 if count == 0 else poisson_mean_where(lambda mean: 1 - poisson_cdf(count - 1, mean) < TAIL, count)
    high = poisson_mean_where(lambda mean: poisson_cdf(count, mean) > TAIL, count)
    return AlarmRate(count=count, hours=hours, per_hour=count / hours, lo=low / hours, hi=high / hours)


def false_alarms(clips: Sequence[Watched]) -> AlarmRate:
    """Alarms outside a crash, per hour of footage in which any alarm is false.

    That is all of a clip without a crash; of one with a crash, where its alarms are known, what comes before they
    would count for it (`boundaries.alarm_begin_s`). Where only a verdict is known, a wrong yes is one alarm.
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
    """Recall in time, and delay of the alarm behind the labelled start; None where no crash has known alarms."""
    starts, caught = [], []
    for clip in clips:
        if clip.crash_s is not None and clip.alarms_s is not None:
            starts.append(clip.crash_s)
            caught.append(boundaries.first_alarm_s(clip.crash_s, clip.alarms_s, clip.sign_s))
    return boundaries.delay(starts, caught) if starts else None
