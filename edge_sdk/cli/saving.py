"""What `edge-sdk run --save` does beside the watching: closed events become files on a thread of their own.

What waits is an event, not its pictures: those lie in the source's ring until they are written. So a slow disk costs
the beginning of a clip, and then whole ones, but no memory, and it never holds up the sources.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full, Queue
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
from edge_sdk.saving import LATE_S, SaveSettings, shortfall
from edge_sdk.types import Value
from edge_sdk.unit import Unit

# Events that wait. Of more, with a disk that slow, the ring has nothing any more.
_ROOM = 16
_POLL_S = 0.05
# The ring covers an event of this length, which by hand is the longest, and the writing of those before it.
_EVENT_S = 60.0
_WRITING_S = 30.0
# What ends the program waits so long at most: for one file that hangs, and for those that come after it quickly.
_END_S = LIMIT_S + 10.0


class Saved(Value, frozen=True, kw_only=True):
    """What became of an event's clip. `reason` says why there is none, or what its beginning lacks."""

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
    folder: Path | None, pre_roll_s: float | None, post_roll_s: float | None, limit_mb: float | None
) -> Saving | None:
    """What the options of `run` say, None without a folder. Raises `ConfigError` for some that say nothing then."""
    if folder is None:
        refuse_stray(
            "without --save nothing is saved",
            {"--pre-roll": pre_roll_s, "--post-roll": post_roll_s, "--save-mb": limit_mb},
        )
        return None
    usual = SaveSettings()
    return Saving(
        folder,
        SaveSettings(
            pre_roll_s=usual.pre_roll_s if pre_roll_s is None else pre_roll_s,
            post_roll_s=usual.post_roll_s if post_roll_s is None else post_roll_s,
            limit_mb=limit_mb,
        ),
    )


def with_ring(live: LiveSettings, settings: SaveSettings) -> LiveSettings:
    """`live`, with a ring that holds what is to be saved of an event."""
    kept_s = settings.pre_roll_s + settings.post_roll_s + LATE_S + _EVENT_S + _WRITING_S
    return msgspec.structs.replace(live, pre_roll_s=kept_s)


class Saving(NamedTuple):
    """Where to, and what."""

    folder: Path
    settings: SaveSettings


class EventSaver:
    """Saves the closed events of live sources that it is given; use as a context manager, whose end waits for the last.

    `complain` is given what was not saved, or not whole. All but the writing is for the thread that reads `unit`.
    Raises `ConfigError` for a folder that cannot be one, and where no source is live.
    """

    def __init__(self, unit: Unit, saving: Saving, complain: Callable[[Sequence[str]], None]) -> None:
        self._live = frozenset(each.feeder.uri for each in unit.streams if isinstance(each.feeder, LiveFeeder))
        if not self._live:
            raise ConfigError(
                "--save is for live sources, found files alone, which are recordings already; leave it out"
            )
        check_folder(saving.folder)
        self._unit, self._saving, self._complain = unit, saving, complain
        self._waiting: Queue[Event] = Queue(_ROOM)
        self._writing: Event | None = None
        self._news: deque[Saved] = deque()
        self._ending = False
        self._saved = self._lost = 0
        self._thread = threading.Thread(target=self._work, name="edge-sdk saving", daemon=True)

    @property
    def counts(self) -> SavedCounts:
        """Counts of what was told."""
        return SavedCounts(saved=self._saved, lost=self._lost)

    def notice(self, event: Event) -> None:
        """Have `event` saved when it is closed, of a live source; waits for nothing."""
        if event.state != "closed" or event.source not in self._live:
            return
        try:
            self._waiting.put_nowait(event)
        except Full:
            self._lose(event, f"{_ROOM} events wait to be written already: the disk is too slow")

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

    def _work(self) -> None:
        while (event := self._next()) is not None:
            self._writing = event
            self._news.append(self._save(event))
            self._writing = None

    def _next(self) -> Event | None:
        while True:
            # Asked before: the last event may come between a look that finds none and this.
            ending = self._ending
            with suppress(Empty):
                return self._waiting.get(timeout=_POLL_S)
            if ending:
                return None

    def _save(self, event: Event) -> Saved:
        """Whatever goes wrong with one event costs no other."""
        try:
            clip = self._unit.save(event, self._saving.folder, self._saving.settings).clip
        except Exception as error:
            return Saved(event=event.id, source=event.source, clip=None, reason=f"its clip is lost: {_reason(error)}")
        return Saved(event=event.id, source=event.source, clip=clip, reason=shortfall(clip))

    def _give_up(self) -> None:
        """What still waits behind a disk that does not answer."""
        left = [self._writing] if self._thread.is_alive() and self._writing is not None else []
        with suppress(Empty):
            while True:
                left.append(self._waiting.get_nowait())
        for event in left:
            self._lose(event, f"the disk has not taken it in the {_END_S:g} s after the end")

    def _lose(self, event: Event, why: str) -> None:
        self._news.append(Saved(event=event.id, source=event.source, clip=None, reason=f"its clip is lost: {why}"))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        mend = "; make room, or let --save-mb do so" if error.errno in FULL else ""
        return f"{os.fsdecode(error.filename)}: {error.strerror}{mend}"
    return str(error) if isinstance(error, EdgeError) else f"{type(error).__name__}: {error}"
