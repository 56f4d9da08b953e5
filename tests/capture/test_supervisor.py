"""When a live source's decoder gives way to the next, by pipelines whose decoders hang: no real one does at will."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pushing import until

from edge_sdk.capture.player import LivePicture, PictureInfo
from edge_sdk.capture.settings import CaptureSettings, LiveSettings
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
    supervisor = Supervisor(made)  # type: ignore[arg-type]
    supervisor.start()
    try:
        until(lambda: bool(made.blamed), 20.0)
    finally:
        supervisor.close()
    assert made.blamed[0] == ("h264", "hangs", hangs, attempts)
    assert "another is tried" in supervisor.warnings
