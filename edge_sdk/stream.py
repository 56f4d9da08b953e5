"""One source of a unit: where its frames come from, its timeline and its open events."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, NamedTuple, cast

import msgspec

from edge_sdk import __version__
from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest import Student
from edge_sdk.capture import (
    CaptureSettings,
    Feed,
    LiveSettings,
    is_live,
    live_uri,
    open_live,
    open_source,
)
from edge_sdk.capture.ages import FrameAges
from edge_sdk.capture.uri import parse_source, shown
from edge_sdk.errors import ConfigError, SourceError, UnknownNameError
from edge_sdk.events import LOOK_BACK_S, ByHand, CrashTimeline, Event, Incident, Provenance
from edge_sdk.feeders import Feeder, FileFeeder, LiveFeeder
from edge_sdk.hardware import identify
from edge_sdk.perception.recogniser import Recogniser
from edge_sdk.perception.timeline import HISTORY_S, FrameScores, Timeline, TimelineUpdate
from edge_sdk.types import Frame

AnySource = str | Path | Feed
# Programs that store events may round their times to this.
_ROUNDING_S = 0.001


class Step(NamedTuple):
    """The results of one frame.

    `decode_ms` is the wait for frames, `student_ms` the time for planes and run; both are for the whole round, which
    the frames of several sources share. `age_ms` is the time from capture to scores, None for files and repeated
    frames.
    """

    frame: Frame
    scores: FrameScores
    events: tuple[Event, ...]
    decode_ms: float
    student_ms: float
    age_ms: float | None = None
    stream: int = 0


class OneReader:
    """Context manager held by the reader of a unit; raises `ConfigError` for a second reader at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise ConfigError(
                "expected one reader of a unit at a time, found another one; read it in one thread, not from "
                "`on_round`, and pass results from there to other threads"
            )

    def __exit__(self, *_: object) -> None:
        self._lock.release()


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
        # The scores from before the last gap, and the newest picture's time on the timeline and of its capture.
        self._earlier: Timeline | None = None
        self._seen_s: tuple[float, float] | None = None
        self.by_hand = ByHand()

    def push(self, frame: Frame, scores: FrameScores, latency_ms: dict[str, float] | None) -> tuple[Event, ...]:
        """The event revisions that one frame's scores cause."""
        if not frame.repeated:
            self._seen_s = frame.time_s, frame.captured_s
        found = tuple(self._revise(update, frame, latency_ms) for update in self.timeline.push(scores))
        return found + self._revise_by_hand(frame, latency_ms)

    def finish(self) -> tuple[Event, ...]:
        """Close or reject the events still open, because the source has ended or the student's memory of it is lost."""
        found = tuple(self._revise(update, None, None) for update in self.timeline.flush())
        return found + self._revise_by_hand(None, None)

    def restart(self) -> tuple[Event, ...]:
        """Close the open events and begin a new timeline, because the stream continues after a gap."""
        events, peak = self.finish(), self.timeline.peak
        if self.timeline.last_s is not None:
            self._earlier = self.timeline
        self.timeline = Timeline(self._student)
        self.timeline.peak = peak
        return events

    def trigger(self, at_s: float | None) -> str:
        """Begin an event by hand, or prolong the open one, as `Unit.trigger` says; returns its id.

        Call this with `by_hand.lock` held, so that an end of the source is handled after the event has begun.
        """
        state, last_s = self.feeder.state, self.timeline.last_s
        lost_s: float | None = None
        if state != "live" or last_s is None:
            last_s = lost_s = self._last_picture_s(state)
        at = round(self.feeder.instant(at_s, last_s), 3)
        if lost_s is not None:  # rounded down, because the clip ends with that picture
            at = min(at, math.floor(lost_s * 1e3) / 1e3)
        return self.by_hand.trigger(at, lambda: self._begun("manual"), lost_s)

    def after_loss(self) -> tuple[Event, ...]:
        """All revisions of an event by hand that was triggered when the source had stopped showing pictures."""
        return self._revise_by_hand(None, None) if self.by_hand.awaits_no_frame else ()

    def age_ms(self, frame: Frame, now_s: float) -> float | None:
        """How long ago `frame` was captured, also recorded in its source's ages; None for files and repeated frames."""
        if frame.repeated or not isinstance(self.feeder, LiveFeeder):
            return None
        age_ms = (now_s - frame.captured_s) * 1e3
        self.feeder.ages.add(age_ms)
        return age_ms

    def _last_picture_s(self, state: str) -> float:
        """Timeline time of the last picture, s, of a source in `state` that shows none and may be rebuilt.

        Raises `SourceError` if it has ended, and if that picture is not from the last `HISTORY_S` seconds.
        """
        if state != "ended" and self._seen_s is not None:
            time_s, captured_s = self._seen_s
            if time.monotonic() - captured_s <= HISTORY_S:
                return time_s
        if state == "live":
            raise SourceError(
                f"{self.feeder.uri}: no frame has been scored since it went live; read the unit, and trigger "
                "after the next frame"
            )
        lately = "" if state == "ended" else f" without a picture in the last {HISTORY_S:g} s"
        raise SourceError(
            f"{self.feeder.uri}: expected a live source, found it {state}{lately}; `sources` says when it "
            "shows pictures again"
        )

    def _revise(self, update: TimelineUpdate, frame: Frame | None, latency_ms: dict[str, float] | None) -> Event:
        if self._incident is None:
            self._incident = self._begun("student")
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

    def _revise_by_hand(self, frame: Frame | None, latency_ms: dict[str, float] | None) -> tuple[Event, ...]:
        """The revisions of the event by hand that are due with `frame`, or at the end of the source if it is None."""
        found = self.by_hand.due(math.inf if frame is None else frame.time_s)
        if found is None:
            return ()
        press, states = found
        known = [each for each in (self._earlier, self.timeline) if each is not None]
        press.peak = max(press.peak, *(each.level_since(press.triggered_s - LOOK_BACK_S) for each in known))
        return tuple(
            press.incident.revise(
                state,
                CrashTimeline(),
                press.peak,
                time=self.feeder.time_of(frame),
                latency_ms=latency_ms,
                triggered_s=press.triggered_s,
            )
            for state in states
        )

    def _begun(self, trigger: Literal["student", "manual"]) -> Incident:
        point = self._student.operating_point
        point = msgspec.structs.replace(point, calibrated=point.calibrated and self.feeder.slow is None)
        return Incident(self.feeder.uri, self._provenance, point, trigger)


def sources_of(source: AnySource | Sequence[AnySource]) -> list[AnySource]:
    """One source or several, as a list.

    Raises `ConfigError` for none, for an unusable type, and for two live sources of the same name.
    """
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
                "Feed(..., name='rear'), and open a unit for each camera if their addresses differ only in secrets"
            )
    return found


def named_stream(streams: Sequence[Stream], source: AnySource | None) -> Stream:
    """The stream of `source`, given as it was opened or by the name that events give it; None means the only one.

    Raises `ConfigError` if several streams match, `UnknownNameError` if none does.
    """
    known = [stream.feeder.uri for stream in streams]
    uri = _uri_of(source, known)
    found = [stream for stream in streams if uri in (None, stream.feeder.uri)]
    if not found:
        raise UnknownNameError("source", shown(str(uri)), known)
    if len(found) > 1:
        raise ConfigError(
            f"expected the name of one of {len(streams)} sources, found {uri or 'none named'}; name one of "
            f"{', '.join(sorted(known))}"
        )
    return found[0]


def feeder_for(event: Event, streams: Sequence[Stream]) -> Feeder:
    """The feeder that the frames of `event` come from.

    Raises `ConfigError` for an event of a source that is not in `streams`, and for an event that another unit made from
    the same live source: its times mean other pictures here, or none.
    """
    if not isinstance(event, Event):
        raise ConfigError(f"expected an Event, found {type(event).__name__}; Event.from_json reads one from JSON")
    feeder = next((stream.feeder for stream in streams if stream.feeder.uri == event.source), None)
    if feeder is None:
        raise ConfigError(f"event {event.id} is from {event.source}, which is not a source of this unit")
    if isinstance(feeder, LiveFeeder):
        _refuse_of_another_unit(event, feeder)
    return feeder


def _refuse_of_another_unit(event: Event, feeder: LiveFeeder) -> None:
    """Raise `ConfigError` for an event whose timeline did not begin with this `feeder`.

    All events of a unit have the same `zero.monotonic_s`; only its time of day may be corrected later. An event without
    a zero was made by a program, and is accepted.
    """
    zero, first_s = event.time.zero, feeder.first_s
    if zero is None or (first_s is not None and abs(zero.monotonic_s - first_s) <= _ROUNDING_S):
        return
    here = "has not begun" if first_s is None else f"began at {first_s:.3f} of time.monotonic()"
    raise ConfigError(
        f"{feeder.uri}: expected an event of this unit, whose timeline {here}, found {event.id}, whose timeline began "
        f"at {zero.monotonic_s:.3f}: another unit or run made it; save it and ask about it while that unit is open, or "
        "take the clip that was saved with it, as `edge-sdk explain ID.json` does"
    )


def _uri_of(source: AnySource | None, known: Sequence[str]) -> str | None:
    if source is None or source in known:
        return None if source is None else str(source)
    if isinstance(source, Feed):
        return source.source.uri
    try:
        return parse_source(str(source)).uri
    except ConfigError:  # not a valid source name; the caller then finds no match
        return str(source)


def check_live(sources: Sequence[AnySource], rate_hz: float | None, live: LiveSettings | None) -> None:
    """Raise `ConfigError` for a rate that is not above 0, and for `rate_hz` or `live` without a live source."""
    if rate_hz is not None and not 0 < rate_hz < math.inf:
        raise ConfigError(f"rate_hz must be above 0, found {rate_hz:g}; leave it out for the student's own rate")
    if any(live_uri(each) is not None for each in sources):
        return
    if rate_hz is not None:
        raise ConfigError(
            f"rate_hz is the rate of live sources, found {rate_hz:g} with only files, which are read at the student's "
            "own rate; leave it out"
        )
    if live is not None:
        raise ConfigError("live settings are for live sources, found only files; leave them out")


def feeder_of(
    source: AnySource, student: Student, rate_hz: float, live: LiveSettings | None, opened: ExitStack
) -> Feeder:
    """Open `source` for `student`, to be closed with `opened`; a live source is read at `rate_hz` frames per second.

    Raises what `open_source` and `open_live` raise.
    """
    settings = CaptureSettings(width=student.width, height=student.height, rate_hz=student.rate_hz)
    if is_live(source):
        latest = msgspec.structs.replace(settings, rate_hz=None, policy="latest", live=live or LiveSettings())
        camera = open_live(source if isinstance(source, Feed) else str(source), latest)
        return LiveFeeder(opened.enter_context(camera), FrameAges(), 1 / rate_hz)
    return FileFeeder(opened.enter_context(open_source(str(source), settings)), student.rate_hz)


def provenance_of(bundle: Bundle, runtime: str, student: Student, recogniser: Recogniser) -> Provenance:
    """What events record about what produced them; built once, as none of it changes while the student is open."""
    return Provenance(
        bundle=bundle.manifest.name,
        bundle_sha256=bundle.sha256,
        runtime=runtime,
        runtime_version=recogniser.runtime_version,
        engine_sha256=recogniser.engine_sha256,
        config_sha256=hashlib.sha256(msgspec.json.encode(student)).hexdigest(),
        operating_point=student.operating_point.name,
        sdk=__version__,
        device=identify().board,
    )
