"""The host's side of `push`: encoded units or raw frames that a program hands over itself.

    feed = Feed("nv12", width=1920, height=1080, rate_hz=30)
    with open_live(feed, settings) as source:
        feed.push(frame, captured_s)

A camera cannot be made to wait, so `push` never does: what is pushed while nobody takes it is dropped and counted. Of
raw frames, the oldest is dropped. After a lost encoded unit the following ones cannot be decoded, so everything up to
the next key unit is dropped.
"""

from __future__ import annotations

import math
import re
import threading
import time
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.capture.settings import MAX_SIDE
from edge_sdk.capture.uri import PushSource
from edge_sdk.errors import ConfigError, UnknownNameError

ENCODED_FORMATS = ("h264", "h265", "mjpeg")
RAW_FORMATS = ("nv12", "rgb")

# Units of these formats may come in another order than their pictures are shown.
_REORDERED = ("h264", "h265")
# A time stamp this far in the future must come from another clock.
_AHEAD_S = 1.0
_NAME = re.compile(r"[\w.-]+")
_START_CODE = b"\x00\x00\x01"
# NAL unit types of or before a key picture (parameter sets come only there), and of slices of any other picture.
_KEYS = {"h264": (5, 7), "h265": (*range(16, 22), 32, 33)}
_SLICES = {"h264": (1, 2), "h265": tuple(range(10))}

Data = bytes | bytearray | memoryview | NDArray[np.uint8]


class Inlet(Protocol):
    """The input of a playing pipeline for what is pushed; no call waits."""

    def full(self) -> bool:
        """Whether there is no room for another unit or frame."""

    def push(self, data: bytes, captured_s: float) -> None:
        """Take one unit or frame; when full, drop the oldest."""

    def end(self) -> None:
        """End the stream: nothing more will be pushed."""


class Feed:
    """Pictures that a program pushes. Give it to `open_live` in place of a URI; it feeds one source at a time.

    `format` is `h264` or `h265` (one access unit each, byte-stream with start codes, parameter sets before each key
    unit), `mjpeg` (one JPEG each), `nv12` (`height` rows of `width` bytes of luma, then half as many of chroma; both
    even) or `rgb` (rows of `width * 3` bytes). Raw formats need `width` and `height`. Pictures may be pushed before the
    source is opened and while it is rebuilt; they are then dropped. `pushed` and `dropped` count units or frames.

    Any thread may push. Raises `ConfigError` for an unusable format, name, size or rate.
    """

    def __init__(
        self,
        format: str,  # noqa: A002 - the word of the source's URI
        *,
        width: int | None = None,
        height: int | None = None,
        rate_hz: float = 30.0,
        name: str = "push",
    ) -> None:
        if format not in ENCODED_FORMATS + RAW_FORMATS:
            raise UnknownNameError("format to push", format, [*ENCODED_FORMATS, *RAW_FORMATS])
        if not _NAME.fullmatch(name):
            raise ConfigError(f"a feed's name may hold letters, digits, '.', '_' and '-', found {name!r}")
        if not (math.isfinite(rate_hz) and 0.001 <= rate_hz <= 1000.0):
            raise ConfigError(f"rate_hz must be 0.001..1000, found {rate_hz}")
        self._shape = _shape(format, width, height)
        self.source = PushSource(name=name, format=format, width=width, height=height, rate_hz=rate_hz)
        self.pushed = 0
        self.dropped = 0
        self._lock = threading.Lock()
        self._inlet: Inlet | None = None
        self._wants_key = True
        self._last_s = 0.0
        self._ended = False
        self._claimed = False

    def push(self, data: Data, captured_s: float | None = None) -> bool:
        """Hand over one access unit, JPEG or frame; returns whether it was taken, and never waits.

        `data` is bytes, or for raw formats also uint8 `[height, width, 3]` (`rgb`) or `[height * 3 / 2, width]`
        (`nv12`); it is copied. `captured_s` is when it was taken, on the clock of `time.monotonic()`; the default is
        now. It must not go back, except for `h264` and `h265` units, which may be out of display order. Raises
        `ConfigError` for data of another size or kind, a time of another clock, or after `end`.
        """
        packed = self._packed(data)
        if captured_s is not None:
            _check_time(captured_s)
        with self._lock:
            if self._ended:
                raise ConfigError(f"{self.source.uri}: nothing can be pushed after end(); make another feed")
            if captured_s is None:
                # Taken under the lock, so that stamps are in order when several threads push at the same time.
                captured_s = max(time.monotonic(), self._last_s)
            if captured_s < self._last_s and self.source.format not in _REORDERED:
                raise ConfigError(f"{self.source.uri}: captured_s must be at least {self._last_s}, found {captured_s}")
            self._last_s = captured_s
            self.pushed += 1
            inlet = self._inlet
            taken = inlet is not None and self._offer(inlet, packed, captured_s)
            self.dropped += not taken
        return taken

    def end(self) -> None:
        """End the stream: the source ends once everything pushed has been shown."""
        with self._lock:
            self._ended = True
            if self._inlet is not None:
                self._inlet.end()

    def claim(self) -> None:
        """Called by the source that opens this feed. Raises `ConfigError` while another one has it."""
        with self._lock:
            if self._claimed:
                raise ConfigError(f"{self.source.uri} feeds another source already: make a feed for each")
            self._claimed = True

    def release(self) -> None:
        """Called by the source that had this feed, when it is closed."""
        with self._lock:
            self._claimed = False

    def attach(self, inlet: Inlet) -> None:
        """Called by the pipeline that plays this feed."""
        with self._lock:
            self._inlet = inlet
            self._wants_key = True
            if self._ended:
                inlet.end()

    def detach(self) -> None:
        """Called by the pipeline that played this feed, before it stops."""
        with self._lock:
            self._inlet = None

    def _offer(self, inlet: Inlet, data: bytes, captured_s: float) -> bool:
        full = inlet.full()
        if self._shape is None:
            if full or (self._wants_key and not is_key(self.source.format, data)):
                self._wants_key = True
                return False
            self._wants_key = False
        elif full:
            self.dropped += 1
        inlet.push(data, captured_s)
        return True

    def _packed(self, data: Data) -> bytes:
        """`data` as bytes of the right size and kind."""
        source = self.source
        if isinstance(data, np.ndarray):
            if data.dtype != np.uint8 or data.shape != self._shape:
                raise ConfigError(
                    f"{source.uri} takes {_told(self._shape, source.format)}, found an array of "
                    f"{data.dtype} {data.shape}"
                )
            return data.tobytes()
        packed = bytes(data)
        if self._shape is not None and len(packed) != math.prod(self._shape):
            raise ConfigError(f"{source.uri} takes {_told(self._shape, source.format)}, found {len(packed)} bytes")
        if self._shape is None and not _begins(source.format, packed):
            raise ConfigError(
                f"{source.uri} takes {_told(None, source.format)}, found {packed[:8].hex(' ') or 'nothing'} ..."
            )
        return packed


def is_key(format: str, unit: bytes) -> bool:  # noqa: A002 - as in Feed
    """Whether a decoder can begin with this unit. NAL unit types: ITU-T H.264 table 7-1, ITU-T H.265 table 7-1."""
    if format == "mjpeg":
        return True
    place = unit.find(_START_CODE)
    while 0 <= place < len(unit) - 3:
        head = unit[place + 3]
        kind = head & 0x1F if format == "h264" else head >> 1 & 0x3F
        if kind in _KEYS[format]:
            return True
        if kind in _SLICES[format]:
            return False
        place = unit.find(_START_CODE, place + 3)
    return False


def _begins(format: str, data: bytes) -> bool:  # noqa: A002 - as in Feed
    """Whether the first bytes are those of the format."""
    return data.startswith(b"\xff\xd8" if format == "mjpeg" else (_START_CODE, b"\x00" + _START_CODE))


def _shape(format: str, width: int | None, height: int | None) -> tuple[int, ...] | None:  # noqa: A002 - as in Feed
    """Shape of a raw frame; None for encoded units."""
    if format in ENCODED_FORMATS:
        return None
    if width is None or height is None or not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ConfigError(f"{format} needs width and height of 1..{MAX_SIDE}, found {width} x {height}")
    if format == "nv12" and (width % 2 or height % 2):
        raise ConfigError(f"nv12 needs an even width and height, found {width} x {height}; crop a row or column")
    return (height, width, 3) if format == "rgb" else (height * 3 // 2, width)


def _told(shape: tuple[int, ...] | None, format: str) -> str:  # noqa: A002 - as in Feed
    if shape is not None:
        return f"{math.prod(shape)} bytes or uint8 {shape}"
    return "whole JPEG files" if format == "mjpeg" else f"{format} access units that begin with a start code (00 00 01)"


def _check_time(captured_s: float) -> None:
    now_s = time.monotonic()
    if not (math.isfinite(captured_s) and 0 <= captured_s <= now_s + _AHEAD_S):
        raise ConfigError(
            f"captured_s must be on the clock of time.monotonic(), which is at {now_s:.3f} now, found {captured_s}"
        )
