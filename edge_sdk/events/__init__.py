"""Events: the record and its life cycle."""

from __future__ import annotations

from edge_sdk.events.by_hand import LOOK_BACK_S, ByHand
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
    "ByHand",
    "CrashTimeline",
    "DeviceState",
    "Event",
    "EventClip",
    "EventTime",
    "FOLLOWS",
    "Incident",
    "LOOK_BACK_S",
    "Provenance",
    "State",
    "calibrate",
    "check_states",
    "shifted",
]
