"""One source, one student, one timeline: what `edge_sdk.open` gives.

A unit is read once, by whichever of `frames`, `scores` and `events` the caller likes; each drives the same loop of one
pull, one copy, one run.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.capture import CaptureSettings, SourceInfo, SourceStats, open_source
from edge_sdk.events import Event, Incident, Provenance, State
from edge_sdk.perception.recogniser import Recogniser, student_of
from edge_sdk.perception.timeline import FrameScores, Timeline, TimelineUpdate
from edge_sdk.registry import DEFAULT_RUNTIME
from edge_sdk.runtime import SessionOptions
from edge_sdk.types import Frame


class Step(NamedTuple):
    """What one frame brought. Durations in ms: `decode_ms` waiting for the frame, `student_ms` planes and run."""

    frame: Frame
    scores: FrameScores
    events: tuple[Event, ...]
    decode_ms: float
    student_ms: float


class Unit:
    """A source being watched by a bundle's student. Use as a context manager."""

    def __init__(
        self,
        source: str | Path,
        bundle: Bundle | str | Path | None = None,
        *,
        runtime: str = DEFAULT_RUNTIME,
        threads: int = 1,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        student = student_of(self.bundle)
        self._point = student.operating_point
        self._timeline = Timeline(student)
        self._incident: Incident | None = None
        self._provenance = Provenance(
            bundle=self.bundle.manifest.name,
            bundle_sha256=self.bundle.sha256,
            runtime=runtime,
            config_sha256=hashlib.sha256(msgspec.json.encode(student)).hexdigest(),
        )
        settings = CaptureSettings(width=student.width, height=student.height, rate_hz=student.rate_hz)
        with ExitStack() as opened:
            self._recogniser = Recogniser(self.bundle, runtime, options=SessionOptions(threads=threads))
            opened.callback(self._recogniser.close)
            self._source = opened.enter_context(open_source(str(source), settings))
            self._opened = opened.pop_all()

    @property
    def info(self) -> SourceInfo:
        """What the source says of itself."""
        return self._source.info

    @property
    def stats(self) -> SourceStats:
        """Frames decoded, delivered and dropped so far."""
        return self._source.stats

    @property
    def peak_score(self) -> float:
        """Highest running mean of the raw crash score so far."""
        return self._timeline.peak

    def steps(self) -> Iterator[Step]:
        """Every frame with its scores, the event revisions it caused, and what it cost."""
        before_s = time.perf_counter()
        for frame in self._source:
            pulled_s = time.perf_counter()
            row = self._recogniser.score(frame.pixels)
            scored_s = time.perf_counter()
            scores = FrameScores(frame.time_s, *(float(value) for value in row))
            events = tuple(self._revise(update) for update in self._timeline.push(scores))
            yield Step(frame, scores, events, (pulled_s - before_s) * 1e3, (scored_s - pulled_s) * 1e3)
            before_s = time.perf_counter()

    def finish(self) -> tuple[Event, ...]:
        """The source has ended: the last revisions of what is still open."""
        return tuple(self._revise(update) for update in self._timeline.flush())

    def frames(self) -> Iterator[Frame]:
        """The student's frames, in order."""
        return (step.frame for step in self.steps())

    def scores(self) -> Iterator[FrameScores]:
        """The student's scores, one row a frame."""
        return (step.scores for step in self.steps())

    def events(self, states: Collection[State] | None = None) -> Iterator[Event]:
        """Event revisions as they happen; only those of `states`, where given."""
        for step in self.steps():
            yield from (event for event in step.events if states is None or event.state in states)
        yield from (event for event in self.finish() if states is None or event.state in states)

    def close(self) -> None:
        """Release the source and the session."""
        self._opened.close()

    def __enter__(self) -> Unit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _revise(self, update: TimelineUpdate) -> Event:
        if self._incident is None:
            self._incident = Incident(self.info.uri, self._provenance, self._point)
        event = self._incident.revise(update.state, update.timeline, update.score, now_s=time.monotonic())
        if update.state in ("closed", "rejected"):
            self._incident = None
        return event
