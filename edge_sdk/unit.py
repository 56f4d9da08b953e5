"""The unit that `edge_sdk.open` returns: sources, one student, and a timeline for each source.

A unit is read once, through any of `steps`, `frames`, `scores`, `events` and `watch`; all of them drive the same loop
of rounds. In a round every source gives at most one frame, and one run scores all of them. The results of a round are
queued here before any is given out, so a reader may stop anywhere and another may continue from there. Files alone are
read as fast as they can be; with a live source, rounds keep a fixed rate, by default the student's.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
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

    `source` is one source or several. A file that cannot be opened raises; a live source that is not available yet is
    waited for, and its states say so. `rate_hz` is the rate of rounds with live sources, by default the student's; a
    lower rate saves work, but to the student the world then moves faster. `device` is where the runtime "ort" computes.
    `operating_point` names a point that the bundle was fitted for (`quiet`, `balanced`, `sensitive`); None takes the
    bundle's default. With `reasoning`, live sources keep frames for `explain`, and the reasoner starts on an event's
    frames as soon as the event is provisional; files can be explained without it. Raises `ConfigError` if there is no
    source, if one is of an unusable type, if two live sources have the same name (events identify their source by it),
    for a rate that is not above 0, and for `rate_hz` or `live` without a live source; `UnknownNameError` for an
    operating point that the bundle does not have.
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
        # Not a threading.Event: a signal handler could interrupt the thread that holds its lock, and wait forever.
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
        """Every source as it is now: its state, its description, its counts and the age of its frames."""
        return tuple(stream.feeder.view() for stream in self.streams)

    @property
    def info(self) -> SourceInfo:
        """The description of the first source. Raises `SourceError` while a live source has shown no picture."""
        info = self.streams[0].feeder.view().info
        if info is None:
            raise SourceError(f"{self.streams[0].feeder.uri}: no picture has come yet; look at `sources` for its state")
        return info

    @property
    def stats(self) -> SourceStats:
        """The first source's counts of frames decoded, delivered and dropped so far, and its warnings."""
        return self.streams[0].feeder.view().stats

    @property
    def peak_score(self) -> float:
        """The highest running mean of the raw crash score so far, over all sources."""
        return max(stream.timeline.peak for stream in self.streams)

    @property
    def missed_rounds(self) -> int:
        """Rounds skipped because an earlier one took too long; 0 without live sources."""
        return self._pace.missed if self._pace is not None else 0

    def steps(self) -> Iterator[Step]:
        """Every frame with its scores, the event revisions it caused, and what it cost.

        A revision that no frame caused, for example when a source falls silent or ends before the others, comes with
        the next step of that source, or from `finish`.
        """
        while (item := self._next()) is not None:
            if isinstance(item, Event):
                self._held.append(item)
            elif isinstance(item, Step):
                yield item._replace(events=self._held_of(item.stream) + item.events)

    def finish(self) -> tuple[Event, ...]:
        """Close the events that are still open; return their last revisions after those not read yet.

        Raises `ConfigError` while a reader is in a round.
        """
        with self._reading:
            return self._finish()

    def frames(self) -> Iterator[Frame]:
        """The student's frames, in order."""
        return (step.frame for step in self.steps())

    def scores(self) -> Iterator[FrameScores]:
        """The student's scores, one row per frame."""
        return (step.scores for step in self.steps())

    def events(self, states: Collection[State] | None = None) -> Iterator[Event]:
        """Event revisions as they happen, of `states` alone if given. Raises `UnknownNameError` for a bad state."""
        wanted = None if states is None else check_states(states)
        found = (item for item in self.watch() if isinstance(item, Event))
        return (event for event in found if wanted is None or event.state in wanted)

    def watch(self, on_round: Callable[[], object] | None = None) -> Iterator[Event | SourceChange]:
        """Event revisions and changes of the sources' states, as they happen.

        `on_round` is called before every round, and often while nothing comes. If a round fails, the open events are
        closed first, and the error is raised after their last revisions.
        """
        while (item := self._held_first() or self._next(on_round) or self._last()) is not None:
            if isinstance(item, Step):
                self._results.extendleft(reversed(item.events))
            else:
                yield item

    def explain(
        self, event: Event, tasks: Sequence[str] | None = None, *, deadline_s: float | None = None
    ) -> Generator[Piece | Reply | ReasoningReport | Event, None, None]:
        """Ask the video LLM `tasks`, by default all, about an event of this unit; yield text as it is generated.

        A file is sampled whole. For a live source, the frames from `explaining.kept.BEFORE_S` before the event are
        taken at the first `next`, as far as they have come, so ask about a closed event. A task may yield two `Reply`
        items: the later one counts, and reports that another answer contradicts it. The last item is the event with
        its answers. At `deadline_s`, counted from the first `next`, answers are given as far as they went. Closing the
        generator gives the question up, in the thread that reads it. Raises
        `BundleError` for a bundle without a language part, `UnknownNameError` for an unknown task, `ConfigError` for an
        event of another source or unit and for a deadline that is not a number, `SourceError` if the event's frames are
        gone, `RuntimeFailure` if the reasoner's process dies or gets no turn in time (it can then be asked again), and
        `Cancelled` if the unit is closed meanwhile.

        Any thread may ask. The thread that reads the unit drives the rounds: while it reads answers, no source is
        watched. So ask from another thread, and let that thread finish before the unit is closed.
        """
        return self._reasoner().explain(event, feeder_for(event, self.streams), tasks, deadline_s)

    def clip(self, event: Event, pre_roll_s: float) -> CodedClip:
        """The encoded units of a live source from `pre_roll_s` before the event's crash or trigger to the newest one.

        `LiveSettings(pre_roll_s=...)` is how many seconds of units are kept, back from the newest one. It must also
        cover the time since the crash, which is some seconds for a closed event. The clip's `delivered_s` is how many
        seconds there were, its `codec` the format of its units. Any thread may ask. Raises `ConfigError` for an event
        of another source or unit or of a file, if no units are kept, and for a pre-roll that is negative or no number.
        """
        return feeder_for(event, self.streams).clip(event.began_s, pre_roll_s)

    def save(self, event: Event, folder: str | Path, settings: SaveSettings | None = None) -> Event:
        """Write the clip of a live source's event into `folder`, and the event beside it as JSON.

        Returns the event as written, once both files are on the disk; its `clip` is null if no units of that time were
        kept. For a confirmed or refined event, what has come so far is written at once. For a closed event, the
        post-roll is waited for first, unless the source falls silent or the unit is stopped; the new clip replaces one
        saved earlier, unless the ring has lost the crash or trigger. A later revision of the event in the folder stays,
        and is returned. Any thread may save, but the thread that reads the unit would hold up its rounds. If the clip
        cannot be written, the event still is, with its earlier clip if there is one, and the error is raised: whatever
        `clip` and `CodedClip.save` raise, `ConfigError` for an unusable folder and for an event that is provisional or
        rejected, and `OSError`.
        """
        feeder = feeder_for(event, self.streams)
        return save_event(event, feeder, Path(folder), settings or SaveSettings(), lambda: self._stopped)

    def trigger(self, source: AnySource | None = None, *, at_s: float | None = None) -> str:
        """Begin an event by hand on `source`, as from a button or a G-sensor, and return its id at once.

        `source` is what the unit was opened with, or the name that events give it; a single source need not be named.
        `at_s` is when it happened, on the clock of `time.monotonic()`, up to 20 s ago. The default is now; for a file
        it is the last frame read, and `at_s` must be left out. The unit's reader gets the event with the source's next
        frame, as `provisional` and `confirmed`, and as `closed` 10 s after the last trigger. A trigger while the event
        is open prolongs it, to 60 s at most, and returns the same id. For 20 s after the last picture of a source that
        is down, an event is still begun, at that picture at the latest, and closed at once. Any thread may call this,
        but no signal handler. Raises `ConfigError` for any other source or time, and for a unit that was stopped or
        closed; `SourceError` if the source has ended or is down for longer, and before its first frame has been scored.
        """
        stream = named_stream(self.streams, source)
        with stream.by_hand.lock:
            if self._stopped:
                raise ConfigError("this unit was stopped or closed, and watches nothing any more; open another")
            return stream.trigger(at_s)

    def stop(self) -> None:
        """End the iteration for good after the current round; any thread and a signal handler may call this.

        The results of that round are still given. `watch` and `events` close open events; after `steps`, call `finish`.
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
        """The next queued result, after running rounds as needed; None at the end.

        If a round failed, raises its error after its results have been given. Raises `ConfigError` while another reader
        is in here.
        """
        with self._reading:
            before_s = time.perf_counter()
            while not self._results and self._turn(before_s, on_round):
                pass
            return self._results.popleft() if self._results else None

    def _last(self) -> Step | Event | SourceChange | None:
        """The next of the results that follow the last round; None when there are no more."""
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
        """Queue changes of the sources' states or, if there are none, run a round that is due; False at the end."""
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
        """Score one frame of each stream that has one, together; close a stream that ends while others go on."""
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
        """The stream's frame of this round. If one of several sources fails, only it ends; a single source raises."""
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
        """Return `events`, after passing them to the reasoner if it follows events."""
        if self._follows and self._explainer is not None:
            for event in events:
                self._explainer.notice(event, stream.feeder)
        return events

    def _held_first(self) -> Event | None:
        """The oldest revision that `steps` held back for a step that nobody read."""
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
                raise ConfigError("this unit was closed; ask about its events before you close it, or open another")
            if self._explainer is None:
                self._explainer = EventExplainer(self.bundle, self._reasoning)
            return self._explainer

    def _note_changes(self) -> None:
        """Queue changes of the sources' states; close the open events of a source that has stopped showing pictures."""
        for stream in self.streams:
            for change in stream.feeder.changes():
                self._results.append(change)
                if change.state in ("stalled", "backoff"):
                    self._results.extend(self._noticed(stream.restart(), stream))
            self._results.extend(self._noticed(stream.after_loss(), stream))

    def _closing(self) -> tuple[Event, ...]:
        return tuple(event for stream in self.streams for event in stream.finish())
