"""The frames of one event, copied out of a source's history before the history overwrites them."""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.capture import FrameHistory
from edge_sdk.errors import EdgeError, SourceError
from edge_sdk.events import CrashTimeline
from edge_sdk.types import Estimate

# The frames begin this long before the earliest time at which the crash can have become foreseeable (design 3.4).
BEFORE_S = 4.0
# How much of the crash the frames always show, from its latest start on; at most this share of a short run of frames.
AFTER_S, _AFTER_SHARE = 1.5, 0.25
# Frames still show the crash if the first comes at most this many frame intervals after its latest start.
_LATE_FRAMES = 2
# Frames copied out of the history at once; nobody can push to it meanwhile.
_BATCH = 8
_POLL_S = 0.05
_GONE = "the frames of this event are no longer kept; ask sooner, or keep more seconds of frames"


class KeptFrame(NamedTuple):
    """RGB pixels, uint8 `[height, width, 3]`, capture time on the monotonic clock, and number in the history."""

    pixels: NDArray[np.uint8]
    captured_s: float
    number: int


def begins_s(timeline: CrashTimeline, lasts_s: float = math.inf) -> float:
    """Return where a run of frames that lasts `lasts_s` begins, in seconds since the source's first frame.

    It begins before the first sign, but never so early that it would end before the crash.
    """
    first, crash = timeline.pre_crash_start or timeline.crash_start, timeline.crash_start
    if first is None:
        return 0.0
    begin_s = first.lo - BEFORE_S
    return max(0.0, begin_s if crash is None else max(begin_s, _least_s(crash, lasts_s)))


def _least_s(crash: Estimate, lasts_s: float) -> float:
    """Return the earliest time at which frames of `lasts_s` may begin so that they do not end before the crash.

    It is before the crash's earliest start, so that the frames contain that too.
    """
    after_s = min(AFTER_S, _AFTER_SHARE * lasts_s)
    return min(crash.hi + after_s - lasts_s, crash.lo - after_s)


class KeptFrames:
    """Up to `most` frames of an event from `history`, in order; `frames` only grows.

    The frames are consecutive if they are taken in time; frames that the history has already dropped are left out. Two
    threads may call `take`. `first_s` is the capture time of the source's first frame on the monotonic clock.
    """

    def __init__(self, history: FrameHistory, first_s: float, timeline: CrashTimeline, most: int) -> None:
        """Choose where to begin; no frame is copied yet."""
        rate_hz = history.settings.rate_hz
        self.frames: list[KeptFrame] = []
        self.history, self.first_s, self._most = history, first_s, most
        self._lasts_s = (most - 1) / rate_hz
        self._from_s = first_s + begins_s(timeline, self._lasts_s)
        crash = timeline.crash_start or timeline.pre_crash_start
        self._latest_s = math.inf if crash is None else first_s + crash.hi + _LATE_FRAMES / rate_hz
        self._lock, self._stopped = threading.Lock(), threading.Event()

    @property
    def full(self) -> bool:
        """Whether all frames have been taken."""
        return len(self.frames) >= self._most

    def shows(self, timeline: CrashTimeline) -> bool:
        """Return whether the frames, including those still to come, last until the crash of `timeline` is visible."""
        crash = timeline.crash_start
        if crash is None:
            return True
        # A start that is refined afterwards may be a little later and still be covered.
        slack_s = min(AFTER_S, _AFTER_SHARE * self._lasts_s) / 2
        return self._from_s >= self.first_s + _least_s(crash, self._lasts_s) - slack_s

    def take(self) -> None:
        """Copy the frames that have come. Raises `SourceError` if the remaining frames begin after the crash."""
        while not self.full:
            with self._lock:
                count = min(_BATCH, self._most - len(self.frames))
                if count <= 0:
                    return
                found = (
                    self.history.since(self.frames[-1].number + 1, count)
                    if self.frames
                    else self.history.window(self._from_s, count)
                )
                if not len(found.pixels):
                    return
                if not self.frames and found.captured_s[0] > self._latest_s:
                    raise SourceError(_GONE)
                stamps = map(float, found.captured_s)
                numbers = range(found.first, found.next)
                self.frames += [KeptFrame(*each) for each in zip(found.pixels, stamps, numbers, strict=True)]

    def keep(self) -> None:
        """Copy the frames that have come. Raises `SourceError` if none is left that shows the crash."""
        self.take()
        if not self.frames:
            raise SourceError(_GONE)

    def follow(self) -> None:
        """Copy frames as they come, on a separate thread, until there are enough of them or `stop` is called."""
        threading.Thread(target=self._follow, name="edge-sdk frames of an event", daemon=True).start()

    def stop(self) -> None:
        """End what `follow` began; the frames copied so far stay."""
        self._stopped.set()

    def _follow(self) -> None:
        with suppress(EdgeError):  # whoever asks gets it
            self.take()
            while not self.full and not self._stopped.wait(_POLL_S):
                self.take()
