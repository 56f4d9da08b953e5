"""Questions beside the events that are only followed, on a live source that kept frames and a real reasoner."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from pushing import taken, until, wanted
from watched_events import event

from edge_sdk.bundle import Bundle
from edge_sdk.capture import CaptureSettings, Feed, HistorySettings, open_live, open_source
from edge_sdk.capture.ages import FrameAges
from edge_sdk.errors import ConfigError, SourceError
from edge_sdk.events import CrashTimeline, Event
from edge_sdk.explaining import EventExplainer, ReasonerSettings, watching
from edge_sdk.feeders import Feeder, FileFeeder, LiveFeeder

SIZE = (48, 64, 3)
FRAMES = 6
# What a turn may take on a busy machine; one that nobody gives back takes for ever.
TURN_S = 10.0


@pytest.fixture(scope="module")
def feeder() -> Iterator[LiveFeeder]:
    with camera(5.0) as shown:
        yield shown


@contextmanager
def camera(keep_s: float) -> Iterator[LiveFeeder]:
    """A source that has shown a few pictures, all of them kept."""
    kept = HistorySettings(width=64, height=48, rate_hz=30.0, keep_s=keep_s)
    feed = Feed("rgb", width=64, height=48, rate_hz=30)
    with open_live(feed, wanted(history=kept)) as source:
        shown = LiveFeeder(source, FrameAges(), 0.1)
        for number in range(FRAMES):
            taken(feed, np.full(SIZE, 40 * number, np.uint8))
            until(lambda count=number + 1: source.history is not None and source.history.next >= count)
        until(shown.take)
        yield shown


@pytest.fixture
def explainer(asking: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[EventExplainer]:
    monkeypatch.setattr(watching, "QUEUE_S", TURN_S)
    made = EventExplainer(asking, ReasonerSettings(priority=0))
    yield made
    made.close()


def gone_by(feeder: LiveFeeder) -> None:
    """Let the source show so much that nothing of its first minute is left."""
    history = feeder.history
    assert history is not None
    assert feeder.first_s is not None
    for number in range(history.settings.frames):
        history.push(np.zeros(SIZE, np.uint8), feeder.first_s + 100 + number / 30)


def answered(explainer: EventExplainer, feeder: Feeder, name: str) -> bool:
    *_, whole = explainer.explain(event(name, "closed"), feeder, ["recognition"], None)
    return isinstance(whole, Event) and set(whole.reasoning or {}) == {"recognition"}


def follow(explainer: EventExplainer, feeder: Feeder, name: str) -> None:
    """Have the event followed, and wait until it holds the reasoner."""
    explainer.notice(event(name), feeder)
    until(lambda: explainer._following[name]._pushed, 60.0)


def test_of_an_event_by_hand_the_frames_about_its_trigger_are_shown(
    explainer: EventExplainer, feeder: LiveFeeder
) -> None:
    """Its timeline is null. What is kept begins four seconds before one trigger, and ends long before the other."""
    early, late = (
        msgspec.structs.replace(
            event(name, "closed"), timeline=CrashTimeline(), trigger="manual", triggered_s=triggered_s
        )
        for name, triggered_s in (("early", 0.1), ("late", 60.0))
    )
    *_, whole = explainer.explain(early, feeder, ["recognition"], None)
    assert isinstance(whole, Event)
    assert set(whole.reasoning or {}) == {"recognition"}
    with pytest.raises(SourceError, match="the frames of this event are no longer kept"):
        list(explainer.explain(late, feeder, ["recognition"], None))


def test_a_question_goes_before_another_camera_s_event(explainer: EventExplainer, feeder: LiveFeeder) -> None:
    """That one is followed until it is closed, which the loop that asks cannot see."""
    follow(explainer, feeder, "a")
    follow(explainer, feeder, "b")
    assert answered(explainer, feeder, "a")
    assert not explainer._following


def test_events_are_asked_about_again_after_their_source_has_forgotten_them(explainer: EventExplainer) -> None:
    """The first was no longer followed once the second was provisional."""
    with camera(1.0) as feeder:
        follow(explainer, feeder, "a")
        follow(explainer, feeder, "b")
        gone_by(feeder)
        for name in ("a", "b", "a"):
            assert answered(explainer, feeder, name)
        with pytest.raises(SourceError, match="the frames of this event are no longer kept"):
            answered(explainer, feeder, "c")


def test_the_events_asked_about_last_are_kept_and_rejected_ones_are_not(explainer: EventExplainer) -> None:
    with camera(1.0) as feeder:
        for name in ("a", "b", "c", "d"):
            follow(explainer, feeder, name)
            if name == "b":
                assert answered(explainer, feeder, "a")
            if name == "c":
                assert answered(explainer, feeder, "a")
        explainer.notice(event("d", "rejected"), feeder)
        gone_by(feeder)
        assert answered(explainer, feeder, "a")
        for name in ("b", "c", "d"):
            with pytest.raises(SourceError, match="the frames of this event are no longer kept"):
                answered(explainer, feeder, name)


def test_an_event_that_comes_while_somebody_asks_keeps_its_frames(explainer: EventExplainer) -> None:
    with camera(1.0) as feeder:
        said = explainer.explain(event("a", "closed"), feeder, ["prevention"], None)
        next(said)
        explainer.notice(event("b"), feeder)
        until(lambda: explainer._kept["b"].frames)
        gone_by(feeder)
        assert isinstance(list(said)[-1], Event)
        assert answered(explainer, feeder, "b")


def test_a_file_s_question_does_too(explainer: EventExplainer, feeder: LiveFeeder, clip: Path) -> None:
    follow(explainer, feeder, "b")
    with open_source(str(clip), CaptureSettings(width=32, height=32)) as source:
        assert answered(explainer, FileFeeder(source, 10.0), "a")


def test_nothing_is_followed_while_somebody_asks(explainer: EventExplainer, feeder: LiveFeeder) -> None:
    said = explainer.explain(event("a", "closed"), feeder, ["prevention"], None)
    next(said)
    explainer.notice(event("b"), feeder)
    assert not explainer._following
    assert isinstance(list(said)[-1], Event)
    explainer.notice(event("c"), feeder)
    assert list(explainer._following) == ["c"]


def test_a_question_that_is_closed_leaves_the_reasoner_to_the_next(
    explainer: EventExplainer, feeder: LiveFeeder, clip: Path
) -> None:
    with open_source(str(clip), CaptureSettings(width=32, height=32)) as source:
        for camera in (feeder, FileFeeder(source, 10.0)):
            said = explainer.explain(event("a", "closed"), camera, None, None)
            next(said)
            said.close()
            explainer.process.begin(wait_s=0.0).close()
    assert answered(explainer, feeder, "a")


def test_questions_may_be_asked_while_the_loop_goes_on(explainer: EventExplainer, feeder: LiveFeeder) -> None:
    over = threading.Event()

    def loop() -> None:
        number = 0
        while not over.wait(0.005):
            explainer.notice(event(f"other {number}"), feeder)
            number += 1

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        assert all(answered(explainer, feeder, "a") for _ in range(4))
    finally:
        over.set()
        thread.join()


def test_a_deadline_that_is_no_number_takes_the_reasoner_from_nobody(
    explainer: EventExplainer, feeder: LiveFeeder
) -> None:
    follow(explainer, feeder, "a")
    with pytest.raises(ConfigError, match="expected a deadline in seconds, found nan"):
        next(explainer.explain(event("a", "closed"), feeder, ["recognition"], math.nan))
    assert list(explainer._following) == ["a"]
    assert answered(explainer, feeder, "b")
