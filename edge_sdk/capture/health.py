"""The health of a live source: when it counts as live, when an attempt is given up, when the next one begins.

This module is pure: it has no threads, no GStreamer and no clock; each call says what time it is. The owner reports
what has come since the last report, then does what `tick` says:

    health.unit(now_s); health.picture(now_s, fingerprint); health.fault(now_s, fault)     whichever happened
    order = health.tick(now_s)
    "start": build a player; a build that fails is reported by `fault`, and a "stop" follows as for any player
    "stop":  take the player down, then call `stopped`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from edge_sdk.capture.player import Fault
from edge_sdk.capture.settings import LiveSettings
from edge_sdk.capture.states import SourceChange, SourceState

Order = Literal["start", "stop"]

# Waits between attempts, the last one repeated. Nothing random is added: a device has few sources, each with its own
# supervisor, so there is no herd to scatter, and the same faults give the same waits.
YOUNG_OUTAGE_S = 120.0
YOUNG_WAITS_S = (0.5, 1.0, 2.0)
OLD_WAITS_S = (4.0, 8.0, 16.0, 30.0)
# Cameras lock out clients that keep trying a wrong password.
REFUSED_WAITS_S = (5.0, 10.0, 20.0, 30.0)
# A feed needs no connection that retries could overload, and pictures pushed during a wait are lost.
FEED_WAIT_S = 0.5
# A picture this long after the first one of an attempt ends the outage.
SETTLED_S = 10.0
# Cameras that save bits send a keyframe only every 10 s or so, and an attempt may have to wait for the next one.
LONGEST_CONNECT_S = 20.0
# At each keyframe, encoders change a few pictures of a still scene; a moving scene changes in every picture.
MOVING_PICTURES = 5
LONGEST_STILL_S = 600.0


class Health:
    """The state machine of one source.

    connecting -> live, backoff; live -> stalled, backoff; stalled -> backoff; backoff -> connecting; all -> ended.
    `stalled` is for silence and for a picture that has frozen, and lasts while the player is taken down; a fault leads
    to `backoff` at once.

    An outage begins with a back-off, and is over when a picture comes 10 s or more after the first one of the same
    attempt. Until then attempts are counted and waits keep growing, however often the source was live in between: a
    source that gives a picture and dies is tried ever more rarely.
    The wait after a failure is 0.5, 1, 2, 2, ... s while the outage is younger than two minutes, then 4, 8, 16,
    30, 30, ... s; after a refusal it is at least 5, 10, 20, 30, 30, ... s. It is counted from the moment `backoff` is
    entered, and no attempt begins before `stopped`. For a source that is `fed`, to which a program pushes pictures, the
    wait is always 0.5 s, except after a refusal, such as a pipeline that cannot be built.

    `attempt` of a change is the current attempt, or in `stalled` and `backoff` the next one.

    Each attempt has `connect_timeout_s`. After an attempt that received encoded units but no picture, the next one has
    twice as long, up to 20 s: the next keyframe may have been further away.

    If a picture stays the same for `frozen_timeout_s`, the source is rebuilt once. If that does not make the picture
    move, it counts as a still scene (a parked camera at night, a test card): `warnings` says so, the source stays live,
    and is not rebuilt for that again until five pictures in a row have each differed from the one before. The time-out
    then doubles, up to ten minutes, until a rebuild has helped.

    Time in which nobody looked does not prove silence. Between two calls at most half the stall timeout counts, so a
    program that was suspended, or kept from running, finds its sources as it left them.

    Not for two threads at once; `on_change` is called within the call that caused the change.
    """

    def __init__(
        self,
        source: str,
        settings: LiveSettings,
        now_s: float,
        on_change: Callable[[SourceChange], None],
        *,
        fed: bool = False,
    ) -> None:
        self._source = source
        self._settings = settings
        self._on_change = on_change
        self._backoff = _Backoff(fed=fed)
        self._stillness = _Stillness(settings.frozen_timeout_s)
        self._player: Literal["none", "up", "stopping"] = "none"
        self._now_s = now_s
        self._watched_s = 0.0  # the time in which somebody looked; the following times are on this clock
        self._began_s = 0.0
        self._live_s = 0.0
        self._picture_s = 0.0
        self._units_s: tuple[float, float] | None = None  # the first and the last unit of this attempt
        self._connect_limit_s = settings.connect_timeout_s
        self._retry_at_s = now_s
        self._attempt = 1
        self.warnings: tuple[str, ...] = ()
        # How often pictures have stopped while encoded units came, since the last outage was over.
        self.hangs = 0
        self._enter("connecting")

    @property
    def state(self) -> SourceState:
        """The current state."""
        return self.last.state

    def picture(self, now_s: float, fingerprint: int | None = None) -> None:
        """Report that pictures have been decoded since the last call.

        `fingerprint` is that of the newest picture delivered since the last call, None if none was delivered. Only
        pictures that look equal have equal fingerprints.
        """
        self._look(now_s)
        if not self._watching:
            return
        self._picture_s = self._watched_s
        if self.state == "connecting":
            self._live_s = self._watched_s
            self._connect_limit_s = self._settings.connect_timeout_s
            self._enter("live")
        elif self._watched_s - self._live_s >= SETTLED_S:
            self._attempt = self.hangs = 0
            self._backoff.settle()
        if fingerprint is not None:
            self._compare(fingerprint)

    def unit(self, now_s: float) -> None:
        """Report that encoded units have come since the last call."""
        self._look(now_s)
        if self._watching:
            self._units_s = (self._units_s[0] if self._units_s else self._watched_s, self._watched_s)

    def fault(self, now_s: float, fault: Fault) -> None:
        """Report a pipeline that has stopped or could not be built; ignored unless the source is connecting or live."""
        self._look(now_s)
        if self._watching:
            self._fail(fault.reason, refused=fault.refused)

    def tick(self, now_s: float) -> Order | None:
        """What the owner must do; each order is given once, and "start" and "stop" alternate."""
        self._look(now_s)
        if self._watching:
            self._check_silence()
        elif self.state == "backoff" and self._player == "none" and self._now_s >= self._retry_at_s:
            self._enter("connecting")
        if self._player == "up" and not self._watching:
            self._player = "stopping"
            return "stop"
        if self._player == "none" and self.state == "connecting":
            self._begin()
            return "start"
        return None

    def stopped(self, now_s: float) -> None:
        """Report that the owner has taken the player down."""
        self._look(now_s)
        self._player = "none"
        if self.state == "stalled":
            self._wait(refused=False, reason=self.last.reason)

    def end(self, now_s: float, reason: str = "") -> None:
        """Close the source for good; a "stop" follows if a player is up."""
        self._look(now_s)
        if self.state != "ended":
            self._enter("ended", reason)

    @property
    def _watching(self) -> bool:
        return self._player == "up" and self.state in ("connecting", "live")

    def _look(self, now_s: float) -> None:
        self._watched_s += min(now_s - self._now_s, self._settings.stall_timeout_s / 2)
        self._now_s = now_s

    def _begin(self) -> None:
        self._player = "up"
        self._began_s = self._watched_s
        self._units_s = None
        self._stillness.begin()

    def _check_silence(self) -> None:
        if self.state == "live" and self._watched_s - self._picture_s >= self._settings.stall_timeout_s:
            self.hangs += self._units_come
            self._stall(self._why_silent())
        elif self.state == "connecting" and self._watched_s - self._began_s >= self._connect_limit_s:
            reason = self._why_blind()
            if self._units_s:
                longest_s = max(LONGEST_CONNECT_S, self._settings.connect_timeout_s)
                self._connect_limit_s = min(2 * self._connect_limit_s, longest_s)
            self._fail(reason, refused=False)

    @property
    def _units_come(self) -> bool:
        """Whether encoded units kept coming after pictures had stopped."""
        silent_s = self._watched_s - self._picture_s
        return self._units_s is not None and self._watched_s - self._units_s[1] < silent_s / 2

    def _why_silent(self) -> str:
        silent_s = self._watched_s - self._picture_s
        if self._units_come:
            return f"no picture for {silent_s:.1f} s although encoded units come: the decoder hangs or lost the stream"
        return f"nothing has come for {silent_s:.1f} s: the camera, its server or the network is silent"

    def _why_blind(self) -> str:
        waited_s = self._watched_s - self._began_s
        if self._units_s is None:
            return f"nothing came within {waited_s:.1f} s: the source does not answer or sends no video"
        return (
            f"{self._units_s[1] - self._units_s[0]:.1f} s of encoded units came but no picture: the decoder refuses "
            "the stream or waits for a keyframe"
        )

    def _compare(self, fingerprint: int) -> None:
        verdict = self._stillness.look(self._watched_s, fingerprint)
        if verdict == "fine":
            return
        same = f"the same picture for {self._settings.frozen_timeout_s:g} s"
        if verdict == "frozen":
            self._stall(same)
        else:
            self.warnings = (f"{same}, also after a restart of the source: treated as a still scene",)

    def _stall(self, reason: str) -> None:
        self._attempt += 1
        self._enter("stalled", reason)

    def _fail(self, reason: str, *, refused: bool) -> None:
        self._attempt += 1
        self._wait(refused=refused, reason=reason)

    def _wait(self, *, refused: bool, reason: str) -> None:
        wait_s = self._backoff.wait_s(self._now_s, refused=refused)
        self._retry_at_s = self._now_s + wait_s
        self._enter("backoff", reason, wait_s)

    def _enter(self, state: SourceState, reason: str = "", retry_in_s: float | None = None) -> None:
        self.last = SourceChange(
            source=self._source,
            state=state,
            at_s=self._now_s,
            reason=reason,
            attempt=max(1, self._attempt),
            retry_in_s=retry_in_s,
        )
        self._on_change(self.last)


class _Backoff:
    """How long to wait after each failure of an outage."""

    def __init__(self, *, fed: bool) -> None:
        self._fed = fed
        self.settle()

    def settle(self) -> None:
        """Forget the failures: the outage is over."""
        self._since_s: float | None = None
        self._young = self._old = self._refused = 0

    def wait_s(self, now_s: float, *, refused: bool) -> float:
        """The wait after one more failure."""
        if self._since_s is None:
            self._since_s = now_s
        if self._fed:
            wait_s = FEED_WAIT_S
        elif now_s - self._since_s < YOUNG_OUTAGE_S:
            self._young += 1
            wait_s = _nth(YOUNG_WAITS_S, self._young)
        else:
            self._old += 1
            wait_s = _nth(OLD_WAITS_S, self._old)
        if refused:
            self._refused += 1
            wait_s = max(wait_s, _nth(REFUSED_WAITS_S, self._refused))
        return wait_s


class _Stillness:
    """Distinguishes a frozen picture from a scene in which nothing moves.

    Each time that a rebuild did not help, the next one waits twice as long, up to ten minutes. Otherwise a camera on a
    quiet street at night would be rebuilt after every car.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = self._wait_s = timeout_s
        self._fingerprint: int | None = None
        self._since_s = 0.0
        self._moving = 0
        self._rebuilt = False
        self._began_s = 0.0

    def begin(self) -> None:
        """Begin an attempt: its first picture is not compared with earlier ones."""
        self._fingerprint = None
        self._moving = 0

    def look(self, now_s: float, fingerprint: int) -> Literal["fine", "frozen", "still"]:
        """Judge the newest picture: `frozen` asks for a rebuild, and is given once until the picture has moved."""
        if self._fingerprint is None:
            self._began_s = now_s
        if fingerprint != self._fingerprint:
            self._moving += self._fingerprint is not None
            if self._rebuilt and self._moving >= MOVING_PICTURES:
                self._rebuilt = False
                self._wait_s = self._next_wait_s(now_s)
            self._fingerprint, self._since_s = fingerprint, now_s
            return "fine"
        self._moving = 0
        if self._wait_s is None or now_s - self._since_s < self._wait_s:
            return "fine"
        if self._rebuilt:
            return "still"
        self._rebuilt = True
        return "frozen"

    def _next_wait_s(self, now_s: float) -> float | None:
        """The next time-out: the usual one if the picture moved soon after the rebuild, else twice the last one."""
        if self._timeout_s is None or self._wait_s is None or now_s - self._began_s < self._timeout_s:
            return self._timeout_s
        return min(2 * self._wait_s, LONGEST_STILL_S)


def _nth(waits_s: tuple[float, ...], count: int) -> float:
    return waits_s[min(count, len(waits_s)) - 1]
