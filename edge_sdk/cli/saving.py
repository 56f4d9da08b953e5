"""What `edge-sdk run --save` does beside the watching: events become files on a thread of their own.

Each is written as soon as it is confirmed, for a crash may cut the power, again when its times are refined, and whole
when it is closed. What waits is an event, not its pictures: those lie in the source's ring until they are written. So a
slow disk, which gets to early files first, costs the beginning of whole clips and then clips, but no memory, and it
never holds up the sources.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec

from edge_sdk.capture import LiveSettings
from edge_sdk.capture.muxing import LIMIT_S
from edge_sdk.cli.options import refuse_stray
from edge_sdk.console import say
from edge_sdk.errors import ConfigError, EdgeError
from edge_sdk.events import Event, EventClip
from edge_sdk.feeders import LiveFeeder
from edge_sdk.files import FULL, check_folder
from edge_sdk.saving import LATE_S, SaveSettings, clip_for, lacks_beginning, shortfall
from edge_sdk.types import Value
from edge_sdk.unit import Unit

_EARLY = ("confirmed", "refined")
# Events that wait, of each kind, those for their post-roll among them. Of more, with a disk that slow, the ring has
# nothing any more.
_ROOM, _ROOM_FOR_SOURCE = 16, 2
_POLL_S = 0.05
# The ring covers an event of this length, which by hand is the longest, and the writing of those before it.
_EVENT_S = 60.0
_WRITING_S = 30.0
_RING_MB = LiveSettings().ring_limit_mb
# What ends the program waits so long at most: for one file that hangs, and for those that come after it quickly.
_END_S = LIMIT_S + 10.0


class Saved(Value, frozen=True, kw_only=True):
    """What became of an event's clip. `reason` says why there is none, or what it lacks."""

    schema: int = 1
    event: str
    source: str
    clip: EventClip | None
    reason: str


class SavedCounts(Value, frozen=True, kw_only=True):
    """Clips that were saved to the end of a run, and those that were lost."""

    saved: int
    lost: int


def saving_of(
    folder: Path | None,
    pre_roll_s: float | None,
    post_roll_s: float | None,
    limit_mb: float | None,
    ring_mb: float | None,
) -> Saving | None:
    """What the options of `run` say, None without a folder. Raises `ConfigError` for some that say nothing then."""
    if folder is None:
        refuse_stray(
            "without --save nothing is saved",
            {"--pre-roll": pre_roll_s, "--post-roll": post_roll_s, "--save-mb": limit_mb, "--ring-mb": ring_mb},
        )
        return None
    if ring_mb is not None and not 0 < ring_mb < math.inf:
        raise ConfigError(f"--ring-mb must be above 0, found {ring_mb:g}; leave it out for the usual {_RING_MB:g}")
    usual = SaveSettings()
    return Saving(
        folder,
        SaveSettings(
            pre_roll_s=usual.pre_roll_s if pre_roll_s is None else pre_roll_s,
            post_roll_s=usual.post_roll_s if post_roll_s is None else post_roll_s,
            limit_mb=limit_mb,
        ),
        ring_mb,
    )


def with_ring(live: LiveSettings, saving: Saving) -> LiveSettings:
    """`live`, with a ring that holds what is to be saved of an event."""
    rolls_s = saving.settings.pre_roll_s + saving.settings.post_roll_s
    kept_s = rolls_s + LATE_S + _EVENT_S + _WRITING_S
    limit_mb = live.ring_limit_mb if saving.ring_mb is None else saving.ring_mb
    return msgspec.structs.replace(live, pre_roll_s=kept_s, ring_limit_mb=limit_mb)


class Saving(NamedTuple):
    """Where to, and what; `ring_mb` (10^6 bytes) is what the units kept for it may take for each source, if given."""

    folder: Path
    settings: SaveSettings
    ring_mb: float | None = None


class EventSaver:
    """Saves the events of live sources that it is given; use as a context manager, whose end waits for the last.

    `complain` is given what was not saved, or not whole. All but the writing is for the thread that reads `unit`.
    Raises `ConfigError` for a folder that cannot be one, and where no source is live.
    """

    def __init__(self, unit: Unit, saving: Saving, complain: Callable[[Sequence[str]], None]) -> None:
        feeders = [stream.feeder for stream in unit.streams if isinstance(stream.feeder, LiveFeeder)]
        if not feeders:
            raise ConfigError(
                "--save is for live sources, found files alone, which are recordings already; leave it out"
            )
        check_folder(saving.folder)
        self._live = {feeder.uri: feeder for feeder in feeders}
        self._unit, self._saving, self._complain = unit, saving, complain
        self._room = max(_ROOM, _ROOM_FOR_SOURCE * len(feeders))
        self._lock = threading.Lock()
        self._begun: list[Event] = []
        self._closed: list[Event] = []
        self._writing: Event | None = None
        # Of events that are not closed: the revision that was saved, and the states that were.
        self._early: dict[str, Event] = {}
        self._asked: dict[str, set[str]] = {}
        self._news: deque[Saved] = deque()
        self._ending = False
        self._saved = self._lost = 0
        self._thread = threading.Thread(target=self._work, name="edge-sdk saving", daemon=True)

    @property
    def counts(self) -> SavedCounts:
        """Counts of what was told."""
        return SavedCounts(saved=self._saved, lost=self._lost)

    def notice(self, event: Event) -> None:
        """Have `event`, of a live source, saved in the states that are; waits for nothing."""
        if event.source not in self._live:
            return
        if event.state == "closed":
            self._asked.pop(event.id, None)
            if not self._put(event, self._closed):
                self._lose(event, f"{self._room} events wait to be written already: the disk is too slow")
        elif event.state in _EARLY:
            # Its times may be refined often.
            asked = self._asked.setdefault(event.id, set())
            if event.state not in asked:
                asked.add(event.state)
                self._forget_begun(event.id)  # one that still waits has less to show
                self._put(event, self._begun)  # without room for it there is still the whole one

    def tell(self) -> None:
        """Print what was saved and lost since the last call, one JSON line each."""
        while self._news:
            saved = self._news.popleft()
            self._saved += saved.clip is not None
            self._lost += saved.clip is None
            say(msgspec.json.encode({"saved": saved}).decode())
            if saved.reason:
                self._complain([f"event {saved.event}: {saved.reason}"])

    def __enter__(self) -> EventSaver:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Save what waits, without its post-roll; not where the program is interrupted."""
        self._ending = True
        if kind is None or issubclass(kind, Exception):
            self._unit.stop()
            self._thread.join(_END_S)
            self._give_up()
            self.tell()

    def _put(self, event: Event, waiting: list[Event]) -> bool:
        with self._lock:
            if len(waiting) < self._room:
                waiting.append(event)
                return True
            return False

    def _work(self) -> None:
        while (event := self._next()) is not None:
            self._writing = event
            if event.state == "closed":
                self._news.append(self._save(event))
            else:
                self._save_early(event)
            self._writing = None

    def _next(self) -> Event | None:
        while True:
            # Asked before: the last event may come between a look that finds none and this.
            ending = self._ending
            if (event := self._take()) is not None:
                return event
            if ending:
                return None
            time.sleep(_POLL_S)

    def _take(self) -> Event | None:
        """The next one that need not be waited for; those that a crash may still cut short come first."""
        with self._lock:
            # Asked once: a source that ends meanwhile is for the next look.
            over = {event.id for event in self._closed if self._is_over(event)}
            self._begun[:] = (event for event in self._begun if event.id not in over)
            for place, event in enumerate(self._begun):
                if self._has_come(event):
                    return self._begun.pop(place)
            for place, event in enumerate(self._closed):
                if event.id in over:
                    return self._closed.pop(place)
        return None

    def _forget_begun(self, event_id: str) -> None:
        with self._lock:
            self._begun[:] = (event for event in self._begun if event.id != event_id)

    def _has_come(self, event: Event) -> bool:
        """Whether the crash or trigger is among the units that are kept by now, which come a moment later."""
        if self._ending or time.monotonic() >= event.time.monotonic_s + LATE_S:
            return True
        with suppress(ConfigError):  # where nothing is kept, it is for `Unit.save` to say so
            clip = self._live[event.source].clip(event.began_s, 0.0)
            return bool(clip.units) and clip.end_s >= clip.at_s
        return True

    def _is_over(self, event: Event) -> bool:
        """Whether `Unit.save` would not wait for a post-roll, behind which no early file is to wait."""
        end_s = event.time.monotonic_s + self._saving.settings.post_roll_s + LATE_S
        return self._ending or time.monotonic() >= end_s or self._live[event.source].state != "live"

    def _save_early(self, event: Event) -> None:
        """What goes wrong is not told: it is tried again when the event is closed."""
        with suppress(Exception):
            self._early[event.id] = self._unit.save(event, self._saving.folder, self._saving.settings)

    def _save(self, event: Event) -> Saved:
        """Whatever goes wrong with one event costs no other."""
        try:
            clip = self._unit.save(event, self._saving.folder, self._saving.settings).clip
            reason = self._kept(event, clip) or shortfall(clip)
        except Exception as error:
            return self._without(event, _reason(error))
        self._early.pop(event.id, None)
        return Saved(event=event.id, source=event.source, clip=clip, reason=reason)

    def _kept(self, event: Event, clip: EventClip | None) -> str:
        """Why the early file has stayed, empty where it has not.

        A whole clip may have the same bytes, where no picture came behind: then its beginning is still in the ring.
        """
        early = self._early.get(event.id)
        if clip is None or early is None or early.clip is None or clip.sha256 != early.clip.sha256:
            return ""
        if not lacks_beginning(self._unit.clip(event, self._saving.settings.pre_roll_s)):
            return ""
        return f"{_ends(clip)}: when it was closed, the crash or trigger was no longer kept"

    def _without(self, event: Event, why: str) -> Saved:
        """What is told of an event whose whole clip cannot be there."""
        early = self._early.pop(event.id, None)
        clip = None if early is None else clip_for(event, early)
        reason = f"its clip is lost: {why}" if clip is None else f"{_ends(clip)}: {why}"
        return Saved(event=event.id, source=event.source, clip=clip, reason=reason)

    def _give_up(self) -> None:
        """What still waits behind a disk that does not answer."""
        with self._lock:
            left, self._closed = self._closed, []
            self._begun.clear()
        writing = self._writing
        if self._thread.is_alive() and writing is not None and writing.state == "closed":
            left.insert(0, writing)
        for event in left:
            self._lose(event, f"the disk has not taken it in the {_END_S:g} s after the end")

    def _lose(self, event: Event, why: str) -> None:
        self._forget_begun(event.id)
        self._news.append(self._without(event, why))


def _ends(clip: EventClip) -> str:
    return (
        f"its clip ends {clip.post_s:.1f} s after the crash or trigger, as it was written before the event was closed"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        mend = "; make room, or let --save-mb do so" if error.errno in FULL else ""
        return f"{os.fsdecode(error.filename)}: {error.strerror}{mend}"
    return str(error) if isinstance(error, EdgeError) else f"{type(error).__name__}: {error}"
