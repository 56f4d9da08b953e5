"""Events that are triggered by hand, as at a button or a G-sensor: when one begins, goes on and is over.

They stand beside those of the student, which go on as if there were none. A trigger while one is open prolongs it. A
button that is stuck makes one event, of `LIMIT_S` at most, until it is let go for `POST_S`. All times are seconds of
the source's timeline.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from edge_sdk.events.lifecycle import Incident
from edge_sdk.events.record import State

# How long an event goes on after its last trigger, how long it may become in all, and how long before its trigger the
# student's score counts: whoever presses a button does so when all is over.
POST_S = 10.0
LIMIT_S = 60.0
LOOK_BACK_S = 5.0


class Press:
    """One event by hand. `peak` is the highest raw score, which the reader of the source keeps."""

    def __init__(self, incident: Incident, at_s: float) -> None:
        self.incident = incident
        self.triggered_s = self.last_s = at_s
        self.peak = 0.0
        self.told = self.over = self.cut = False

    @property
    def limit_s(self) -> float:
        """When it is closed, whatever follows."""
        return self.triggered_s + LIMIT_S

    def takes(self, at_s: float) -> bool:
        """Whether a trigger at that time is part of it: while it is open, and of a button that is stuck behind it."""
        return not self.over or (self.cut and at_s < self.last_s + POST_S)


class ByHand:
    """The events by hand of one source. Any thread may trigger, one thread asks what is due.

    Hold `lock` round `trigger`, and round what must not change before it, as that the source is still there.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._press: Press | None = None

    def trigger(self, at_s: float, made: Callable[[], Incident]) -> str:
        """The id of the event that the trigger is part of; a new one is `made`."""
        press = self._press
        if press is None or not press.takes(at_s):
            self._press = press = Press(made(), at_s)
        press.last_s = max(press.last_s, at_s)
        return press.incident.id

    def due(self, now_s: float) -> tuple[Press, tuple[State, ...]] | None:
        """The event that is open, and the states that it enters by now; None where none is.

        It is confirmed at once, for nothing can reject it. At infinity, the end of the source, it is closed.
        """
        with self.lock:
            press = self._press
            if press is None or press.over:
                return None
            states: tuple[State, ...] = () if press.told else ("provisional", "confirmed")
            press.told = True
            if now_s < min(press.last_s + POST_S, press.limit_s):
                return press, states
            press.over = True
            press.cut = now_s < math.inf and press.limit_s < press.last_s + POST_S
            return press, (*states, "closed")
