"""Sources, one student, a timeline each: what `edge_sdk.open` gives.

A unit is read once, by whichever of `steps`, `frames`, `scores`, `events` and `watch` the caller likes; each drives the
same loop of rounds. In a round every source gives at most one frame, and all of them are scored in one run. What a
round brings is queued here before any of it is given, so that a reader may be left anywhere and another goes on there.
With files alone, rounds follow each other as fast as they can; with a live source they keep the student's rate.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.capture import LiveSettings, SourceChange, SourceInfo, SourceStats
from edge_sdk.capture.pace import Pace
from edge_sdk.errors import ConfigError, EdgeError, SourceError
from edge_sdk.events import Event, State, check_states
from edge_sdk.explaining import (
    EventExplainer,
    Piece,
    ReasonerSettings,
    ReasoningReport,
    Reply,
    with_frames_kept,
)
from edge_sdk.feeders import CodedClip, LiveFeeder, SourceView
from edge_sdk.perception.recogniser import Recogniser, student_of
from edge_sdk.perception.timeline import FrameScores
from edge_sdk.registry import DEFAULT_RUNTIME
from edge_sdk.runtime import SessionOptions
from edge_sdk.saving import SaveSettings, save_event
from edge_sdk.stream import (
    AnySource,
    OneReader,
    Step,
    Stream,
    check_live,
    feeder_for,
    feeder_of,
    named_stream,
    provenance_of,
    sources_of,
)
from edge_sdk.types import Frame

__all__ = ["Step", "Unit"]


class Unit:
    """Sources being watched by a bundle's student. Use as a context manager.

    `source` is one source or several. A file that cannot be opened raises; a live source that is not there yet is
    waited for, and its states tell so. `rate_hz` is the rate of rounds with live sources, by default the student's; a
    lower one saves work, and scores are then of a student that sees the world go faster. `device` is where the runtime
    "ort" computes, `operating_point` the name of one that the bundle was fitted for (`quiet`, `balanced`, `sensitive`;
    the bundle's default for None). With `reasoning`, live sources keep frames for `explain`, and the reasoner begins
    with those of an event as soon as it is provisional; files can be asked about without it. Raises `ConfigError` for
    no source at all, for what is none, for two live ones of one name, by which events say whose they are, for a rate
    that is not above 0, and for `rate_hz` or `live` without a live source, and `UnknownNameError` for an operating
    point that the bundle does not have.
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
        check_live(sources, rate_hz, live)
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self.student = student = student_of(self.bundle, operating_point)
        # Not an Event, whose lock a signal handler may find held by the thread that it interrupts.
        self._stopped = False
        self._results: deque[Step | Event | SourceChange] = deque()
        self._held: list[Event] = []
        self._failure: EdgeError | None = None
        self._reading = OneReader()
        live_rate_hz = rate_hz or student.rate_hz
        self._reasoning = reasoning or ReasonerSettings(runtime=runtime, threads=threads, device=device)
        self._explainer: EventExplainer | None = None
        self._explaining, self._closed = threading.Lock(), False
        with ExitStack() as opened:
            if reasoning is not None:
                live = with_frames_kept(live or LiveSettings(), self._reasoner())
            options = SessionOptions(threads=threads, device=device)
            self._recogniser = Recogniser(self.bundle, runtime, streams=len(sources), options=options)
            opened.callback(self._recogniser.close)
            provenance = provenance_of(self.bundle, runtime, student, self._recogniser)
            self.streams: tuple[Stream, ...] = tuple(
                Stream(number, feeder_of(one, student, live_rate_hz, live, opened), student, provenance)
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
        while (item := self._next()) is not None:
            if isinstance(item, Event):
                self._held.append(item)
            elif isinstance(item, Step):
                yield item._replace(events=self._held_of(item.stream) + item.events)

    def finish(self) -> tuple[Event, ...]:
        """The sources have ended: revisions that were not read yet, and the last ones of what is still open.

        Raises `ConfigError` while a reader is in a round.
        """
        with self._reading:
            return self._finish()

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

        `on_round` is called before every round, and often while nothing comes. An error is raised when all is closed.
        """
        while (item := self._held_first() or self._next(on_round) or self._last()) is not None:
            if isinstance(item, Step):
                self._results.extendleft(reversed(item.events))
            else:
                yield item

    def explain(
        self, event: Event, tasks: Sequence[str] | None = None, *, deadline_s: float | None = None
    ) -> Iterator[Piece | Reply | ReasoningReport | Event]:
        """Ask the video LLM `tasks`, by default all, about an event of this unit; text as it comes.

        A file is sampled whole. Of a live source the frames from `explaining.kept.BEFORE_S` before the event on are
        taken at the first `next`, as far as they have come: ask about an event that is closed. A `Reply` to a task may
        come twice, and the later one counts: it tells that another answer contradicts it. The last item is the event
        with its answers. After `deadline_s`, counted from the first `next`, answers are given as far as they went.
        Raises `BundleError` for a bundle without a language part, `UnknownNameError` for a task, `ConfigError` for an
        event of another source or unit, and for a deadline that is no number, `SourceError` where its frames are no
        longer kept, `RuntimeFailure` when the reasoner's process dies, or has no turn in time, after which it can be
        asked again, and `Cancelled` when the unit is closed meanwhile.

        Any thread may ask. Whoever iterates drives the rounds: while the one that iterates reads answers, no source is
        watched, so ask from another thread, and let it end before the unit is closed.
        """
        return self._reasoner().explain(event, feeder_for(event, self.streams), tasks, deadline_s)

    def clip(self, event: Event, pre_roll_s: float) -> CodedClip:
        """The encoded units around an event of a live source: from `pre_roll_s` before its crash, or the trigger
        of one by hand, to the newest.

        They are kept with `LiveSettings(pre_roll_s=...)`, so many seconds before the newest: that must hold the time
        since the crash too, which is some seconds for a closed event. `delivered_s` of the clip says how many there
        were, `codec` what its units are. Any thread may ask. Raises `ConfigError` for an event of another source or
        unit, of a file, and where no units are kept, and for a pre-roll that is negative or no number.
        """
        return feeder_for(event, self.streams).clip(event.began_s, pre_roll_s)

    def save(self, event: Event, folder: str | Path, settings: SaveSettings | None = None) -> Event:
        """Write the clip of an event of a live source into `folder`, and beside it the event as JSON.

        Returns when both are on the disk, with the event as it stands there, whose `clip` is null where nothing was
        kept of its time. Of a confirmed or refined event what has come so far is written at once. Of a closed one the
        post-roll is waited for first, but not where the source falls silent or the unit is stopped; it takes the place
        of what was saved before, which stays where the crash or trigger is no longer kept. Any thread may save, but the
        one that reads the unit would hold it up. Where a clip cannot be written the event is, with the earlier clip if
        there is one, and the error raised: what `clip` and `CodedClip.save` raise, `ConfigError` for a folder that
        cannot be one and for an event that is provisional or rejected, and `OSError`.
        """
        feeder = feeder_for(event, self.streams)
        return save_event(event, feeder, Path(folder), settings or SaveSettings(), lambda: self._stopped)

    def trigger(self, source: AnySource | None = None, *, at_s: float | None = None) -> str:
        """Begin an event by hand, as at a button or a G-sensor, on `source`; returns its id at once.

        `source` is what the unit was opened with or the name that events give it, and may be left out where there is
        one. `at_s` is when it happened, on the clock of `time.monotonic()`, up to 20 s ago; by default now, for a file
        the frame that was read last. The reader of the unit is given the event with the source's next frame,
        `provisional` and `confirmed`, and `closed` 10 s after the last trigger: one that comes while it is open
        prolongs it, to 60 s at most, and returns its id. Any thread may call it, but no signal handler. Raises
        `ConfigError` for a source or an instant that is none of these, and for a unit that was stopped or closed,
        `SourceError` while the source is not live and before its first frame was scored.
        """
        stream = named_stream(self.streams, source)
        with stream.by_hand.lock:
            if self._stopped:
                raise ConfigError("this unit was stopped or closed, and watches nothing any more; open another")
            return stream.trigger(at_s)

    def stop(self) -> None:
        """End the iteration after the present round, for good; any thread and a signal handler may call it.

        What that brings is still given, and `watch` and `events` close what is open; `steps` leaves it to `finish`.
        """
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self, on_round: Callable[[], object] | None = None) -> Step | Event | SourceChange | None:
        """What was brought and not given yet, for which rounds are made as needed; None at the end.

        Raises what ended a round when all that it left is given, and `ConfigError` while another reader is in here.
        """
        with self._reading:
            before_s = time.perf_counter()
            while not self._results and self._turn(before_s, on_round):
                pass
            return self._results.popleft() if self._results else None

    def _last(self) -> Step | Event | SourceChange | None:
        """What ends the reading, behind all rounds, one after the other; None when there is no more."""
        with self._reading:
            self._results.extend(self._finish())
            self._note_changes()
            return self._results.popleft() if self._results else None

    def _finish(self) -> tuple[Event, ...]:
        unread, left, self._held = self._held, tuple(self._results), []
        self._results.clear()
        for item in left:
            if isinstance(item, SourceChange):
                self._results.append(item)
            else:
                unread.extend(item.events if isinstance(item, Step) else (item,))
        return (*unread, *self._closing())

    def _turn(self, before_s: float, on_round: Callable[[], object] | None) -> bool:
        """Queue what sources tell of their states, or else what a round brings where one is due; False at the end."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if self._stopped:
            return False
        if on_round is not None:
            on_round()
        self._note_changes()
        streams = [stream for stream in self.streams if stream.open]
        if not self._results and streams and (self._pace is None or self._pace.due()):
            try:
                self._round(streams, before_s)
            except EdgeError as error:
                self._failure = error
                self._results.extend(self._closing())
                self._note_changes()
        return bool(streams)

    def _round(self, streams: list[Stream], before_s: float) -> None:
        """One frame of each stream that has one, scored together; a stream that ends while others go on is closed."""
        taken = [(stream, frame) for stream in streams if (frame := self._take(stream)) is not None]
        for stream, frame in taken:
            if frame.restarted:
                self._recogniser.reset(stream.number)
                self._results.extend(self._noticed(stream.restart(), stream))
        if taken:
            self._score(taken, before_s)
        ended = [stream for stream in streams if not stream.open]
        if len(ended) < len(streams):
            for stream in ended:
                self._results.extend(self._noticed(stream.finish(), stream))

    def _take(self, stream: Stream) -> Frame | None:
        """The stream's frame of this round. One of several sources that fails ends alone; a single one raises."""
        try:
            frame = stream.feeder.take()
        except SourceError as error:
            if len(self.streams) == 1:
                raise
            stream.feeder.close()
            self._results.append(
                SourceChange(source=stream.feeder.uri, state="ended", at_s=time.monotonic(), reason=str(error))
            )
            frame = None
        stream.open = not stream.feeder.ended
        return frame

    def _score(self, taken: list[tuple[Stream, Frame]], before_s: float) -> None:
        pulled_s = time.perf_counter()
        for stream, frame in taken:
            self._recogniser.push(stream.number, frame.pixels)
        rows = self._recogniser.step()
        scored_s, now_s = time.perf_counter(), time.monotonic()
        decode_ms, student_ms = (pulled_s - before_s) * 1e3, (scored_s - pulled_s) * 1e3
        for stream, frame in taken:
            scores = FrameScores(frame.time_s, *(float(value) for value in rows[stream.number]))
            age_ms, latency_ms = stream.age_ms(frame, now_s), None
            if age_ms is not None:
                latency_ms = {"capture_to_scores": round(age_ms, 3), "student": round(student_ms, 3)}
            events = self._noticed(stream.push(frame, scores, latency_ms), stream)
            self._results.append(Step(frame, scores, events, decode_ms, student_ms, age_ms, stream.number))

    def _noticed(self, events: tuple[Event, ...], stream: Stream) -> tuple[Event, ...]:
        """`events`, of which the reasoner knows if it is to follow them."""
        if self._follows and self._explainer is not None:
            for event in events:
                self._explainer.notice(event, stream.feeder)
        return events

    def _held_first(self) -> Event | None:
        """What `steps` has kept for a step that it was left before."""
        with self._reading:
            return self._held.pop(0) if self._held else None

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

    def _note_changes(self) -> None:
        """Queue what sources say of their states; one that shows nothing any more has its open event closed."""
        for stream in self.streams:
            for change in stream.feeder.changes():
                self._results.append(change)
                if change.state in ("stalled", "backoff"):
                    self._results.extend(self._noticed(stream.restart(), stream))

    def _closing(self) -> tuple[Event, ...]:
        return tuple(event for stream in self.streams for event in stream.finish())
