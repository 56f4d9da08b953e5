"""The life of an event: its order, its numbers, its JSON."""

from __future__ import annotations

import json

import pytest

from edge_sdk.bundle.manifest import OperatingPoint
from edge_sdk.events import CrashTimeline, Event, EventTime, Incident, Provenance, State, calibrate

POINT = OperatingPoint(scale=2.0, offset=-1.0, calibrated=True)
PROVENANCE = Provenance(bundle="b", bundle_sha256="0" * 64, runtime="ort", config_sha256="1" * 64)


def incident() -> Incident:
    return Incident("file:///clip.mp4", PROVENANCE, POINT)


def test_revisions_rise_by_one_under_one_id() -> None:
    event = incident()
    made = [
        event.revise(s, CrashTimeline(), 0.5, time=EventTime(monotonic_s=1.0))
        for s in ("provisional", "confirmed", "refined", "closed")
    ]
    assert [m.revision for m in made] == [1, 2, 3, 4]
    assert len({m.id for m in made}) == 1
    assert incident().id != event.id


@pytest.mark.parametrize(
    "states", [("confirmed",), ("provisional", "closed"), ("provisional", "confirmed", "confirmed"),
               ("provisional", "rejected", "confirmed"), ("provisional", "confirmed", "closed", "refined")],
)  # fmt: skip
def test_an_order_that_breaks_the_promises_is_refused(states: tuple[State, ...]) -> None:
    event = incident()
    *allowed, refused = states
    for state in allowed:
        event.revise(state, CrashTimeline(), 0.5, time=EventTime(monotonic_s=1.0))
    with pytest.raises(ValueError, match="may not follow"):
        event.revise(refused, CrashTimeline(), 0.5, time=EventTime(monotonic_s=1.0))


def test_unknown_parts_are_null_and_never_absent() -> None:
    line = incident().revise("provisional", CrashTimeline(), 0.5, time=EventTime(monotonic_s=1.0)).to_json()
    parsed = json.loads(line)
    assert "\n" not in line
    assert parsed["schema"] == 1
    assert set(parsed) == set(Event.__struct_fields__)
    for name in ("clip", "reasoning", "device", "latency_ms"):
        assert parsed[name] is None
    assert parsed["timeline"] == {"pre_crash_start": None, "crash_start": None, "crash_end": None}


def test_calibration_is_the_logistic_map() -> None:
    # sigmoid(2 * logit(0.8) - 1): logit(0.8) = ln 4
    assert calibrate(0.8, POINT) == pytest.approx(1 / (1 + 2.718281828459045 / 16))
    assert 0 < calibrate(0.0, POINT) < calibrate(1.0, POINT) < 1
    steep = OperatingPoint(scale=100.0, offset=0.0, calibrated=True)
    assert 0 <= calibrate(0.0, steep) < 1e-300
    assert calibrate(1.0, steep) == 1
