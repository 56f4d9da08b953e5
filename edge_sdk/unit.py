"""Sources, one student, a timeline each: what `edge_sdk.open` gives.

A unit is read once, by whichever of `steps`, `frames`, `scores`, `events` and `watch` the caller likes; each drives the
same loop of rounds. In a round every source gives at most one frame, and all of them are scored in one run. With files
alone, rounds follow each other as fast as they can; with a live source they keep the student's rate.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.bundle.manifest import Student
from edge_sdk.capture import (
    CaptureSettings,
    Clip,
    Feed,
    LiveSettings,
    SourceChange,
    SourceInfo,
    SourceStats,
    is_live,
    open_live,
    open_source,
)
from edge_sdk.capture.ages import FrameAges
from edge_sdk.capture.pace import Pace
from edge_sdk.errors import ConfigError, EdgeError, SourceError
from edge_sdk.events import Event, Provenance, State, check_states
from edge_sdk.explaining import (
    EventExplainer,
    Piece,
    ReasonerSettings,
    ReasoningReport,
    Reply,
    history_settings,
)
from edge_sdk.perception.recogniser import Recogniser, student_of
from edge_sdk.perception.timeline import FrameScores
from edge_sdk.registry import DEFAULT_RUNTIME
from edge_sdk.runtime import SessionOptions
from edge_sdk.stream import (
    AnySource,
    Feeder,
    FileFeeder,
    LiveFeeder,
    SourceView,
    Stream,
    check_rate,
    sources_of,
)
from edge_sdk.types import Frame


class Step(NamedTuple):
    """What one frame brought. Durations in ms: `decode_ms` waiting for frames, `student_ms` planes and run; both are
    those of the whole round, which the frames of several sources share. `age_ms`: from capture to scores, None for
    files and for frames that were taken again.
    """

    frame: Frame
    scores: FrameScores
    events: tuple[Event, ...]
    decode_ms: float
    student_ms: float
    age_ms: float | None = None
    stream: int = 0


class Unit:
    """Sources being watched by a bundle's student. Use as a context manager.

    `source` is one source or several. A file that cannot be opened raises; a live source that is not there yet is
    waited for, and its states tell so. `rate_hz` is the rate of rounds with live sources, by default the student's; a
    lower one saves work, and scores are then of a student that sees the world go faster. `device` is where the runtime
    "ort" computes, `operating_point` the name of one that the bundle was fitted for (`quiet`, `balanced`, `sensitive`;
    the bundle's default for None). With `reasoning`, live sources keep frames for `explain`, and the reasoner begins
    with those of an event as soon as it is provisional; files can be asked about without it. Raises `ConfigError` for
    no source at all, for what is none, for two live ones of one name, by which events say whose they are, and for a
    rate that is not above 0 or without a live source, `UnknownNameError` for an operating point that the bundle does
    not have.
    """

    def __init__(
        self,
        source: AnySource | Sequence[AnySource],
        bundle: Bundle | str | Path | None = None,
        *,
        runtime: str = DEFAULT_RUNTIME,
        threads: int = 1,
        device: str = "cpu",
        live: LiveSettings | None = None,
        rate_hz: float | None = None,
        reasoning: ReasonerSettings | None = None,
        operating_point: str | None = None,
    ) -> None:
        sources = sources_of(source)
        check_rate(rate_hz, sources)
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self.student = student = student_of(self.bundle, operating_point)
        # Not an Event, whose lock a signal handler may find held by the thread that it interrupts.
        self._stopped = False
        self._lost: list[SourceChange] = []
        self._held: list[Event] = []
        live_rate_hz = rate_hz or student.rate_hz
        self._reasoning = reasoning or ReasonerSettings(runtime=runtime, threads=threads, device=device)
        self._explainer: EventExplainer | None = None
        self._explaining, self._closed = threading.Lock(), False
        with ExitStack() as opened:
            if reasoning is not None:
                live = _keeping(live or LiveSettings(), self._reasoner())
            options = SessionOptions(threads=threads, device=device)
            self._recogniser = Recogniser(self.bundle, runtime, streams=len(sources), options=options)
            opened.callback(self._recogniser.close)
            provenance = _provenance(self.bundle, runtime, student)
            self.streams: tuple[Stream, ...] = tuple(
                Stream(number, _feeder(one, student, live_rate_hz, live, opened), student, provenance)
                for number, one in enumerate(sources)
            )
            self._opened = opened.pop_all()
        self._follows = reasoning is not None
        self._pace = Pace(1 / live_rate_hz) if any(isinstance(s.feeder, LiveFeeder) for s in self.streams) else None

    @property
    def sources(self) -> tuple[SourceView, ...]:
        """Every source as it is now: its state, what it says of itself, its counts and the age of its frames."""
        return tuple(stream.feeder.view() for stream in self.streams)

    @property
    def info(self) -> SourceInfo:
        """What the first source says of itself. Raises `SourceError` while a live one has shown no picture."""
        info = self.streams[0].feeder.view().info
        if info is None:
            raise SourceError(f"{self.streams[0].feeder.uri}: no picture has come yet; look at `sources` for its state")
        return info

    @property
    def stats(self) -> SourceStats:
        """Frames decoded, delivered and dropped so far by the first source, and what is wrong with it."""
        return self.streams[0].feeder.view().stats

    @property
    def peak_score(self) -> float:
        """Highest running mean of the raw crash score so far, of all sources."""
        return max(stream.timeline.peak for stream in self.streams)

    @property
    def missed_rounds(self) -> int:
        """Rounds that were skipped because an earlier one took too long; 0 without live sources."""
        return self._pace.missed if self._pace is not None else 0

    def steps(self) -> Iterator[Step]:
        """Every frame with its scores, the event revisions it caused, and what it cost.

        Revisions that no frame caused, as where a source falls silent or ends before the others, come with the next
        step of that source, or from `finish`.
        """
        for item in self._walk():
            if isinstance(item, Event):
                self._held.append(item)
            elif isinstance(item, Step):
                yield item._replace(events=self._held_of(item.stream) + item.events)

    def finish(self) -> tuple[Event, ...]:
        """The sources have ended: the last revisions of what is still open."""
        held, self._held = tuple(self._held), []
        return held + tuple(event for stream in self.streams for event in stream.finish())

    def frames(self) -> Iterator[Frame]:
        """The student's frames, in order."""
        return (step.frame for step in self.steps())

    def scores(self) -> Iterator[FrameScores]:
        """The student's scores, one row a frame."""
        return (step.scores for step in self.steps())

    def events(self, states: Collection[State] | None = None) -> Iterator[Event]:
        """Event revisions as they happen; only those of `states`, where given. Raises `UnknownNameError` for others."""
        wanted = None if states is None else check_states(states)
        found = (item for item in self.watch() if isinstance(item, Event))
        return (event for event in found if wanted is None or event.state in wanted)

    def watch(self, on_round: Callable[[], object] | None = None) -> Iterator[Event | SourceChange]:
        """Event revisions and changes of the sources' states, as they happen.

        `on_round` is called before every round, and many times a second while nothing comes. An error is raised when
        what was open is closed.
        """
        for item in self._walk(on_round):
            if isinstance(item, Step):
                yield from item.events
            else:
                yield item
        yield from self.finish()
        yield from self._changes()

    def explain(
        self, event: Event, tasks: Sequence[str] | None = None, *, deadline_s: float | None = None
    ) -> Iterator[Piece | Reply | ReasoningReport | Event]:
        """Ask the video LLM `tasks`, by default all, about an event of this unit; text as it comes.

        A file is sampled whole. Of a live source the frames from `explaining.live.BEFORE_S` before the event on are
        taken, as far as they have come: ask about an event that is closed. The last item is the event with its
        answers. After `deadline_s`, counted from the first `next`, answers are given as far as they went. Raises
        `BundleError` for a bundle without a language part, `UnknownNameError` for a task, `ConfigError` for an event of
        another source, `SourceError` where its frames are no longer kept, and `RuntimeFailure` when the reasoner's
        process dies, or has no turn in time; it can be asked again.

        Any thread may ask. Whoever iterates drives the rounds: while the one that iterates reads answers, no source is
        watched, so ask from another thread, and let it end before the unit is closed.
        """
        return self._reasoner().explain(event, self._feeder_of(event), tasks, deadline_s)

    def clip(self, event: Event, pre_roll_s: float) -> Clip:
        """The encoded units around an event of a live source: from `pre_roll_s` before its crash to the newest.

        They are kept with `LiveSettings(pre_roll_s=...)`, so many seconds before the newest: that must hold the time
        since the crash too, which is some seconds for a closed event. `Clip.delivered_s` says how many there were. Any
        thread may ask. Raises `ConfigError` for an event of another source, of a file, and where no units are kept, and
        for a pre-roll that is negative or no number.
        """
        feeder, begin = self._feeder_of(event), event.timeline.crash_start or event.timeline.pre_crash_start
        return feeder.clip(0.0 if begin is None else begin.t, pre_roll_s)

    def stop(self) -> None:
        """End the iteration after the present round; may be called from another thread or a signal handler."""
        self._stopped = True

    def close(self) -> None:
        """Release the sources, the session and the reasoner's process."""
        self._stopped = True
        with self._explaining:
            self._closed, explainer = True, self._explainer
        if explainer is not None:
            explainer.close()
        self._opened.close()

    def __enter__(self) -> Unit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _walk(self, on_round: Callable[[], object] | None = None) -> Iterator[Step | Event | SourceChange]:
        before_s = time.perf_counter()
        while not self._stopped:
            if on_round is not None:
                on_round()
            yield from self._changes()
            streams = [stream for stream in self.streams if stream.open]
            if not streams:
                return
            if self._due():
                try:
                    yield from self._round(streams, before_s)
                except EdgeError:
                    yield from self.finish()
                    yield from self._changes()
                    raise
                before_s = time.perf_counter()

    def _due(self) -> bool:
        """Whether a round may begin now; where it may not, a short while is waited."""
        if self._pace is None:
            return True
        rest_s = self._pace.rest_s()
        if rest_s > 0:
            time.sleep(rest_s)
            return False
        self._pace.begin()
        return True

    def _round(self, streams: list[Stream], before_s: float) -> Iterator[Step | Event]:
        """One frame of each stream that has one, scored together; a stream that ends while others go on is closed."""
        taken = [(stream, frame) for stream in streams if (frame := self._take(stream)) is not None]
        for stream, frame in taken:
            if frame.restarted:
                self._recogniser.reset(stream.number)
                yield from self._noticed(stream.restart(), stream)
        if taken:
            yield from self._score(taken, before_s)
        ended = [stream for stream in streams if not stream.open]
        if len(ended) < len(streams):
            for stream in ended:
                yield from self._noticed(stream.finish(), stream)

    def _take(self, stream: Stream) -> Frame | None:
        """The stream's frame of this round. One of several sources that fails ends alone; a single one raises."""
        try:
            frame = stream.feeder.take()
        except SourceError as error:
            if len(self.streams) == 1:
                raise
            stream.feeder.close()
            self._lost.append(
                SourceChange(source=stream.feeder.uri, state="ended", at_s=time.monotonic(), reason=str(error))
            )
            frame = None
        stream.open = not stream.feeder.ended
        return frame

    def _score(self, taken: list[tuple[Stream, Frame]], before_s: float) -> Iterator[Step]:
        pulled_s = time.perf_counter()
        for stream, frame in taken:
            self._recogniser.push(stream.number, frame.pixels)
        rows = self._recogniser.step()
        scored_s, now_s = time.perf_counter(), time.monotonic()
        decode_ms, student_ms = (pulled_s - before_s) * 1e3, (scored_s - pulled_s) * 1e3
        for stream, frame in taken:
            scores = FrameScores(frame.time_s, *(float(value) for value in rows[stream.number]))
            age_ms = _age_ms(stream, frame, now_s)
            latency_ms = None
            if age_ms is not None:
                latency_ms = {"capture_to_scores": round(age_ms, 3), "student": round(student_ms, 3)}
            events = self._noticed(stream.push(frame, scores, latency_ms), stream)
            yield Step(frame, scores, events, decode_ms, student_ms, age_ms, stream.number)

    def _noticed(self, events: tuple[Event, ...], stream: Stream) -> tuple[Event, ...]:
        """`events`, of which the reasoner knows if it is to follow them."""
        if self._follows and self._explainer is not None:
            for event in events:
                self._explainer.notice(event, stream.feeder)
        return events

    def _feeder_of(self, event: Event) -> Feeder:
        feeder = next((stream.feeder for stream in self.streams if stream.feeder.uri == event.source), None)
        if feeder is None:
            raise ConfigError(f"event {event.id} is of {event.source}, which is no source of this unit")
        return feeder

    def _held_of(self, stream: int) -> tuple[Event, ...]:
        uri = self.streams[stream].feeder.uri
        found = tuple(event for event in self._held if event.source == uri)
        self._held = [event for event in self._held if event.source != uri]
        return found

    def _reasoner(self) -> EventExplainer:
        with self._explaining:
            if self._closed:
                raise ConfigError("this unit was closed; ask about its events before, or open another")
            if self._explainer is None:
                self._explainer = EventExplainer(self.bundle, self._reasoning)
            return self._explainer

    def _changes(self) -> Iterator[Event | SourceChange]:
        """What sources say of their states; one that shows nothing any more has its open event closed."""
        lost, self._lost = self._lost, []
        yield from lost
        for stream in self.streams:
            for change in stream.feeder.changes():
                yield change
                if change.state in ("stalled", "backoff"):
                    yield from self._noticed(stream.restart(), stream)


def _provenance(bundle: Bundle, runtime: str, student: Student) -> Provenance:
    return Provenance(
        bundle=bundle.manifest.name,
        bundle_sha256=bundle.sha256,
        runtime=runtime,
        config_sha256=hashlib.sha256(msgspec.json.encode(student)).hexdigest(),
        operating_point=student.operating_point.name,
    )


def _keeping(live: LiveSettings, explainer: EventExplainer) -> LiveSettings:
    """`live` with frames kept for the reasoner's profile, unless it says which."""
    process = explainer.process
    history = live.history or history_settings(process.language.profiles[process.profile])
    return msgspec.structs.replace(live, history=history)


def _feeder(
    source: AnySource, student: Student, rate_hz: float, live: LiveSettings | None, opened: ExitStack
) -> Feeder:
    settings = CaptureSettings(width=student.width, height=student.height, rate_hz=student.rate_hz)
    if is_live(source):
        latest = msgspec.structs.replace(settings, rate_hz=None, policy="latest", live=live or LiveSettings())
        camera = open_live(source if isinstance(source, Feed) else str(source), latest)
        return LiveFeeder(opened.enter_context(camera), FrameAges(), 1 / rate_hz)
    return FileFeeder(opened.enter_context(open_source(str(source), settings)), student.rate_hz)


def _age_ms(stream: Stream, frame: Frame, now_s: float) -> float | None:
    if frame.repeated or not isinstance(stream.feeder, LiveFeeder):
        return None
    age_ms = (now_s - frame.captured_s) * 1e3
    stream.feeder.ages.add(age_ms)
    return age_ms
