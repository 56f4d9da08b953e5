"""When a live source's decoder gives way to the next, by pipelines whose decoders hang: no real one does at will."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pushing import until

from edge_sdk.capture import supervisor
from edge_sdk.capture.patience import MOST_LEFT
from edge_sdk.capture.player import LivePicture, PictureInfo
from edge_sdk.capture.settings import CaptureSettings, LiveSettings
from edge_sdk.capture.states import SourceChange
from edge_sdk.capture.supervisor import Supervisor

QUICK = LiveSettings(connect_timeout_s=4.0, stall_timeout_s=0.2)


class Hanging:
    """A pipeline to which a unit comes at every look, and whose decoder stops after `pictures` of them."""

    def __init__(self, pictures: int) -> None:
        self._left, self._shown, self._units = pictures, 0, 0

    def picture(self) -> LivePicture | None:
        if self._shown == self._left:
            return None
        self._shown += 1
        return LivePicture(np.full((2, 2), self._shown, np.uint8), time.monotonic(), None)

    def arrived(self) -> tuple[int, int]:
        self._units += 1
        return self._units, self._shown

    def info(self) -> PictureInfo | None:
        return None

    def codec(self) -> str:
        return "h264"

    def decoder(self) -> str:
        return "hangs"

    # Any: each as `LivePlayer` has it.
    def __getattr__(self, name: str) -> Any:
        found = {"fault": None, "ended": False, "warnings": [], "history": [], "units": [], "close": None}
        return lambda: found[name]


class Attempts:
    """In the place of what builds pipelines; it notes whom it is told to blame."""

    feed = None
    plan = SimpleNamespace(settings=CaptureSettings(width=2, height=2, live=QUICK), source=SimpleNamespace(uri="x://y"))

    def __init__(self, pictures: int) -> None:
        self._pictures, self.begun = pictures, 0
        self.blamed: list[tuple[str, str, bool, int]] = []

    def start(self) -> Hanging:
        self.begun += 1
        return Hanging(self._pictures)

    def blame(self, codec: str, decoder: str, *, hangs: bool) -> str:
        self.blamed.append((codec, decoder, hangs, self.begun))
        return "another is tried"


@pytest.mark.parametrize(("pictures", "hangs", "attempts"), [(3, True, 3), (1, True, 3), (0, False, 1)])
def test_a_decoder_that_keeps_hanging_gives_way(pictures: int, hangs: bool, attempts: int) -> None:
    made = Attempts(pictures)
    watched = Supervisor(made)  # type: ignore[arg-type]
    watched.start()
    try:
        until(lambda: bool(made.blamed), 20.0)
    finally:
        watched.close()
    assert made.blamed[0] == ("h264", "hangs", hangs, attempts)
    assert "another is tried" in watched.warnings


class Stuck(Hanging):
    """A pipeline whose decoder goes on counting while what follows it hangs, and which is not taken down."""

    def __init__(self, held: threading.Event) -> None:
        super().__init__(1)
        self._held = held

    def arrived(self) -> tuple[int, int]:
        self._units += 1
        return self._units, self._units

    def close(self) -> None:
        self._held.wait(60)


class StuckAttempts(Attempts):
    def __init__(self) -> None:
        super().__init__(1)
        self.held = threading.Event()

    def start(self) -> Stuck:
        self.begun += 1
        return Stuck(self.held)


def test_pictures_that_never_come_out_are_none_and_a_pipeline_that_hangs_is_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "HANG_S", 1.5)
    made = StuckAttempts()
    watched = Supervisor(made)  # type: ignore[arg-type]
    seen: list[SourceChange] = []
    watched.start()
    try:
        until(lambda: seen.extend(watched.changes()) or made.begun >= 2, 20.0)
        until(lambda: seen.extend(watched.changes()) or any("hang in a driver" in each.reason for each in seen), 20.0)
    finally:
        began_s = time.monotonic()
        watched.close()
        closing_s = time.monotonic() - began_s
        made.held.set()
    assert [each.state for each in seen[:5]] == ["connecting", "live", "stalled", "backoff", "connecting"]
    assert "no picture for" in seen[2].reason
    assert made.begun == MOST_LEFT, "no more of them are begun than may be left behind"
    assert any("taking the pipeline down took more than 1.5 s" in text for text in watched.warnings)
    assert closing_s < 10


def test_a_pipeline_that_starts_too_late_is_taken_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "HANG_S", 0.2)
    closed, go_on = threading.Event(), threading.Event()

    class Late(Attempts):
        def start(self) -> Hanging:
            self.begun += 1
            go_on.wait(60)
            late = Hanging(3)
            late.__dict__["close"] = closed.set
            return late

    made = Late(3)
    watched = Supervisor(made)  # type: ignore[arg-type]
    watched.start()
    try:
        until(lambda: watched.last.state == "backoff", 20.0)
        assert "starting the pipeline took more than 0.2 s" in watched.last.reason
        go_on.set()
        assert closed.wait(20)
    finally:
        go_on.set()
        watched.close()
