"""Where a stream's frames come from: a file or a live source.

Files and live sources differ here and nowhere else. A file gives its next frame and is waited for. A live source gives
its newest frame or none, and is never waited for; while it is live, a round without a new frame takes the last one
again, as the rate grid of a file does, so that the student's memory keeps its clock.
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
# How far behind the last frame one is whose own time is not: the finest that times of the timeline are told to.
_BEHIND_S = 0.001
# What raw pictures are encoded as.
_ENCODED = "h264"


class SourceView(NamedTuple):
    """A source as it is now. `info` is None before its first picture; `age` is of frames when their scores were there,
    from the best known capture time; files have none.
    """

    uri: str
    state: str
    info: SourceInfo | None
    stats: SourceStats
    age: AgeReport | None


class CodedClip(Clip, frozen=True, kw_only=True):
    """Units of a live source around an event. `codec` is what they are: `h264`, `h265` or `mjpeg`.

    H.264 and H.265 come as byte streams. It is the codec of the source's newest picture, and `h264` for one of raw
    pictures, which are encoded for the ring. `zero_s` is time 0 of the timeline on the clock of `time.monotonic()`.
    """

    codec: str
    zero_s: float

    @property
    def suffix(self) -> str:
        """The ending of a file that holds it best: `.mp4`, or `.mkv` for MJPEG."""
        return suffix_of(self.codec)

    @property
    def first_s(self) -> float:
        """When the first picture that it shows was taken, or `at_s` where it has no units."""
        # Pictures that are decoded after the first key picture may be shown before it.
        return min((unit.captured_s for unit in self.units), default=self.at_s)

    def until(self, end_s: float) -> CodedClip:
        """The clip without what was captured after `end_s`, but for units that others before it are decoded from."""
        count = max((place for place, unit in enumerate(self.units, 1) if unit.captured_s <= end_s), default=0)
        units = self.units[:count]
        last_s = max((unit.captured_s for unit in units), default=self.at_s)
        gaps = tuple(gap for gap in self.gaps if gap[0] < last_s)
        return msgspec.structs.replace(self, units=units, end_s=last_s, gaps=gaps)

    def save(self, path: str | Path) -> EventClip:
        """Write it into the file `path`, which ends in `.mp4`, or in `.mkv`, the one for MJPEG.

        What an event says of it is returned. Units stay as they are, each at its own time from the first picture on,
        gaps too. The file appears whole or not at all, and has reached the disk; its folder is made, an existing file
        replaced. Raises `ConfigError` for a clip without units and for another ending, `OSError` for what the disk
        says, as that it is full, `SourceError` for units that are not of `codec` and for a disk that has not answered
        for `muxing.LIMIT_S`, and `MissingDependencyError` for a missing plugin of GStreamer.
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

    `slow` says so where they are fewer a second than the student is made for, so that its scores are no probabilities.
    """

    uri: str
    slow: str | None

    def take(self) -> Frame | None:
        """The frame of this round, or None. Raises `SourceError` for a file that fails."""

    @property
    def ended(self) -> bool:
        """Whether no frame will come any more."""

    @property
    def state(self) -> str:
        """The state of the source; "live" where frames come."""

    def changes(self) -> list[SourceChange]:
        """State changes since the last call."""

    def instant(self, at_s: float | None, last_s: float) -> float:
        """The second of the timeline at `at_s` of the monotonic clock, by default now; `last_s` is the last frame's.

        Raises `ConfigError` for an instant that is not of the last `HISTORY_S` seconds, or that no clock tells.
        """

    def view(self) -> SourceView:
        """The source as it is now."""

    def time_of(self, frame: Frame | None) -> EventTime:
        """The time of a revision that is made now, because of `frame` where there is one."""

    def clip(self, at_s: float, pre_roll_s: float) -> CodedClip:
        """The encoded units that are kept around `at_s`, seconds since the first frame. Raises `ConfigError`."""

    def close(self) -> None:
        """Release the source."""


class FileFeeder:
    """A file or test pattern: every frame, in order."""

    def __init__(self, source: Source, rate_hz: float) -> None:
        """`rate_hz` is the student's."""
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
        """Whether the file goes on."""
        return "ended" if self._ended else "live"

    def instant(self, at_s: float | None, last_s: float) -> float:
        """A file is where its last frame is. Raises `ConfigError` for an instant, as no clock speaks for a file."""
        if at_s is not None:
            raise ConfigError(
                f"{self.uri} is a file, for which no clock speaks, found at_s={at_s:g}; leave it out: the event is "
                "then at the frame that was read last"
            )
        return last_s

    def changes(self) -> list[SourceChange]:
        """A file has no states worth telling."""
        return []

    def view(self) -> SourceView:
        """The file as it is now."""
        stats = self._source.stats
        if self.slow is not None:
            stats = msgspec.structs.replace(stats, warnings=(self.slow, *stats.warnings))
        return SourceView(self.uri, self.state, self._source.info, stats, None)

    def time_of(self, frame: Frame | None) -> EventTime:
        """Now; no clock speaks for what a file shows."""
        return EventTime(monotonic_s=time.monotonic())

    def clip(self, at_s: float, pre_roll_s: float) -> CodedClip:
        """Of a file nothing is kept. Raises `ConfigError`."""
        raise ConfigError(f"{self.uri} is a file, of which no units are kept; cut the file itself")

    def close(self) -> None:
        """Close the file."""
        self._ended = True
        self._source.close()


class LiveFeeder:
    """A live source: the newest frame of each round.

    `first_s` is when its first frame was captured, on the clock of `time.monotonic()`; None before it.
    """

    def __init__(self, source: LiveSource, ages: FrameAges, period_s: float) -> None:
        self.uri = source.uri
        self.ages = ages
        # A camera may give fewer pictures than the student is made for; how many is not known before they come.
        self.slow: str | None = None
        self.first_s: float | None = None
        self._source = source
        self._period_s = period_s
        # The newest picture with pixels of its own: the program may draw on what it is given, and what is shown again
        # is what the camera showed. Its time is its own too, a period later for each time that it was shown again.
        self._kept: Frame | None = None
        self._given_s: float | None = None
        self._sequence = 0

    def take(self) -> Frame | None:
        """The newest frame, the last one again while the source is live, or None."""
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
        """The time that `frame` is given with: its own, or just behind the last one where repeats ran ahead of it.

        They do where a picture comes late. The student would miss it and a round if it were left out, and many where a
        camera keeps the rate of the rounds, or half of it.
        """
        if self._given_s is None or frame.restarted or frame.time_s > self._given_s:
            return frame.time_s
        return self._given_s + _BEHIND_S

    @property
    def history(self) -> FrameHistory | None:
        """The RGB frames that are kept for reasoning, if any are."""
        return self._source.history

    @property
    def ring(self) -> GopRing | None:
        """The encoded units that are kept, None without `pre_roll_s`; safe for several threads."""
        return self._source.ring

    def clip(self, at_s: float, pre_roll_s: float) -> CodedClip:
        """The encoded units from `pre_roll_s` before `at_s`, seconds since the first frame, to the newest.

        Raises `ConfigError` where none are kept, before the first frame, and for a pre-roll below 0 or no number.
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
        """Whether the source was closed, or its end pushed."""
        return self._source.state == "ended"

    @property
    def state(self) -> str:
        """The state of the source."""
        return self._source.state

    def instant(self, at_s: float | None, last_s: float) -> float:
        """Raises `ConfigError` for an instant before the first frame, of more than `HISTORY_S` ago, or to come."""
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
        """Now by this device's clocks, and when the frame was taken."""
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
        """When the first frame was taken, as the newest one tells: clocks may be set after a source was opened."""
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
    return f"it has {rate_hz:g} pictures a second and the student needs {wanted_hz:g}: its scores are no probabilities"
