"""The RGB frames that are kept for reasoning: a ring of fixed memory, read by copy.

Reasoning takes consecutive frames from a given time on, and appends later frames as they arrive. So a reader asks once
for a window, then by sequence number for what followed, and learns how many frames it was too late for.
"""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.capture.settings import HistorySettings
from edge_sdk.errors import ConfigError


class FrameWindow(NamedTuple):
    """Consecutive frames, each later than the one before, in memory of their own.

    `pixels` uint8 `[count, height, width, 3]`; `captured_s` float64 `[count]` on the clock of `time.monotonic()`;
    `sender_utc_s` float64 `[count]`, seconds since 1970 by the sender's clock, NaN where it did not say. `first` is
    the sequence number of the first frame; `missed` counts the frames before it that were asked for but are no longer
    kept. Frames of two attempts follow one another without a mark; only their times show it.
    """

    pixels: NDArray[np.uint8]
    captured_s: NDArray[np.float64]
    sender_utc_s: NDArray[np.float64]
    first: int
    missed: int

    @property
    def next(self) -> int:
        """The sequence number to continue with in `FrameHistory.since`."""
        return self.first + len(self.pixels)


class FrameHistory:
    """The last `settings.frames` frames of a source; one thread pushes, any thread may read.

    All memory is allocated at opening. Raises `ConfigError` if there is not enough.
    """

    def __init__(self, settings: HistorySettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        try:
            self._pixels = np.empty((settings.frames, settings.height, settings.width, 3), np.uint8)
        except MemoryError:
            raise ConfigError(
                f"a history of {settings.frames} frames of {settings.width} x {settings.height} needs "
                f"{settings.memory_mb:.0f} MB of memory, more than is free; keep fewer seconds or smaller frames"
            ) from None
        # Written once, so that the system assigns the pages here and not some seconds into the drive.
        self._pixels.fill(0)
        self._captured_s = np.zeros(settings.frames)
        self._sender_utc_s = np.full(settings.frames, np.nan)
        self._pushed, self._newest_s = 0, -math.inf

    @property
    def memory_mb(self) -> float:
        """Memory of the ring, in 10^6 bytes; it never changes."""
        return (self._pixels.nbytes + self._captured_s.nbytes + self._sender_utc_s.nbytes) / 1e6

    @property
    def next(self) -> int:
        """The sequence number that the next frame will have; frames count from 0."""
        return self._pushed

    def push(self, pixels: NDArray[np.uint8], captured_s: float, sender_utc_s: float | None = None) -> None:
        """Copy one frame in, unless it is not later than the last: a stream's clock may step back while it settles.

        Raises `ValueError` for a frame of another shape or type: a bug, not input.
        """
        if pixels.shape != self._pixels.shape[1:] or pixels.dtype != np.uint8:
            raise ValueError(
                f"a frame of this history is uint8 {self._pixels.shape[1:]}, found {pixels.dtype} {pixels.shape}"
            )
        if captured_s <= self._newest_s:
            return
        with self._lock:
            row = self._pushed % len(self._pixels)
            self._newest_s = captured_s
            self._pixels[row] = pixels
            self._captured_s[row] = captured_s
            self._sender_utc_s[row] = np.nan if sender_utc_s is None else sender_utc_s
            self._pushed += 1

    def window(self, from_s: float, count: int) -> FrameWindow:
        """Up to `count` consecutive frames, beginning with the oldest kept that was captured at `from_s` or later.

        There are fewer if fewer have come; continue with `since(window.next)`.
        """
        with self._lock:
            kept = self._kept(self._oldest, self._pushed)
            late_enough = np.flatnonzero(self._captured_s[kept] >= from_s)
            first = self._oldest + int(late_enough[0]) if len(late_enough) else self._pushed
            return self._copy(first, count, 0)

    def since(self, sequence: int, count: int | None = None) -> FrameWindow:
        """The frames from number `sequence` on, at most `count` of them; empty until that frame has come."""
        with self._lock:
            first = max(sequence, self._oldest)
            return self._copy(first, self._pushed if count is None else count, first - sequence)

    @property
    def _oldest(self) -> int:
        return max(0, self._pushed - len(self._pixels))

    def _kept(self, first: int, end: int) -> NDArray[np.intp]:
        """Rows of the frames from `first` up to but not including `end`, in order of time."""
        return np.arange(first, end) % len(self._pixels)

    def _copy(self, first: int, count: int, missed: int) -> FrameWindow:
        rows = self._kept(first, max(first, min(first + max(0, count), self._pushed)))
        return FrameWindow(self._pixels[rows], self._captured_s[rows], self._sender_utc_s[rows], first, missed)
