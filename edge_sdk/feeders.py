"""Where a stream's frames come from: a file or a live source.

Only this module treats files and live sources differently. A file gives its next frame, which is waited for. A live
source gives its newest frame or none, and is never waited for. While it is live, a round without a new frame repeats
the last one, as the rate grid of a file does, so that the student's memory advances at a steady rate.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from edge_sdk.capture import Clip, FrameHistory, GopRing, LiveSource, Source, SourceChange, SourceInfo, SourceStats
from edge_sdk.capture.ages import AgeReport, FrameAges
from edge_sdk.capture.muxing import suffix_of, write_units
from edge_sdk.errors import ConfigError
from edge_sdk.events import EventClip, EventTime, shifted
from edge_sdk.hardware import utc_of
from edge_sdk.perception.timeline import HISTORY_S
from edge_sdk.types import CaptureTime, Frame

# How far a declared rate may lie below the student's, as 29.97 does below 30.
_RATE_SLACK = 0.02
# A frame whose own time is not after the last frame's is put this far after it: the resolution of timeline times.
_BEHIND_S = 0.001
# The codec that raw pictures are encoded with.
_ENCODED = "h264"


class SourceView(NamedTuple):
    """A source as it is now.

    `info` is None before its first picture. `age` is how old frames were when they were scored, counted from their best
    known capture time; None for files.
    """

    uri: str
    state: str
    info: SourceInfo | None
    stats: SourceStats
    age: AgeReport | None


class CodedClip(Clip, frozen=True, kw_only=True):
    """Encoded units of a live source around an event.

    `codec` is `h264` or `h265` (as byte streams) or `mjpeg`: the codec of the source's newest picture, or `h264` for a
    source of raw pictures, which are encoded for the ring. `zero_s` is time 0 of the timeline on the clock of
    `time.monotonic()`.
    """

    codec: str
    zero_s: float

    @property
    def suffix(self) -> str:
        """The best file suffix for this clip: `.mp4`, or `.mkv` for MJPEG."""
        return suffix_of(self.codec)

    @property
    def first_s(self) -> float:
        """When the first picture that the clip shows was taken, or `at_s` if it has no units."""
        # Pictures that are decoded after the first key picture may be shown before it.
        return min((unit.captured_s for unit in self.units), default=self.at_s)

    def until(self, end_s: float) -> CodedClip:
        """The clip up to `end_s`, with later units only where pictures before `end_s` are decoded from them."""
        count = max((place for place, unit in enumerate(self.units, 1) if unit.captured_s <= end_s), default=0)
        units = self.units[:count]
        last_s = max((unit.captured_s for unit in units), default=self.at_s)
        gaps = tuple(gap for gap in self.gaps if gap[0] < last_s)
        return msgspec.structs.replace(self, units=units, end_s=last_s, gaps=gaps)

    def save(self, path: str | Path) -> EventClip:
        """Write the clip to the file `path`, which ends in `.mp4` or `.mkv` (for MJPEG, `.mkv` only).

        Returns the record of the clip for its event. Units are not re-encoded, and keep their times from the first
        picture on, including gaps. The file appears whole or not at all, and has reached the disk on return; its folder
        is created, an existing file replaced. Raises `ConfigError` for a clip without units and for another suffix,
        `OSError` for errors of the disk, such as a full one, `SourceError` for units that are not of `codec` and for a
        disk that takes longer than `muxing.LIMIT_S`, and `MissingDependencyError` for a missing GStreamer plugin.
        """
        file = Path(path).absolute()
        digest = write_units(file, self.codec, self.units)
        return EventClip(
            uri=file.as_uri(),
            start_s=round(self.first_s - self.zero_s, 3),
            pre_s=round(self.at_s - self.first_s, 3),
            asked_pre_s=self.asked_s,
            post_s=round(self.end_s - self.at_s, 3),
            gaps_s=tuple((round(a - self.zero_s, 3), round(b - self.zero_s, 3)) for a, b in self.gaps),
            sha256=digest,
        )


class Feeder(Protocol):
    """Where a stream's frames come from.

    `slow` is a warning if there are fewer frames per second than the student is made for, so that its scores are not
    probabilities; otherwise it is None.
    """

    uri: str
    slow: str | None

    def take(self) -> Frame | None:
        """The frame of this round, or None. Raises `SourceError` for a file that fails."""

    @property
    def ended(self) -> bool:
        """Whether no more frames will come."""

    @property
    def state(self) -> str:
        """The state of the source; "live" while frames come."""

    def changes(self) -> list[SourceChange]:
        """State changes since the last call."""

    def instant(self, at_s: float | None, last_s: float) -> float:
        """The timeline time, s, of `at_s` on the monotonic clock, by default now; `last_s` is the last frame's time.

        Raises `ConfigError` for a time outside the last `HISTORY_S` seconds, and for any `at_s` of a file.
        """

    def view(self) -> SourceView:
        """The source as it is now."""

    def time_of(self, frame: Frame | None) -> EventTime:
        """The time of a revision made now; `frame` is the frame that caused it, if one did."""

    def clip(self, at_s: float, pre_roll_s: float) -> CodedClip:
        """The encoded units kept around `at_s`, seconds since the first frame.

        Raises `ConfigError` if none are kept.
        """

    def close(self) -> None:
        """Release the source."""


class FileFeeder:
    """A file or test pattern: every frame, in order."""

    def __init__(self, source: Source, rate_hz: float) -> None:
        """Take frames from `source`; `rate_hz` is the student's rate."""
        self.uri = source.info.uri
        self.slow = _slow(source.info.rate_hz, rate_hz)
        self._source = source
        self._ended = False

    def take(self) -> Frame | None:
        """The next frame; None at the end."""
        frame = next(self._source, None)
        self._ended = frame is None
        return frame

    @property
    def ended(self) -> bool:
        """Whether the file has ended."""
        return self._ended

    @property
    def state(self) -> str:
        """`ended` once the file has ended, `live` before."""
        return "ended" if self._ended else "live"

    def instant(self, at_s: float | None, last_s: float) -> float:
        """The time of the last frame. Raises `ConfigError` if `at_s` is given, because a file has no clock."""
        if at_s is not None:
            raise ConfigError(
                f"{self.uri} is a file and has no clock, found at_s={at_s:g}; leave it out: the event is "
                "then at the frame that was read last"
            )
        return last_s

    def changes(self) -> list[SourceChange]:
        """No changes: a file has no states worth reporting."""
        return []

    def view(self) -> SourceView:
        """The file as it is now."""
        stats = self._source.stats
        if self.slow is not None:
            stats = msgspec.structs.replace(stats, warnings=(self.slow, *stats.warnings))
        return SourceView(self.uri, self.state, self._source.info, stats, None)

    def time_of(self, frame: Frame | None) -> EventTime:
        """The current monotonic time alone: no clock tells when the pictures of a file were taken."""
        return EventTime(monotonic_s=time.monotonic())

    def clip(self, at_s: float, pre_roll_s: float) -> CodedClip:
        """Raise `ConfigError`, because no units of a file are kept."""
        raise ConfigError(f"{self.uri} is a file, and units are kept only for live sources; cut the file itself")

    def close(self) -> None:
        """Close the file."""
        self._ended = True
        self._source.close()


class LiveFeeder:
    """A live source: the newest frame of each round.

    `first_s` is when the first frame was captured, on the clock of `time.monotonic()`; None before that frame.
    """

    def __init__(self, source: LiveSource, ages: FrameAges, period_s: float) -> None:
        self.uri = source.uri
        self.ages = ages
        # Always None: a camera may give fewer pictures than the student needs, but its rate is not known in advance.
        self.slow: str | None = None
        self.first_s: float | None = None
        self._source = source
        self._period_s = period_s
        # The newest picture, with its own copy of the pixels: the program may draw on the frame that it gets, but a
        # repeat must show what the camera showed. Its time is kept too, and grows by a period with each repeat.
        self._kept: Frame | None = None
        self._given_s: float | None = None
        self._sequence = 0

    def take(self) -> Frame | None:
        """The newest frame; if there is none, the last one again while the source is live, else None."""
        frame = self._source.latest()
        if frame is not None:
            self._kept = _with_own_pixels(frame)
        elif self._kept is None or self._source.state != "live":
            return None
        else:
            again_s = self._kept.time_s + self._period_s
            self._kept = msgspec.structs.replace(self._kept, time_s=again_s, restarted=False, repeated=True)
            frame = _with_own_pixels(self._kept)
        if self.first_s is None:
            self.first_s = frame.captured_s - frame.time_s
        self._given_s = self._next_s(frame)
        frame = msgspec.structs.replace(frame, time_s=self._given_s, sequence=self._sequence)
        self._sequence += 1
        return frame

    def _next_s(self, frame: Frame) -> float:
        """The time given to `frame`: its own, or just after the last given time if repeats ran ahead of it.

        Repeats run ahead when a picture is late. Leaving such a picture out would cost the student that picture and a
        round, and many of them if the camera runs at the rate of the rounds, or at half of it.
        """
        if self._given_s is None or frame.restarted or frame.time_s > self._given_s:
            return frame.time_s
        return self._given_s + _BEHIND_S

    @property
    def history(self) -> FrameHistory | None:
        """The RGB frames kept for reasoning; None if none are kept."""
        return self._source.history

    @property
    def ring(self) -> GopRing | None:
        """The encoded units that are kept, None without `pre_roll_s`; thread-safe."""
        return self._source.ring

    def clip(self, at_s: float, pre_roll_s: float) -> CodedClip:
        """The encoded units from `pre_roll_s` before `at_s`, seconds since the first frame, to the newest.

        Raises `ConfigError` if none are kept, before the first frame, and for a pre-roll below 0 or not a number.
        """
        if not 0 <= pre_roll_s < math.inf:
            raise ConfigError(f"expected 0 s or more before the crash, found {pre_roll_s}")
        if self.ring is None:
            raise ConfigError(f"{self.uri}: no units are kept; open it with LiveSettings(pre_roll_s=...)")
        info = self._source.info
        if self.first_s is None or info is None:
            raise ConfigError(f"{self.uri}: no frame has come yet, so this source has made no event")
        clip = self.ring.clip(self.first_s + at_s, pre_roll_s)
        codec = _ENCODED if info.codec == "raw" else info.codec
        return CodedClip(**msgspec.structs.asdict(clip), codec=codec, zero_s=self.first_s)

    @property
    def ended(self) -> bool:
        """Whether the source was closed, or the host program has ended its feed."""
        return self._source.state == "ended"

    @property
    def state(self) -> str:
        """The state of the source."""
        return self._source.state

    def instant(self, at_s: float | None, last_s: float) -> float:
        """The timeline time of `at_s`, by default now.

        Raises `ConfigError` for a time before the first frame, more than `HISTORY_S` ago, or in the future.
        """
        now_s, first_s = time.monotonic(), 0.0 if self.first_s is None else self.first_s
        wanted_s, earliest_s = now_s if at_s is None else at_s, max(first_s, now_s - HISTORY_S)
        if not earliest_s <= wanted_s <= now_s:
            raise ConfigError(
                f"{self.uri}: expected at_s from {earliest_s:.3f} to {now_s:.3f}, now, on the clock of "
                f"time.monotonic(), found {wanted_s:g}; its scores are kept for {HISTORY_S:g} s"
            )
        return wanted_s - first_s

    def changes(self) -> list[SourceChange]:
        """State changes since the last call."""
        return self._source.changes()

    def view(self) -> SourceView:
        """The source as it is now."""
        source = self._source
        return SourceView(self.uri, source.state, source.info, source.stats, self.ages.report())

    def time_of(self, frame: Frame | None) -> EventTime:
        """The current time by this device's clocks, and when the frame was taken."""
        now = utc_of(time.monotonic())
        return EventTime(
            monotonic_s=now.monotonic_s,
            utc=now.iso,
            uncertainty_s=now.uncertainty_s,
            source=now.source,
            capture=frame.capture if frame is not None else None,
            zero=self._zero(),
        )

    def _zero(self) -> CaptureTime | None:
        """When the first frame was taken, by the newest frame's clock: clocks may be set after a source was opened."""
        if self._kept is None or self._kept.capture is None or self.first_s is None:
            return None
        return shifted(self._kept.capture, self.first_s - self._kept.captured_s)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def _with_own_pixels(frame: Frame) -> Frame:
    return msgspec.structs.replace(frame, pixels=frame.pixels.copy())


def _slow(rate_hz: float | None, wanted_hz: float) -> str | None:
    if rate_hz is None or rate_hz >= wanted_hz * (1 - _RATE_SLACK):
        return None
    return (
        f"it has {rate_hz:g} pictures a second, but the student needs {wanted_hz:g}: its scores are not probabilities"
    )
