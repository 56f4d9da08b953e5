"""The frames of one event, copied out of a source's history before that overwrites them."""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.capture import FrameHistory
from edge_sdk.errors import SourceError
from edge_sdk.events import CrashTimeline
from edge_sdk.types import Estimate

# How long before the earliest time at which a crash can have become foreseeable the frames begin (design 3.4).
BEFORE_S = 4.0
# How much of the crash, from its latest beginning on, they show in any case; of few frames a quarter.
AFTER_S, _AFTER_SHARE = 1.5, 0.25
# The crash is seen by frames of which the first comes at most so many intervals after its latest beginning.
_LATE_FRAMES = 2
# Frames that are copied out of the history at once, while nobody can push.
_BATCH = 8
_GONE = "the frames of this event are no longer kept; ask sooner, or keep more seconds of frames"


class KeptFrame(NamedTuple):
    """uint8 `[height, width, 3]` RGB, when it was captured on the monotonic clock, and its number in the history."""

    pixels: NDArray[np.uint8]
    captured_s: float
    number: int


def begins_s(timeline: CrashTimeline, lasts_s: float = math.inf) -> float:
    """Where frames of `lasts_s` begin, in seconds since the source's first frame.

    Before the first sign, but never so early that they would end before the crash.
    """
    first, crash = timeline.pre_crash_start or timeline.crash_start, timeline.crash_start
    if first is None:
        return 0.0
    begin_s = first.lo - BEFORE_S
    return max(0.0, begin_s if crash is None else max(begin_s, _least_s(crash, lasts_s)))


def _least_s(crash: Estimate, lasts_s: float) -> float:
    """Frames of `lasts_s` that begin earlier may end before the crash, whose earliest beginning they must hold, too."""
    after_s = min(AFTER_S, _AFTER_SHARE * lasts_s)
    return min(crash.hi + after_s - lasts_s, crash.lo - after_s)


class KeptFrames:
    """Up to `most` frames of an event, in order, as `history` has them; `frames` only grows.

    They are consecutive while they are taken in time; what is no longer kept by then is left out. Two threads may take.
    """

    def __init__(self, history: FrameHistory, first_s: float, timeline: CrashTimeline, most: int) -> None:
        """`first_s` is when the source's first frame was captured, on the monotonic clock."""
        rate_hz = history.settings.rate_hz
        self.frames: list[KeptFrame] = []
        self._history, self._most = history, most
        self._lasts_s = (most - 1) / rate_hz
        self._from_s = first_s + begins_s(timeline, self._lasts_s)
        crash = timeline.crash_start or timeline.pre_crash_start
        self._latest_s = math.inf if crash is None else first_s + crash.hi + _LATE_FRAMES / rate_hz
        self._first_s, self._lock = first_s, threading.Lock()

    @property
    def full(self) -> bool:
        """Whether all frames are there."""
        return len(self.frames) >= self._most

    def shows(self, timeline: CrashTimeline) -> bool:
        """Whether the frames, those to come among them, go on until a crash of that time can be seen."""
        crash = timeline.crash_start
        if crash is None:
            return True
        # A start that is told more exactly afterwards may be a little later, and still be among them.
        slack_s = min(AFTER_S, _AFTER_SHARE * self._lasts_s) / 2
        return self._from_s >= self._first_s + _least_s(crash, self._lasts_s) - slack_s

    def take(self) -> None:
        """Copy what has come. Raises `SourceError` where what is still there begins after the crash."""
        while not self.full:
            with self._lock:
                count = min(_BATCH, self._most - len(self.frames))
                if count <= 0:
                    return
                found = (
                    self._history.since(self.frames[-1].number + 1, count)
                    if self.frames
                    else self._history.window(self._from_s, count)
                )
                if not len(found.pixels):
                    return
                if not self.frames and found.captured_s[0] > self._latest_s:
                    raise SourceError(_GONE)
                stamps = map(float, found.captured_s)
                numbers = range(found.first, found.next)
                self.frames += [KeptFrame(*each) for each in zip(found.pixels, stamps, numbers, strict=True)]

    def check(self) -> None:
        """Raises `SourceError` where there is no frame."""
        if not self.frames:
            raise SourceError(_GONE)
