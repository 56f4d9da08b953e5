"""A reasoner's process that stands still: stopped from outside, as one that swaps for minutes is."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from pushing import taken, until, wanted
from watched_events import event

from edge_sdk.bundle import Bundle
from edge_sdk.capture import Feed, HistorySettings, open_live
from edge_sdk.capture.ages import FrameAges
from edge_sdk.errors import RuntimeFailure
from edge_sdk.events import Event
from edge_sdk.explaining import EventExplainer, ReasonerProcess, ReasonerSettings, request
from edge_sdk.feeders import LiveFeeder

# Frames as they are kept for a model of 364x196: 0.9 MB each, several times what a socket holds.
LARGE = HistorySettings(width=728, height=410, rate_hz=30.0, keep_s=2.0)
PICTURE = np.zeros((410, 728, 3), np.uint8)
PLAIN = ReasonerSettings(priority=0)
# Long for a machine that is busy; a thread that waits for the process waits for a minute.
AT_ONCE_S = 1.0


@pytest.fixture(scope="module")
def feeder() -> Iterator[LiveFeeder]:
    """A source that has shown pictures, kept large."""
    feed = Feed("rgb", width=64, height=48, rate_hz=30)
    with open_live(feed, wanted(history=LARGE)) as source:
        camera = LiveFeeder(source, FrameAges(), 0.1)
        for number in range(6):
            taken(feed, np.full((48, 64, 3), 40 * number, np.uint8))
            until(lambda count=number + 1: source.history is not None and source.history.next >= count)
        until(camera.take)
        yield camera


@contextmanager
def frozen(process: ReasonerProcess) -> Iterator[None]:
    """The process has opened its bundle, and stands still."""
    process.begin(wait_s=5).close()
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_the_loop_that_watches_waits_for_nothing(asking: Bundle, feeder: LiveFeeder) -> None:
    """Events are begun and rejected, and others take their place, while frames cannot be sent."""
    explainer = EventExplainer(asking, PLAIN)
    try:
        with frozen(explainer.process):
            for name in ("a", "b"):
                explainer.notice(event(name), feeder)
                held = explainer._following[name]
                until(lambda held=held: held._request is not None)
                time.sleep(0.2)  # until frames are on their way
                for news in (event(f"{name}, too"), event(f"{name}, too", "rejected")):
                    begun_s = time.monotonic()
                    explainer.notice(news, feeder)
                    assert time.monotonic() - begun_s < AT_ONCE_S
        explainer.notice(event("c"), feeder)
        until(lambda: explainer._following["c"]._pushed, 60.0)
        *_, whole = explainer.explain(event("c", "closed"), feeder, ["recognition"], None)
        assert isinstance(whole, Event)
        assert set(whole.reasoning or {}) == {"recognition"}
    finally:
        explainer.close()


def test_a_deadline_is_kept_though_a_picture_cannot_be_sent(asking: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "GRACE_S", 0.5)
    with ReasonerProcess(asking, PLAIN) as process, frozen(process), process.begin() as clip:
        begun_s = time.monotonic()
        clip.push(PICTURE, 0.0)
        with pytest.raises(RuntimeFailure, match="it missed its deadline"):
            list(clip.ask(["recognition"], deadline_s=0.1))
        assert time.monotonic() - begun_s < 20
