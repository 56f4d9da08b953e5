"""What a unit does about its events: begin to reason when one may be coming, and answer when it is asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.errors import ConfigError
from edge_sdk.events import Event
from edge_sdk.explaining.clips import answers_of, explain_file, tasks_of
from edge_sdk.explaining.live import LiveClip
from edge_sdk.explaining.messages import Piece, ReasoningReport, Reply
from edge_sdk.explaining.process import ReasonerProcess
from edge_sdk.explaining.settings import ReasonerSettings
from edge_sdk.stream import Feeder, LiveFeeder

# How long a question may wait for one that is being answered.
QUEUE_S = 60.0


class EventExplainer:
    """The reasoner of a unit, for any thread. `notice` is called by the unit's loop and waits for nothing.

    The reasoner has one clip at a time. One that is only followed gives way to one that is asked about.
    """

    def __init__(self, bundle: Bundle, settings: ReasonerSettings) -> None:
        """Raises what `ReasonerProcess` raises. The process is started by the first event."""
        self.process = ReasonerProcess(bundle, settings)
        self._following: dict[str, LiveClip] = {}
        self._lock = threading.Lock()

    def notice(self, event: Event, feeder: Feeder) -> None:
        """A revision of an event: begin with its frames when it is provisional, give them up when it is rejected."""
        with self._lock:
            if event.state == "rejected":
                self._drop(event.id)
            elif event.state == "provisional" and isinstance(feeder, LiveFeeder) and feeder.history is not None:
                self._drop(*self._following)
                clip = self._clip(event, feeder)
                clip.follow()
                self._following[event.id] = clip

    def explain(
        self, event: Event, feeder: Feeder, tasks: Sequence[str] | None, deadline_s: float | None
    ) -> Iterator[Piece | Reply | ReasoningReport | Event]:
        """Answers about `event` of `feeder`, what they took, and at the end the event with the answers in it.

        Raises `ConfigError` for a live source that keeps no frames, and what `LiveClip.ask` and `explain_file` raise.
        """
        asked = tasks_of(self.process.language, tasks)
        said: list[Piece | Reply | ReasoningReport] = []
        for item in self._ask(event, feeder, asked, deadline_s):
            said.append(item)
            yield item
        yield msgspec.structs.replace(event, reasoning=answers_of(said))

    def close(self) -> None:
        """End the work and the process."""
        with self._lock:
            self._drop(*self._following)
        self.process.close()

    def _ask(
        self, event: Event, feeder: Feeder, tasks: Sequence[str], deadline_s: float | None
    ) -> Iterator[Piece | Reply | ReasoningReport]:
        followed = self._take(event.id)
        if not isinstance(feeder, LiveFeeder):
            return explain_file(self.process, feeder.uri, tasks, events=[event], deadline_s=deadline_s, wait_s=QUEUE_S)
        clip = followed or self._clip(event, feeder)
        return clip.ask(tasks, events=[event], deadline_s=deadline_s, wait_s=QUEUE_S)

    def _clip(self, event: Event, feeder: LiveFeeder) -> LiveClip:
        if feeder.history is None or feeder.first_s is None:
            raise ConfigError(
                f"{feeder.uri} keeps no frames to reason about; open the unit with reasoning=ReasonerSettings(), or "
                "give live=LiveSettings(history=...)"
            )
        return LiveClip(self.process, feeder.history, feeder.first_s, event.timeline)

    def _take(self, event: str) -> LiveClip | None:
        """The clip that follows `event`, which is the asker's from here on; others give the reasoner up."""
        with self._lock:
            clip = self._following.pop(event, None)
            self._drop(*self._following)
        return clip

    def _drop(self, *events: str) -> None:
        """Give up those of `events` that are followed; the lock is held."""
        for event in events:
            clip = self._following.pop(event, None)
            if clip is not None:
                clip.drop()
