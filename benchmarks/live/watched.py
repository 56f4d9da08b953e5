"""Read a live source like a unit, and record its states and frames for benchmarks and tests to judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

from edge_sdk.benchmarks.live import stamp
from edge_sdk.capture import CaptureSettings, LiveSettings, LiveSource, SourceChange, open_live
from edge_sdk.errors import SourceError
from edge_sdk.types import Frame

# The student's size.
WIDTH, HEIGHT = 320, 192
POLL_S = 0.02


class Sight(NamedTuple):
    """A frame at the moment it was taken: `age_ms` by the stamp in its pixels, None where none can be read."""

    at_s: float
    age_ms: float | None
    frame: Frame

    @property
    def drawn_s(self) -> float | None:
        """When it was drawn, on the clock of `time.monotonic()`."""
        return None if self.age_ms is None else self.at_s - self.age_ms / 1e3


class Watched:
    """Wrap a source; the `wait` methods let time pass. `aspect` is the camera's aspect ratio. Not thread-safe."""

    def __init__(self, source: LiveSource, aspect: float = 16 / 9) -> None:
        self.source = source
        self.changes: list[SourceChange] = []
        self.sights: list[Sight] = []
        self._aspect = aspect

    @property
    def states(self) -> list[str]:
        """The states that were entered, in order."""
        return [change.state for change in self.changes]

    def look(self) -> None:
        """Take the newest frame and the changes of state."""
        frame, now_ns = self.source.latest(), time.monotonic_ns()
        if frame is not None:
            ticks = stamp.read(frame.pixels, self._aspect)
            age_ms = None if ticks is None else stamp.age_ms(ticks, now_ns)
            self.sights.append(Sight(now_ns / 1e9, age_ms, frame))
        self.changes += self.source.changes()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.look()
            time.sleep(POLL_S)

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> float:
        """Wait until `condition` holds; returns the seconds. Raises `SourceError` if it does not hold in time."""
        begin_s = time.monotonic()
        while True:
            self.look()
            waited_s = time.monotonic() - begin_s
            if condition():
                return waited_s
            if waited_s >= seconds:
                told = "; ".join(f"{change.state}: {change.reason}" for change in self.changes) or "nothing"
                raise SourceError(
                    f"not within {seconds:.1f} s: the source is {self.source.state} after {len(self.sights)} frames; "
                    f"it said {told}"
                )
            time.sleep(POLL_S)

    def wait_for(self, state: str, seconds: float) -> SourceChange:
        """Wait until the source enters `state` again; returns the change. Raises `SourceError` on time-out."""
        seen = len(self.changes)
        self.wait_until(lambda: state in self.states[seen:], seconds)
        return next(change for change in self.changes[seen:] if change.state == state)

    def wait_live(self, seconds: float) -> float:
        """Wait until live with a picture drawn after this call; returns the seconds. Raises `SourceError` if late."""
        begin_s, seen = time.monotonic(), len(self.sights)
        return self.wait_until(
            lambda: self.source.state == "live" and any((each.drawn_s or 0) > begin_s for each in self.sights[seen:]),
            seconds,
        )

    def longest_pause_s(self) -> float:
        """The longest time between two successive frames, in seconds."""
        return max((after.at_s - before.at_s for before, after in pairwise(self.sights)), default=0.0)


@contextmanager
def watch(uri: str, live: LiveSettings | None = None) -> Iterator[Watched]:
    """Open `uri` with the student's size."""
    settings = CaptureSettings(width=WIDTH, height=HEIGHT, policy="latest", live=live or LiveSettings())
    with open_live(uri, settings) as source:
        yield Watched(source)
