"""Events as a unit tells its reasoner of them, made up."""

from __future__ import annotations

from edge_sdk.events import CrashTimeline, Event, EventTime, Provenance, State
from edge_sdk.types import Estimate


def event(name: str, state: State = "provisional") -> Event:
    """The event `name` of a pushed source, whose crash may have begun in its first minute."""
    return Event(
        id=name,
        revision=1,
        state=state,
        source="push://push",
        timeline=CrashTimeline(crash_start=Estimate(t=0.0, lo=0.0, hi=60.0)),
        score=0.9,
        calibrated=True,
        trigger="student",
        time=EventTime(monotonic_s=0.0),
        provenance=Provenance(bundle="b", bundle_sha256="0" * 64, runtime="ort", config_sha256="0" * 64),
    )
