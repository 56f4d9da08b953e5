"""A reasoner's process that lives, and says so, while a run of its model does not come to an end."""

from __future__ import annotations

import time

import numpy as np
import pytest
from changed_worker import started_with

from edge_sdk.bundle import Bundle
from edge_sdk.errors import ConfigError, RuntimeFailure
from edge_sdk.explaining import ReasonerProcess, ReasonerSettings, Reply, child

# Every picture takes its time, a black one all of it.
SLOW_OR_STUCK = """
import time
from edge_sdk.runtimes import ort
run = ort.OrtSession.run
def slowly(session, feeds):
    if "patches" in feeds:
        time.sleep(1e6 if feeds["patches"].max() < -0.99 else 1.2)
    return run(session, feeds)
ort.OrtSession.run = slowly
"""
NEVER_OPEN = """
import time
from edge_sdk.runtimes import ort
ort.OrtRuntime.open = lambda *_: time.sleep(1e6)
"""
STALL_S = 5.0
PICTURES = np.random.default_rng(3).integers(0, 255, (5, 60, 90, 3), dtype=np.uint8)


def test_work_that_goes_on_may_take_long_and_work_that_stands_still_is_ended(
    asking: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_start", started_with(SLOW_OR_STUCK))
    settings = ReasonerSettings(priority=0, stall_s=STALL_S)
    with ReasonerProcess(asking, settings) as process:
        with process.begin() as clip:
            begun_s = time.monotonic()
            for number, picture in enumerate(PICTURES):
                clip.push(picture, number / 10)
            said = list(clip.ask(["recognition"]))
            assert time.monotonic() - begun_s > STALL_S
            assert [item.task for item in said if isinstance(item, Reply)] == ["recognition"]
            time.sleep(STALL_S + 1)  # a clip that waits for its next picture is not at work
            clip.push(np.zeros_like(PICTURES[0]), 1.0)
            begun_s = time.monotonic()
            with pytest.raises(
                RuntimeFailure, match="its work made no progress for 5 s; ask again: it is then restarted"
            ):
                list(clip.ask(["recognition"]))
            assert STALL_S - 2 < time.monotonic() - begun_s < 4 * STALL_S
        with process.begin() as clip:
            clip.push(PICTURES[0], 0.0)
            assert list(clip.ask(["recognition"]))


def test_a_bundle_that_does_not_come_open_is_given_up(asking: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks without a deadline waits no longer either."""
    monkeypatch.setattr(child, "_start", started_with(NEVER_OPEN))
    with ReasonerProcess(asking, ReasonerSettings(priority=0, open_s=6.0)) as process:
        begun_s = time.monotonic()
        with pytest.raises(RuntimeFailure, match=r"its bundle was not open after 6 s; ask again: it is then restarted"):
            process.begin()
        assert 6.0 < time.monotonic() - begun_s < 20.0


def test_a_bound_below_what_beats_can_tell_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"stall_s must be at least 5, found 4"):
        ReasonerSettings(stall_s=4)
