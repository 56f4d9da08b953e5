"""Drives the state machine of a live source as its owner does: a look every 50 ms at a camera with a script."""

from __future__ import annotations

from collections.abc import Iterable

from edge_sdk.capture.health import Health
from edge_sdk.capture.player import Fault
from edge_sdk.capture.settings import LiveSettings
from edge_sdk.capture.states import SourceChange

LOOK_S = 0.05
CONNECTS_S = 0.2
FOLLOWS = {
    "": {"connecting"},
    "connecting": {"live", "backoff", "ended"},
    "live": {"stalled", "backoff", "ended"},
    "stalled": {"backoff", "ended"},
    "backoff": {"connecting", "ended"},
    "ended": set(),
}


class Owner:
    """Owns a `Health` and a camera, and checks what must hold at every step.

    The camera, once a player has been up for 0.2 s: "fine" pictures that differ; "same" always one picture;
    "uncounted" pictures of which none was delivered; "units" no pictures; "silent" nothing; "breaks" and "refuses" a
    fault; "once" a picture, then a fault. `doomed`: a player that began in silence hears nothing when it ends.
    """

    def __init__(
        self, settings: LiveSettings | None = None, *, stop_s: float = 0.0, doomed: bool = False, fed: bool = False
    ) -> None:
        self.now_s = 1000.0
        self.changes: list[SourceChange] = []
        self.starts_s: list[float] = []
        self.up_s: float | None = None
        self.stopping_until_s: float | None = None
        self.deaf = False
        self.stop_s, self.doomed = stop_s, doomed
        self.health = Health("rtsp://camera", settings or LiveSettings(), self.now_s, self.changed, fed=fed)

    def changed(self, change: SourceChange) -> None:
        assert change.state in FOLLOWS[self.changes[-1].state if self.changes else ""]
        assert change.source == "rtsp://camera"
        assert change.attempt >= 1
        assert (change.retry_in_s is not None) == (change.state == "backoff")
        assert change.state == "ended" or bool(change.reason) == (change.state in ("stalled", "backoff"))
        assert not self.changes or change.at_s >= self.changes[-1].at_s
        self.changes.append(change)

    def run(self, camera: str, seconds: float, look_s: float = LOOK_S) -> list[SourceChange]:
        """The changes of the next `seconds`."""
        before, until_s = len(self.changes), self.now_s + seconds - 1e-9
        while self.now_s < until_s:
            self.now_s += look_s
            self.look(camera)
        return self.changes[before:]

    def look(self, camera: str) -> None:
        if self.up_s is not None:
            self.deaf |= self.doomed and camera == "silent"
            if not self.deaf and self.now_s - self.up_s >= CONNECTS_S:
                self.report(camera)
        self.obey(self.health.tick(self.now_s))
        if self.stopping_until_s is not None and self.now_s >= self.stopping_until_s:
            self.stopping_until_s = None
            self.health.stopped(self.now_s)

    def report(self, camera: str) -> None:
        if camera in ("fine", "same", "uncounted", "units", "once"):
            self.health.unit(self.now_s)
        if camera in ("fine", "same", "uncounted", "once"):
            self.health.picture(self.now_s, {"same": 7, "uncounted": None}.get(camera, round(self.now_s * 1000)))
        if camera in ("breaks", "refuses", "once"):
            self.health.fault(self.now_s, Fault(f"it {camera}", refused=camera == "refuses"))

    def obey(self, order: str | None) -> None:
        if order == "start":
            assert self.up_s is None
            assert self.stopping_until_s is None
            self.up_s, self.deaf = self.now_s, False
            self.starts_s.append(self.now_s)
        elif order == "stop":
            assert self.up_s is not None
            self.up_s, self.stopping_until_s = None, self.now_s + self.stop_s

    def live(self) -> None:
        """Live, and for so long that no outage is left."""
        self.run("fine", 15.0)
        assert self.health.state == "live"
        self.changes = self.changes[-1:]


def states(changes: Iterable[SourceChange]) -> list[str]:
    return [change.state for change in changes]


def waits(changes: Iterable[SourceChange]) -> list[float]:
    return [change.retry_in_s for change in changes if change.retry_in_s is not None]
