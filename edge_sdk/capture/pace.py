"""A steady pace for live sources: rounds begin at fixed instants; a missed round is skipped, never made up for."""

from __future__ import annotations

import time
from collections.abc import Callable

# Waits are cut into pieces of this length, so that a request to stop is noticed.
_LONGEST_SLEEP_S = 0.05


class Pace:
    """Instants `period_s` apart on a monotonic clock, from the first round on.

    `missed` counts those that passed unused.
    """

    def __init__(self, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.period_s = period_s
        self.missed = 0
        self._clock = clock
        self._due_s: float | None = None

    def due(self) -> bool:
        """Begin a round if one is due; otherwise sleep a short while. Returns whether a round has begun."""
        if (rest_s := self.rest_s()) > 0:
            time.sleep(rest_s)
            return False
        self.begin()
        return True

    def rest_s(self) -> float:
        """How long until the next round is due, at most a short while; 0 if one is due, as the first one always is."""
        if self._due_s is None:
            return 0.0
        return min(max(self._due_s - self._clock(), 0.0), _LONGEST_SLEEP_S)

    def begin(self) -> None:
        """Begin a round: the next one is due at the first instant after now."""
        now_s = self._clock()
        due_s = now_s if self._due_s is None else self._due_s
        passed = max(int((now_s - due_s) / self.period_s), 0)
        self.missed += passed
        self._due_s = due_s + (passed + 1) * self.period_s
