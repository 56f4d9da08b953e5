"""When a crash was, by the clocks of the camera and of this device."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from edge_sdk.capture.ages import FrameAges
from edge_sdk.feeders import LiveFeeder
from edge_sdk.hardware import clock
from edge_sdk.hardware.clock import Discipline
from edge_sdk.types import CaptureTime, Frame

BLACK = np.zeros((2, 2), np.uint8)
FIRST_S, UTC_S = 100.0, 1_700_000_000.0


class Camera:
    """A live source that gives one frame a round, of which it is told when they are taken."""

    uri, state, ring, history = "push://front", "live", None, None

    def __init__(self, captures: list[CaptureTime]) -> None:
        self._frames = [
            Frame(
                pixels=BLACK,
                time_s=capture.monotonic_s - FIRST_S,
                sequence=number,
                captured_s=capture.monotonic_s,
                capture=capture,
            )
            for number, capture in enumerate(captures)
        ]

    def latest(self) -> Frame | None:
        return self._frames.pop(0) if self._frames else None


# Any: a double of LiveSource.
def feeder(*captures: CaptureTime) -> Any:
    camera: Any = Camera(list(captures))
    return LiveFeeder(camera, FrameAges(), 0.1)


def test_the_timeline_s_zero_is_mended_by_what_is_known_later() -> None:
    """The camera says its time from the second picture on; the third round has no picture of its own."""
    camera = feeder(
        CaptureTime(monotonic_s=FIRST_S, source="arrival"),
        CaptureTime(monotonic_s=FIRST_S + 3, utc_s=UTC_S + 3, uncertainty_s=0.2, source="sender"),
    )
    assert camera.time_of(None).zero is None
    first, second, again = (camera.take() for _ in range(3))
    assert again.repeated
    assert camera.first_s == FIRST_S
    expected = CaptureTime(monotonic_s=FIRST_S, utc_s=UTC_S, uncertainty_s=0.2, source="sender")
    for frame in (second, again, None):
        assert camera.time_of(frame).zero == expected
    fresh = feeder(first.capture)
    assert fresh.time_of(fresh.take()).zero == CaptureTime(monotonic_s=FIRST_S, source="arrival")


def test_a_clock_that_nobody_keeps_tells_its_time_and_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = feeder(CaptureTime(monotonic_s=FIRST_S, source="arrival"))
    for synchronised, source, bounded in ((False, "system", False), (True, "ntp", True)):
        known = Discipline(synchronised=synchronised, max_error_s=0.25, estimated_error_s=0.01)
        monkeypatch.setattr(clock, "discipline", lambda known=known: known)
        told = camera.time_of(None)
        assert datetime.fromisoformat(told.utc.replace("Z", "+00:00")).timestamp() == pytest.approx(time.time(), abs=5)
        assert told.source == source
        assert (told.uncertainty_s is not None) is bounded
