"""Events: the record and its life cycle."""

from __future__ import annotations

from edge_sdk.events.lifecycle import FOLLOWS, Incident, calibrate
from edge_sdk.events.record import (
    Answer,
    CrashTimeline,
    DeviceState,
    Event,
    EventClip,
    EventTime,
    Provenance,
    State,
    check_states,
    shifted,
)

__all__ = [
    "Answer",
    "CrashTimeline",
    "DeviceState",
    "Event",
    "EventClip",
    "EventTime",
    "FOLLOWS",
    "Incident",
    "Provenance",
    "State",
    "calibrate",
    "check_states",
    "shifted",
]
