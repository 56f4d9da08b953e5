"""Keep one live source alive on its own thread: watch the player, and rebuild it when it fails.

Building a pipeline or taking it down can block. So each source has its own thread, no lock is held meanwhile, and a
call that never returns is abandoned. The thread refers to this object and not to the `LiveSource`, so a `LiveSource`
that is dropped is finalised, and ends the thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import NamedTuple

from edge_sdk.capture.attempts import Attempts
from edge_sdk.capture.health import Health
from edge_sdk.capture.history import FrameHistory
from edge_sdk.capture.patience import Patience
from edge_sdk.capture.player import Fault, LivePicture, LivePlayer, PictureInfo
from edge_sdk.capture.ring import GopRing
from edge_sdk.capture.sameness import Sameness
from edge_sdk.capture.settings import SourceInfo
from edge_sdk.capture.states import SourceChange
from edge_sdk.capture.uri import redact
from edge_sdk.errors import EdgeError

POLL_S = 0.05
# A decoder that has received units for this long without showing a picture counts as unable to decode them.
BLIND_S = 2.0
# A decoder that stops this often before the outage is over counts as broken.
HANGS = 3
# How long a broken driver may take to open or release its device before its thread is abandoned; `close` waits a little
# longer.
HANG_S, JOIN_S = 8.0, 10.0
# If nobody collects the changes, the oldest are forgotten.
_CHANGES_KEPT = 1000
_WARNINGS_KEPT = 20


class Shown(NamedTuple):
    """A picture, and the number of the attempt that produced it, from 0."""

    picture: LivePicture
    attempt: int


class Counts(NamedTuple):
    """Encoded units received and pictures decoded by all attempts together, and attempts after the first one."""

    units: int
    decoded: int
    reconnects: int


class Supervisor:
    """The thread and what it supervises. Other threads may call `take`, `counts`, `changes` and `close`."""

    def __init__(self, attempts: Attempts) -> None:
        live = attempts.plan.settings.live
        self.uri = attempts.plan.source.uri
        self.ring = GopRing(live.pre_roll_s, live.ring_limit_mb) if live.pre_roll_s else None
        self.history = FrameHistory(live.history) if live.history is not None else None
        self.info: SourceInfo | None = None
        self.warnings: list[str] = []
        self._attempts = attempts
        self._changes: deque[SourceChange] = deque(maxlen=_CHANGES_KEPT)
        fed = attempts.feed is not None
        self._health = Health(self.uri, live, time.monotonic(), self._changes.append, fed=fed)
        self._sameness, self._patience = Sameness(), Patience(HANG_S)
        self._lock = threading.Lock()
        self._player: LivePlayer | None = None
        self._attempt = -1
        self._shown: Shown | None = None
        self._shown_s = -1.0
        self._fingerprint: int | None = None
        self._pictures: PictureInfo | None = None
        # Units and pictures: of the attempts that are over, and of the current one when it was last checked.
        self._before = (0, 0)
        self._arrived = (0, 0)
        self._first_unit_s = 0.0
        self._fault: Fault | None = None
        # What went wrong while fetching pictures from the player.
        self._broken: Fault | None = None
        self._closing = False
        # Not a threading.Event: a finaliser may interrupt a thread anywhere, even one that holds the Event's lock.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"edge-sdk {self.uri}", daemon=True)

    @property
    def last(self) -> SourceChange:
        """The last change of state."""
        return self._health.last

    def start(self) -> None:
        """Start the thread; called once. Raises `ConfigError` for a feed that is in use."""
        if self._attempts.feed is not None:
            self._attempts.feed.claim()
        self._thread.start()

    def take(self) -> Shown | None:
        """The newest picture, each one once; None if there is none. Does not wait."""
        self._refresh()
        with self._lock:
            shown, self._shown = self._shown, None
        return shown

    def counts(self) -> Counts:
        """Counts so far."""
        with self._lock:
            arrived, before = self._player.arrived() if self._player is not None else (0, 0), self._before
        return Counts(before[0] + arrived[0], before[1] + arrived[1], max(0, self._attempt))

    def changes(self) -> list[SourceChange]:
        """Changes of state since the last call."""
        found: list[SourceChange] = []
        while self._changes:
            found.append(self._changes.popleft())
        return found

    def close(self) -> None:
        """End the source, and wait until its pipeline is gone, but at most `JOIN_S`."""
        self._closing = True
        self._wake.put(None)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(JOIN_S)
        self._shown = None

    def _run(self) -> None:
        try:
            while self._step():
                self._rest()
        except Exception as error:
            self._health.end(time.monotonic(), f"its supervisor failed: {_reason(error)}")
            raise
        finally:
            self._guard(self._stop)
            if self._attempts.feed is not None:
                self._attempts.feed.release()

    def _rest(self) -> None:
        try:
            self._wake.get(timeout=POLL_S)
        except Empty:
            return

    def _step(self) -> bool:
        """Check the player once; returns whether there is more to do."""
        if self._closing:
            self._health.end(time.monotonic(), "closed")
        self._guard(self._look_after)
        order = self._health.tick(time.monotonic())
        if order == "start":
            self._guard(self._start)
        elif order == "stop":
            self._guard(self._stop)
            self._health.stopped(time.monotonic())
        return self._health.state != "ended" or order is not None

    def _guard(self, work: Callable[[], None]) -> None:
        """Do `work`. Whatever it raises, expected or not, ends only the attempt, never the source."""
        try:
            work()
        except Exception as error:
            reason = _reason(error)
            self._health.fault(time.monotonic(), Fault(reason))
            self._warn(reason)  # if the attempt was already over, no change of state reports it

    def _start(self) -> None:
        self._attempt += 1
        self._arrived, self._fault, self._broken = (0, 0), None, None
        try:
            player = self._patience.do("starting the pipeline", self._attempts.start, lambda late: late.close())
        except EdgeError as error:
            self._health.fault(time.monotonic(), Fault(redact(str(error)), refused=True))
            return
        with self._lock:
            self._player = player

    def _stop(self) -> None:
        """Take the player down; its pictures are not shown after this."""
        player = self._player
        if player is None:
            return
        try:
            with self._lock:
                units, decoded = player.arrived()
                self._before = (self._before[0] + units, self._before[1] + decoded)
                self._player, self._fingerprint = None, None
            self._blame(player, units, decoded)
        finally:
            with self._lock:
                self._player, self._fingerprint = None, None
            if self.ring is not None:
                self.ring.mark_gap()
            self._patience.do("taking the pipeline down", player.close)

    def _blame(self, player: LivePlayer, units: int, decoded: int) -> None:
        """Use another decoder next time if this one got units but showed no picture, or hangs repeatedly.

        A decoder that hangs once may only have lost the stream.
        """
        decoder = player.decoder()
        failed = self._fault is not None and self._fault.element == decoder
        waited = units > 0 and time.monotonic() - self._first_unit_s >= BLIND_S
        hangs = self._health.state == "stalled" and self._health.hangs >= HANGS
        if decoder and ((not decoded and (failed or waited)) or hangs):
            self._health.hangs = 0
            self._warn(self._attempts.blame(player.codec(), decoder, hangs=hangs))

    def _look_after(self) -> None:
        """Collect what the player has received, and report it to `Health`."""
        player = self._player
        if player is None:
            return
        self._collect(player)
        arrived, before, now_s = player.arrived(), self._arrived, time.monotonic()
        self._arrived = arrived
        if arrived[0] > before[0]:
            self._first_unit_s = self._first_unit_s if before[0] else now_s
            self._health.unit(now_s)
        # Pictures that were decoded but never left the pipeline do not count.
        fingerprint = self._taken_fingerprint()
        if fingerprint is not None:
            self._health.picture(now_s, fingerprint)
        self._fault = player.fault() or self._broken
        if player.ended():
            self._health.end(now_s, "the host program ended it")
        elif self._fault is not None:
            self._health.fault(now_s, self._fault)
        for text in (*player.warnings(), *self._health.warnings):
            self._warn(text)

    def _collect(self, player: LivePlayer) -> None:
        self._refresh()
        try:
            if self.ring is not None:
                for unit in player.units():
                    self.ring.push(unit)
            if self.history is not None:
                for picture in player.history():
                    self.history.push(picture.pixels, picture.captured_s, picture.sender_utc_s)
        except EdgeError as error:
            self._broken = Fault(str(error))

    def _refresh(self) -> None:
        """Fetch the newest picture. The consumer and this thread both do, so the other may have shown a newer one."""
        player = self._player
        if player is None:
            return
        try:
            self._show(player, player.picture())
        except Exception as error:
            # Not raised, because this may run on the consumer's thread, which it must not end.
            self._broken = Fault(_reason(error))

    def _show(self, player: LivePlayer, picture: LivePicture | None) -> None:
        if picture is None:
            return
        with self._lock:
            if player is self._player and picture.captured_s > self._shown_s:
                self._shown, self._shown_s = Shown(picture, self._attempt), picture.captured_s
                self._fingerprint = self._sameness.look(picture.pixels)
                self._note(player)

    def _taken_fingerprint(self) -> int | None:
        """The fingerprint of the newest picture shown since the last call, None if none was."""
        with self._lock:
            found, self._fingerprint = self._fingerprint, None
        return found

    def _note(self, player: LivePlayer) -> None:
        """Update `info` at the first picture and when the properties of the pictures change."""
        pictures = player.info()
        if pictures is None or pictures is self._pictures:
            return
        self._pictures = pictures
        self.info = SourceInfo(
            uri=self.uri,
            duration_s=None,
            start_time_s=0.0,
            width=pictures.width,
            height=pictures.height,
            codec=player.codec(),
            decoder=player.decoder(),
            rate_hz=pictures.rate_hz,
            rotation_deg=0,
        )

    def _warn(self, text: str) -> None:
        if text and text not in self.warnings and len(self.warnings) < _WARNINGS_KEPT:
            self.warnings.append(text)


def _reason(error: Exception) -> str:
    """The text for `error`. If it was not raised on purpose, it is a bug, and its type helps to find it."""
    return redact(str(error) if isinstance(error, EdgeError) else f"{type(error).__name__}: {error}")
