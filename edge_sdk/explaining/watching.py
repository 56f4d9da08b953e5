"""Reasoning about a unit's events: start work when an event is provisional, and answer when someone asks."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.capture import LiveSettings
from edge_sdk.errors import ConfigError, SourceError
from edge_sdk.events import Event
from edge_sdk.explaining.clips import answers_of, evidence_of, explain_file, tasks_of
from edge_sdk.explaining.kept import KeptFrames
from edge_sdk.explaining.live import LiveClip, history_settings
from edge_sdk.explaining.messages import Piece, ReasoningReport, Reply
from edge_sdk.explaining.process import ReasonerProcess, while_open
from edge_sdk.explaining.request import check_deadline
from edge_sdk.explaining.settings import ReasonerSettings
from edge_sdk.feeders import Feeder, LiveFeeder

# How long a question may wait for another that is being answered.
QUEUE_S = 60.0


class EventExplainer:
    """The reasoner of a unit. The unit's loop calls `notice`, which never waits; any thread may ask.

    A question has priority over work that nobody has asked for: all other events being followed are dropped, and no
    event is followed until the question is answered. The frames of the last `settings.events_kept` events stay in
    memory, whether or not the reasoner has seen them, so that they can be asked about later and again.
    """

    def __init__(self, bundle: Bundle, settings: ReasonerSettings) -> None:
        """Prepare the reasoner; the first event starts its process. Raises what `ReasonerProcess` raises."""
        self.process = ReasonerProcess(bundle, settings)
        # Re-entrant, because the garbage collector may close an abandoned question on a thread that holds the lock.
        self._lock = threading.RLock()
        self._following: dict[str, LiveClip] = {}
        self._kept: OrderedDict[str, KeptFrames] = OrderedDict()
        self._events_kept = settings.events_kept
        self._questions = 0
        self._pid = os.getpid()

    def notice(self, event: Event, feeder: Feeder) -> None:
        """Handle a revision of an event: follow its frames when it is provisional, drop them when it is rejected."""
        if event.state == "rejected":
            with self._lock:
                clip, kept = self._following.pop(event.id, None), self._kept.pop(event.id, None)
            if clip is not None:
                clip.drop()
            if kept is not None:
                kept.stop()
        elif event.state == "provisional" and isinstance(feeder, LiveFeeder) and feeder.history is not None:
            kept = self._frames(event, feeder)
            self._remember(event.id, kept)
            self._follow(event.id, LiveClip(self.process, kept))

    def explain(
        self, event: Event, feeder: Feeder, tasks: Sequence[str] | None, deadline_s: float | None
    ) -> Generator[Piece | Reply | ReasoningReport | Event, None, None]:
        """Yield answers about `event` of `feeder`, a report of their cost, and at the end the event with its answers.

        Raises `ConfigError` for a live source that keeps no frames and for a deadline that is NaN, `Cancelled` if this
        is closed meanwhile, and what `LiveClip.ask` and `explain_file` raise.
        """
        asked = tasks_of(self.process.language, tasks)
        check_deadline(deadline_s)  # before the event's clip is taken, because only answering it closes that clip
        said: list[Piece | Reply | ReasoningReport] = []
        with while_open(), self._question(event.id) as followed:
            for item in self._ask(event, feeder, followed, asked, deadline_s):
                said.append(item)
                yield item
        yield msgspec.structs.replace(event, reasoning=answers_of(said))

    def close(self) -> None:
        """End the work and the process; does nothing in a process forked from this one."""
        if os.getpid() == self._pid:
            self._give_up()
            with self._lock:
                while self._kept:
                    self._kept.popitem()[1].stop()
            self.process.close()

    @contextmanager
    def _question(self, event: str) -> Iterator[LiveClip | None]:
        """During a question, hold the clip that was begun for `event`, if there is one, and drop all others."""
        with self._lock:
            self._questions += 1
            followed = self._following.pop(event, None)
        try:
            self._give_up()
            yield followed
        finally:
            with self._lock:
                self._questions -= 1

    def _follow(self, event: str, clip: LiveClip) -> None:
        """Follow `clip` instead of the clips followed so far, unless a question is being answered."""
        self._give_up()
        with self._lock:
            if not self._questions:
                self._following[event] = clip
                clip.follow()

    def _give_up(self) -> None:
        with self._lock:
            clips, self._following = tuple(self._following.values()), {}
        for clip in clips:
            clip.drop()

    def _ask(
        self,
        event: Event,
        feeder: Feeder,
        followed: LiveClip | None,
        tasks: Sequence[str],
        deadline_s: float | None,
    ) -> Generator[Piece | Reply | ReasoningReport, None, None]:
        # The student may have seen nothing of an event triggered by hand; that is no evidence against a crash.
        seen, score = [event] if event.trigger == "student" else None, evidence_of(event, self.process.bundle)
        if not isinstance(feeder, LiveFeeder):
            return explain_file(
                self.process, feeder.uri, tasks, events=seen, evidence=score, deadline_s=deadline_s, wait_s=QUEUE_S
            )
        clip = self._best(event, feeder, followed)
        return clip.ask(tasks, events=seen, evidence=score, deadline_s=deadline_s, wait_s=QUEUE_S)

    def _best(self, event: Event, feeder: LiveFeeder, followed: LiveClip | None) -> LiveClip:
        """Return a clip of the frames kept since the first sign, unless they end before the crash and later ones exist.

        It is `followed` if that has shown these frames already.
        """
        with self._lock:
            kept = self._kept.get(event.id)
        if kept is None or not kept.shows(event.happened):
            later = self._frames(event, feeder)
            try:
                later.keep()
            except SourceError:
                if kept is None:
                    raise
            else:
                kept = later
        self._remember(event.id, kept)
        if followed is not None and followed.kept is kept:
            return followed
        if followed is not None:
            followed.drop()
        return LiveClip(self.process, kept)

    def _remember(self, event: str, kept: KeptFrames) -> None:
        """Keep these frames and those still to come for later questions; those asked for least recently are dropped."""
        with self._lock:
            before = self._kept.pop(event, None)
            self._kept[event] = kept
            dropped = [] if before is None or before is kept else [before]
            while len(self._kept) > self._events_kept:
                dropped.append(self._kept.popitem(last=False)[1])
        for each in dropped:
            each.stop()
        if before is not kept:
            kept.follow()

    def _frames(self, event: Event, feeder: LiveFeeder) -> KeptFrames:
        if feeder.history is None or feeder.first_s is None:
            raise ConfigError(
                f"{feeder.uri} keeps no frames to reason about; open the unit with reasoning=ReasonerSettings(), or "
                "give live=LiveSettings(history=...)"
            )
        most = self.process.language.profiles[self.process.profile].frames
        return KeptFrames(feeder.history, feeder.first_s, event.happened, most)


def with_frames_kept(live: LiveSettings, explainer: EventExplainer) -> LiveSettings:
    """Return `live` with a frame history for the reasoner's profile, unless it already has one."""
    process = explainer.process
    history = live.history or history_settings(process.language.profiles[process.profile])
    return msgspec.structs.replace(live, history=history)
