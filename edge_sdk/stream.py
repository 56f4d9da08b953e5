"""One source of a unit: where its frames come from, its timeline, and the event that is open on it.

Files and live sources differ here and nowhere else. A file gives its next frame and is waited for. A live source gives
its newest frame or none, and is never waited for; while it is live, a round without a new frame takes the last one
again, as the rate grid of a file does, so that the student's memory keeps its clock.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest import Student
from edge_sdk.capture import (
    CaptureSettings,
    Clip,
    Feed,
    FrameHistory,
    GopRing,
    LiveSettings,
    LiveSource,
    Source,
    SourceChange,
    SourceInfo,
    SourceStats,
    is_live,
    live_uri,
    open_live,
    open_source,
)
from edge_sdk.capture.ages import AgeReport, FrameAges
from edge_sdk.errors import ConfigError
from edge_sdk.events import Event, EventTime, Incident, Provenance, shifted
from edge_sdk.hardware import utc_of
from edge_sdk.perception.timeline import FrameScores, Timeline, TimelineUpdate
from edge_sdk.types import CaptureTime, Frame

AnySource = str | Path | Feed

# How far a declared rate may lie below the student's, as 29.97 does below 30.
_RATE_SLACK = 0.02
# What raw pictures are encoded as.
_ENCODED = "h264"


class OneReader:
    """Held by whoever reads a unit, as a context manager; another reader that comes meanwhile gets a `ConfigError`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise ConfigError(
                "expected one reader of a unit at a time, found another at work; read it in one thread, not from "
                "`on_round`, and hand on from there what others need"
            )

    def __exit__(self, *_: object) -> None:
        self._lock.release()


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
    pictures, which are encoded for the ring.
    """

    codec: str


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

    def changes(self) -> list[SourceChange]:
        """State changes since the last call."""

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

    def changes(self) -> list[SourceChange]:
        """A file has no states worth telling."""
        return []

    def view(self) -> SourceView:
        """The file as it is now."""
        state, stats = "ended" if self._ended else "live", self._source.stats
        if self.slow is not None:
            stats = msgspec.structs.replace(stats, warnings=(self.slow, *stats.warnings))
        return SourceView(self.uri, state, self._source.info, stats, None)

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
        self._last: Frame | None = None
        self._sequence = 0

    def take(self) -> Frame | None:
        """The newest frame, the last one again while the source is live, or None."""
        frame = self._source.latest()
        if frame is None:
            if self._last is None or self._source.state != "live":
                return None
            frame = msgspec.structs.replace(
                self._last, time_s=self._last.time_s + self._period_s, restarted=False, repeated=True
            )
        elif self._last is not None and not frame.restarted and frame.time_s <= self._last.time_s:
            # Repeats ran ahead of a source that came back within the stall time-out.
            return None
        if self.first_s is None:
            self.first_s = frame.captured_s - frame.time_s
        self._last = msgspec.structs.replace(frame, sequence=self._sequence)
        self._sequence += 1
        return self._last

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
        return CodedClip(**msgspec.structs.asdict(clip), codec=_ENCODED if info.codec == "raw" else info.codec)

    @property
    def ended(self) -> bool:
        """Whether the source was closed, or its end pushed."""
        return self._source.state == "ended"

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
        if self._last is None or self._last.capture is None or self.first_s is None:
            return None
        return shifted(self._last.capture, self.first_s - self._last.captured_s)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class Stream:
    """A source's place in a unit."""

    def __init__(self, number: int, feeder: Feeder, student: Student, provenance: Provenance) -> None:
        self.number = number
        self.feeder = feeder
        self.timeline = Timeline(student)
        self.open = True
        self._student = student
        self._provenance = provenance
        self._incident: Incident | None = None

    def push(self, frame: Frame, scores: FrameScores, latency_ms: dict[str, float] | None) -> tuple[Event, ...]:
        """The event revisions that one frame's scores cause."""
        return tuple(self._revise(update, frame, latency_ms) for update in self.timeline.push(scores))

    def finish(self) -> tuple[Event, ...]:
        """The last revisions of what is still open: the source has ended, or its memory is lost."""
        return tuple(self._revise(update, None, None) for update in self.timeline.flush())

    def restart(self) -> tuple[Event, ...]:
        """The stream goes on after a gap: close what is open, and begin anew."""
        events, peak = self.finish(), self.timeline.peak
        self.timeline = Timeline(self._student)
        self.timeline.peak = peak
        return events

    def age_ms(self, frame: Frame, now_s: float) -> float | None:
        """How long ago `frame` was captured, noted among its source's ages; None for files and frames taken again."""
        if frame.repeated or not isinstance(self.feeder, LiveFeeder):
            return None
        age_ms = (now_s - frame.captured_s) * 1e3
        self.feeder.ages.add(age_ms)
        return age_ms

    def _revise(self, update: TimelineUpdate, frame: Frame | None, latency_ms: dict[str, float] | None) -> Event:
        if self._incident is None:
            point = self._student.operating_point
            point = msgspec.structs.replace(point, calibrated=point.calibrated and self.feeder.slow is None)
            self._incident = Incident(self.feeder.uri, self._provenance, point)
        event = self._incident.revise(
            update.state,
            update.timeline,
            update.score,
            time=self.feeder.time_of(frame),
            latency_ms=latency_ms,
        )
        if update.state in ("closed", "rejected"):
            self._incident = None
        return event


def _slow(rate_hz: float | None, wanted_hz: float) -> str | None:
    if rate_hz is None or rate_hz >= wanted_hz * (1 - _RATE_SLACK):
        return None
    return f"it has {rate_hz:g} pictures a second and the student needs {wanted_hz:g}: its scores are no probabilities"


def sources_of(source: AnySource | Sequence[AnySource]) -> list[AnySource]:
    """One source or several, as a list. Raises `ConfigError` for none, and for live ones of one name."""
    several = isinstance(source, Iterable) and not isinstance(source, str | bytes | Path | Feed)
    found = cast(list[AnySource], list(cast(Iterable[AnySource], source)) if several else [source])
    for each in found:
        if not isinstance(each, str | Path | Feed):
            raise ConfigError(f"expected a path, a URI or a Feed as source, found {each!r}")
    if not found:
        raise ConfigError("expected at least one source, found none; name a file or a camera")
    names = [name for each in found if (name := live_uri(each)) is not None]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"expected live sources of different names, found {name} twice; give each feed a name, as in "
                "Feed(..., name='rear'), and cameras whose addresses differ in their secrets alone a unit each"
            )
    return found


def check_live(sources: Sequence[AnySource], rate_hz: float | None, live: LiveSettings | None) -> None:
    """Raises `ConfigError` for a rate of rounds that is none, and for what only live sources keep to without any."""
    if rate_hz is not None and not 0 < rate_hz < math.inf:
        raise ConfigError(f"rate_hz must be above 0, found {rate_hz:g}; leave it out for the student's own rate")
    if any(live_uri(each) is not None for each in sources):
        return
    if rate_hz is not None:
        raise ConfigError(
            f"rate_hz is the rate of live sources, found {rate_hz:g} with files alone, which are read at the student's "
            "own; leave it out"
        )
    if live is not None:
        raise ConfigError("live settings are for live sources, found some with files alone; leave them out")


def feeder_of(
    source: AnySource, student: Student, rate_hz: float, live: LiveSettings | None, opened: ExitStack
) -> Feeder:
    """`source` opened for `student`, and closed with `opened`; a live one is asked for `rate_hz` frames a second.

    Raises what `open_source` and `open_live` raise.
    """
    settings = CaptureSettings(width=student.width, height=student.height, rate_hz=student.rate_hz)
    if is_live(source):
        latest = msgspec.structs.replace(settings, rate_hz=None, policy="latest", live=live or LiveSettings())
        camera = open_live(source if isinstance(source, Feed) else str(source), latest)
        return LiveFeeder(opened.enter_context(camera), FrameAges(), 1 / rate_hz)
    return FileFeeder(opened.enter_context(open_source(str(source), settings)), student.rate_hz)


def provenance_of(bundle: Bundle, runtime: str, student: Student) -> Provenance:
    """What events say of who made them."""
    return Provenance(
        bundle=bundle.manifest.name,
        bundle_sha256=bundle.sha256,
        runtime=runtime,
        config_sha256=hashlib.sha256(msgspec.json.encode(student)).hexdigest(),
        operating_point=student.operating_point.name,
    )
