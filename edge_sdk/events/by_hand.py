"""Events triggered by hand, as from a button or a G-sensor: when one begins, is prolonged and is over.

They do not affect the student's events. A trigger while an event by hand is open prolongs it. A stuck button makes one
event, of `LIMIT_S` at most; the next event can begin only after the button has been released for `POST_S`. All times
are seconds of the source's timeline.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from edge_sdk.events.lifecycle import Incident
from edge_sdk.events.record import State

# How long an event goes on after its last trigger, how long it may be in all, and from how long before its trigger the
# student's score counts: people press a button only after the crash.
POST_S = 10.0
LIMIT_S = 60.0
LOOK_BACK_S = 5.0


class Press:
    """One event by hand. `peak` is the highest raw score; the reader of the source updates it.

    `lost_s` is the time of the source's last picture if the source had stopped showing any before the trigger, else
    None. No frame will close such an event, so it is closed at once.
    """

    def __init__(self, incident: Incident, at_s: float, lost_s: float | None) -> None:
        self.incident, self.lost_s = incident, lost_s
        self.triggered_s = self.last_s = at_s
        self.peak = 0.0
        self.told = self.over = self.cut = False

    @property
    def limit_s(self) -> float:
        """When the event is closed at the latest, whatever triggers follow."""
        return self.triggered_s + LIMIT_S

    def takes(self, at_s: float, lost_s: float | None) -> bool:
        """Whether a trigger at `at_s` belongs to this event.

        It does while the event is open, after it if the button is stuck, and after the same last picture.
        """
        stuck, same = self.cut and at_s < self.last_s + POST_S, lost_s is not None and lost_s == self.lost_s
        return not self.over or stuck or same


class ByHand:
    """The events by hand of one source. Any thread may trigger; one thread asks what is due.

    Hold `lock` around `trigger` and around checks that must stay true until then, such as that the source is live.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._press: Press | None = None

    def trigger(self, at_s: float, made: Callable[[], Incident], lost_s: float | None = None) -> str:
        """The id of the event that the trigger belongs to; `made` creates a new event if it belongs to none.

        `lost_s` is the time of the last picture of a source that has stopped showing any, else None.
        """
        press = self._press
        if press is None or not press.takes(at_s, lost_s):
            self._press = press = Press(made(), at_s, lost_s)
        press.last_s = max(press.last_s, at_s)
        return press.incident.id

    @property
    def awaits_no_frame(self) -> bool:
        """Whether an event is open that was triggered after the source's last picture; the reader closes it."""
        press = self._press
        return press is not None and not press.over and press.lost_s is not None

    def due(self, now_s: float) -> tuple[Press, tuple[State, ...]] | None:
        """The open event and the states that it enters at `now_s`; None if no event is open.

        An event is confirmed at once, because nothing can reject it. At infinity, the end of the source, it is closed.
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
