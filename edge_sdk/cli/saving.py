"""`edge-sdk run --save`: write events to files on a thread of their own, beside the watching.

An event is written as soon as it is confirmed, because a crash may cut the power, again when its times are refined, and
whole when it is closed. The queue holds events, not frames: those stay in the source's ring until they are written.
Early files are written first. A slow disk therefore costs the beginnings of whole clips, then whole clips, but no
memory, and it never delays the sources.
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
# The most events that wait in each queue, including those in their post-roll. If a disk is so slow that more would
# wait, the ring has already lost their frames.
_ROOM, _ROOM_FOR_SOURCE = 16, 2
_POLL_S = 0.05
# The ring covers an event of this length, the longest possible by hand, and the time to write the events before it.
_EVENT_S = 60.0
_WRITING_S = 30.0
_RING_MB = LiveSettings().ring_limit_mb
# The most that the end of a run waits: time for one file that hangs, and for the rest to follow quickly.
_END_S = LIMIT_S + 10.0


class Saved(Value, frozen=True, kw_only=True):
    """The result of saving an event's clip. `reason` says why there is no clip, or what it lacks."""

    schema: int = 1
    event: str
    source: str
    clip: EventClip | None
    reason: str


class SavedCounts(Value, frozen=True, kw_only=True):
    """Numbers of clips saved and lost by the end of a run."""

    saved: int
    lost: int


def saving_of(
    folder: Path | None,
    pre_roll_s: float | None,
    post_roll_s: float | None,
    limit_mb: float | None,
    ring_mb: float | None,
) -> Saving | None:
    """Return what the options of `run` ask for, None without a folder.

    Raises `ConfigError` for `ring_mb` that is not above 0, and for options that have no effect without a folder.
    """
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
    """Return `live` with a ring that holds all that is to be saved of an event."""
    rolls_s = saving.settings.pre_roll_s + saving.settings.post_roll_s
    kept_s = rolls_s + LATE_S + _EVENT_S + _WRITING_S
    limit_mb = live.ring_limit_mb if saving.ring_mb is None else saving.ring_mb
    return msgspec.structs.replace(live, pre_roll_s=kept_s, ring_limit_mb=limit_mb)


class Saving(NamedTuple):
    """Where events are saved, and how much of them.

    `ring_mb` (10^6 bytes) limits the encoded video kept for saving, per source; None leaves the usual limit.
    """

    folder: Path
    settings: SaveSettings
    ring_mb: float | None = None


class EventSaver:
    """Saves events of live sources. Use it as a context manager; leaving waits for the last event.

    `complain` receives what was not saved, or not whole, and `tell_line` the lines for stdout. Call every method from
    the thread that reads `unit`; only the writing runs on a thread of its own. Raises `ConfigError` for a folder that
    cannot be one, and if no source is live.
    """

    def __init__(
        self,
        unit: Unit,
        saving: Saving,
        complain: Callable[[Sequence[str]], None],
        tell_line: Callable[[str], None] = say,
    ) -> None:
        feeders = [stream.feeder for stream in unit.streams if isinstance(stream.feeder, LiveFeeder)]
        if not feeders:
            raise ConfigError(
                "--save is for live sources, found only files, which are recordings already; leave it out"
            )
        check_folder(saving.folder)
        self._live = {feeder.uri: feeder for feeder in feeders}
        self._unit, self._saving, self._complain, self._tell_line = unit, saving, complain, tell_line
        self._room = max(_ROOM, _ROOM_FOR_SOURCE * len(feeders))
        self._lock = threading.Lock()
        self._begun: list[Event] = []
        self._closed: list[Event] = []
        self._writing: Event | None = None
        # For events that are not closed, by id: the revision that was saved, and the states whose saving was asked.
        self._early: dict[str, Event] = {}
        self._asked: dict[str, set[str]] = {}
        self._news: deque[Saved] = deque()
        self._ending = False
        self._saved = self._lost = 0
        self._thread = threading.Thread(target=self._work, name="edge-sdk saving", daemon=True)

    @property
    def counts(self) -> SavedCounts:
        """The clips that `tell` has reported so far."""
        return SavedCounts(saved=self._saved, lost=self._lost)

    def notice(self, event: Event) -> None:
        """Queue `event` for saving if its source is live and its state is one that is saved; never blocks."""
        if event.source not in self._live:
            return
        if event.state == "closed":
            self._asked.pop(event.id, None)
            if not self._put(event, self._closed):
                self._lose(event, f"{self._room} events already wait to be written: the disk is too slow")
        elif event.state in _EARLY:
            # Times may be refined often; each state is saved once.
            asked = self._asked.setdefault(event.id, set())
            if event.state not in asked:
                asked.add(event.state)
                self._forget_begun(event.id)  # an earlier revision that still waits would show less
                self._put(event, self._begun)  # if the queue is full, the whole clip still follows

    def tell(self) -> None:
        """Print what was saved and lost since the last call, one JSON line each."""
        while self._news:
            saved = self._news.popleft()
            self._saved += saved.clip is not None
            self._lost += saved.clip is None
            self._tell_line(msgspec.json.encode({"saved": saved}).decode())
            if saved.reason:
                self._complain([f"event {saved.event}: {saved.reason}"])

    def __enter__(self) -> EventSaver:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Save the waiting events without their post-roll, unless the program is interrupted."""
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
            # Read before looking: otherwise an event could arrive between a look that finds none and this read.
            ending = self._ending
            if (event := self._take()) is not None:
                return event
            if ending:
                return None
            time.sleep(_POLL_S)

    def _take(self) -> Event | None:
        """Take the next event that is ready to write; early files come first, as a crash may still cut the power."""
        with self._lock:
            # Evaluated once: a source that ends meanwhile counts at the next look.
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
        """Whether the encoded video kept so far reaches the crash or trigger; it arrives a moment after the event."""
        if self._ending or time.monotonic() >= event.time.monotonic_s + LATE_S:
            return True
        with suppress(ConfigError):  # if nothing is kept, `Unit.save` reports it
            clip = self._live[event.source].clip(event.began_s, 0.0)
            return bool(clip.units) and clip.end_s >= clip.at_s
        return True

    def _is_over(self, event: Event) -> bool:
        """Whether `Unit.save` need not wait for the post-roll; such a wait would hold up early files."""
        end_s = event.time.monotonic_s + self._saving.settings.post_roll_s + LATE_S
        return self._ending or time.monotonic() >= end_s or self._live[event.source].state != "live"

    def _save_early(self, event: Event) -> None:
        """Save an early file. Errors are not reported: it is tried again when the event is closed."""
        with suppress(Exception):
            self._early[event.id] = self._unit.save(event, self._saving.folder, self._saving.settings)

    def _save(self, event: Event) -> Saved:
        """Save a closed event; any error is reported and affects no other event."""
        try:
            clip = self._unit.save(event, self._saving.folder, self._saving.settings).clip
            reason = self._kept(event, clip) or shortfall(clip)
        except Exception as error:
            return self._without(event, _reason(error))
        self._early.pop(event.id, None)
        return Saved(event=event.id, source=event.source, clip=clip, reason=reason)

    def _kept(self, event: Event, clip: EventClip | None) -> str:
        """Return why the early file has stayed, empty if it was replaced.

        A whole clip may have the same bytes if no frame followed; its beginning is then still in the ring.
        """
        early = self._early.get(event.id)
        if clip is None or early is None or early.clip is None or clip.sha256 != early.clip.sha256:
            return ""
        if not lacks_beginning(self._unit.clip(event, self._saving.settings.pre_roll_s)):
            return ""
        return f"{_ends(clip)}: when it was closed, the pictures of the crash or trigger were no longer kept"

    def _without(self, event: Event, why: str) -> Saved:
        """Return the report for an event whose whole clip was not written."""
        early = self._early.pop(event.id, None)
        clip = None if early is None else clip_for(event, early)
        reason = f"its clip is lost: {why}" if clip is None else f"{_ends(clip)}: {why}"
        return Saved(event=event.id, source=event.source, clip=clip, reason=reason)

    def _give_up(self) -> None:
        """Report as lost what still waits for a disk that does not respond."""
        with self._lock:
            left, self._closed = self._closed, []
            self._begun.clear()
        writing = self._writing
        if self._thread.is_alive() and writing is not None and writing.state == "closed":
            left.insert(0, writing)
        for event in left:
            self._lose(event, f"the disk did not write it within {_END_S:g} s after the end")

    def _lose(self, event: Event, why: str) -> None:
        self._forget_begun(event.id)
        self._news.append(self._without(event, why))


def _ends(clip: EventClip) -> str:
    return (
        f"its clip ends {clip.post_s:.1f} s after the crash or trigger, because it was written before the event closed"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        mend = "; free some disk space, or limit saved clips with --save-mb" if error.errno in FULL else ""
        return f"{os.fsdecode(error.filename)}: {error.strerror}{mend}"
    return str(error) if isinstance(error, EdgeError) else f"{type(error).__name__}: {error}"
