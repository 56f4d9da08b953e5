"""The life of an event: which state may follow which, and who numbers the revisions.

Consumers rely on three promises: revisions rise by one, exactly one revision is `confirmed` (none for a rejected
event), and nothing follows `closed` or `rejected`.
"""

from __future__ import annotations

import math
import uuid
from typing import Literal

from edge_sdk.bundle.manifest import OperatingPoint
from edge_sdk.events.record import CrashTimeline, Event, EventTime, Provenance, State

FOLLOWS: dict[State | None, tuple[State, ...]] = {
    None: ("provisional",),
    "provisional": ("confirmed", "rejected"),
    "confirmed": ("refined", "closed"),
    "refined": ("refined", "closed"),
    "closed": (),
    "rejected": (),
}


class Incident:
    """One event from its first revision to its last."""

    def __init__(
        self,
        source: str,
        provenance: Provenance,
        point: OperatingPoint,
        trigger: Literal["student", "manual"] = "student",
    ) -> None:
        self.id = uuid.uuid4().hex
        self._source = source
        self._provenance = provenance
        self._point = point
        self._trigger: Literal["student", "manual"] = trigger
        self._state: State | None = None
        self._revision = 0

    @property
    def state(self) -> State | None:
        """State of the last revision; None before the first."""
        return self._state

    def revise(
        self,
        state: State,
        timeline: CrashTimeline,
        raw_score: float,
        *,
        time: EventTime,
        latency_ms: dict[str, float] | None = None,
        triggered_s: float | None = None,
    ) -> Event:
        """The next revision. Raises `ValueError` for a state that may not follow the current one: a bug, not input."""
        if state not in FOLLOWS[self._state]:
            raise ValueError(f"event {self.id}: {state!r} may not follow {self._state!r}")
        self._state = state
        self._revision += 1
        return Event(
            id=self.id,
            revision=self._revision,
            state=state,
            source=self._source,
            timeline=timeline,
            score=calibrate(raw_score, self._point),
            calibrated=self._point.calibrated,
            trigger=self._trigger,
            triggered_s=triggered_s,
            time=time,
            latency_ms=latency_ms,
            provenance=self._provenance,
        )


def calibrate(raw: float, point: OperatingPoint) -> float:
    """Probability from a raw score by Platt's logistic map, fitted on validation clips (Platt 1999)."""
    clipped = min(max(raw, 1e-6), 1 - 1e-6)
    fitted = point.scale * math.log(clipped / (1 - clipped)) + point.offset
    # The exponent is never positive: for a steep map, a positive one would overflow.
    weight = math.exp(-abs(fitted))
    return (1 if fitted >= 0 else weight) / (1 + weight)
