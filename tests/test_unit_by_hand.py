"""Events that a program triggers on a unit: on files, on a live source and its ring, beside the student's."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demo_pictures import CLIP
from pushing import moving_camera, scored, stopping

import edge_sdk
from edge_sdk import stream
from edge_sdk.capture import Feed, LiveSettings
from edge_sdk.errors import ConfigError, SourceError, UnknownNameError
from edge_sdk.events import Event, by_hand
from edge_sdk.events.lifecycle import calibrate
from edge_sdk.unit import Unit

PATTERN = "test://gradient?duration=13&width=320&height=192&rate=10"
SHORT = "test://ball?duration=1&width=320&height=192&rate=10"
CLIP_URI = CLIP.absolute().as_uri()
PICTURE = np.full((48, 64, 3), 90, np.uint8)


def triggered(unit: Unit, at_s: float, source: str | None = None) -> tuple[str, list[Event]]:
    """All revisions of `unit`, with a trigger behind the first frame at or after `at_s` of the first stream."""
    found: list[Event] = []
    name = ""
    for step in unit.steps():
        found += step.events
        if not name and step.stream == 0 and step.frame.time_s >= at_s:
            name = unit.trigger(source)
    return name, found + list(unit.finish())


def test_it_lives_as_a_student_s_event_and_ends_ten_seconds_later() -> None:
    with Unit(PATTERN) as unit:
        begun, closed_s, name = None, None, ""
        for step in unit.steps():
            if step.frame.sequence == 20:
                name = unit.trigger()
            for event in step.events:
                if event.state == "closed":
                    closed_s = step.frame.time_s
                elif begun is None:
                    begun = (event, step.frame.time_s)
    assert begun is not None
    event, at_s = begun
    assert (event.id, event.trigger, event.state, event.revision) == (name, "manual", "provisional", 1)
    assert event.triggered_s == pytest.approx(2.0)
    assert at_s == pytest.approx(2.1), "told with the next frame"
    assert closed_s == pytest.approx(12.0)
    assert Event.from_json(event.to_json()) == event


def test_a_file_that_ends_before_closes_it() -> None:
    with Unit(SHORT) as unit:
        name, found = triggered(unit, 0.5)
    assert [(event.id, event.state, event.revision) for event in found] == [
        (name, "provisional", 1),
        (name, "confirmed", 2),
        (name, "closed", 3),
    ]
    assert {event.triggered_s for event in found} == {0.5}


def test_the_student_s_event_is_what_it_is_without_and_the_score_is_its_own() -> None:
    """It was triggered when the crash was under way, as by who had braced for it."""
    with Unit(CLIP) as unit:
        alone = list(unit.events())
    with Unit(CLIP) as unit:
        name, found = triggered(unit, 4.5)
    students = [event for event in found if event.trigger == "student"]
    assert [(e.state, e.timeline, e.score) for e in students] == [(e.state, e.timeline, e.score) for e in alone]
    mine = [event for event in found if event.id == name]
    assert [event.state for event in mine] == ["provisional", "confirmed", "closed"]
    assert name not in {event.id for event in students}
    assert mine[-1].score == pytest.approx(alone[-1].score)
    assert mine[-1].calibrated == alone[-1].calibrated
    assert mine[-1].timeline.crash_start is None


def test_where_the_student_sees_nothing_its_low_score_is_told() -> None:
    with Unit([SHORT, CLIP]) as unit:
        name, found = triggered(unit, 0.5, unit.sources[0].uri)
    (event,) = [event for event in found if event.id == name and event.state == "closed"]
    assert event.source == unit.sources[0].uri
    assert event.score < 0.2 < max(other.score for other in found if other.trigger == "student")


def test_which_source_is_meant_is_said_or_asked() -> None:
    with Unit([CLIP, SHORT]) as unit:
        next(step for step in unit.steps() if step.stream == 1)
        with pytest.raises(
            ConfigError, match=f"the name of one of 2 sources, found none named; name one of {CLIP_URI}, test"
        ):
            unit.trigger()
        for wrong in ("front", "rtsp://user:secret@10.0.0.7/1", "push://front"):
            with pytest.raises(UnknownNameError, match=f"unknown source .*; known: {CLIP_URI}, test:") as refused:
                unit.trigger(wrong)
            assert "secret" not in str(refused.value)
        assert unit.trigger(CLIP) == unit.trigger(str(CLIP)) == unit.trigger(CLIP_URI)
    with Unit([SHORT, SHORT]) as unit:
        next(unit.steps())
        with pytest.raises(ConfigError, match="the name of one of 2 sources, found test:"):
            unit.trigger(SHORT)


def test_what_has_nothing_to_show_is_refused() -> None:
    unit = Unit(SHORT)
    with pytest.raises(SourceError, match="no frame has been scored since it went live; read the unit"):
        unit.trigger()
    next(unit.steps())
    with pytest.raises(ConfigError, match="is a file and has no clock, found at_s=1; leave it out"):
        unit.trigger(at_s=1.0)
    list(unit.steps())
    with pytest.raises(SourceError, match="expected a live source, found it ended"):
        unit.trigger()
    unit.close()
    for _ in range(2):  # the lock is free again
        with pytest.raises(ConfigError, match="this unit was stopped or closed"):
            unit.trigger()


def test_one_that_nobody_has_read_yet_is_told_when_the_unit_is_stopped() -> None:
    with Unit(PATTERN) as unit:
        next(unit.steps())
        name = unit.trigger()
        unit.stop()
        with pytest.raises(ConfigError, match="was stopped or closed"):
            unit.trigger()
        assert [(e.id, e.state) for e in unit.events()] == [
            (name, state) for state in ("provisional", "confirmed", "closed")
        ]


@pytest.fixture
def camera() -> Iterator[tuple[Feed, threading.Event]]:
    with moving_camera(PICTURE) as found:
        yield found


@pytest.mark.native
def test_a_live_source_has_its_pictures_before_and_after_the_trigger(
    camera: tuple[Feed, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triggered by another thread while the unit is read; a second later it says that it was a little earlier."""
    monkeypatch.setattr(by_hand, "POST_S", 1.5)
    feed, _ = camera
    pressed: list[tuple[str, float]] = []

    def press() -> None:
        with stopping(unit):
            scored(unit)
            time.sleep(2.5)
            at_s = time.monotonic()
            time.sleep(0.3)
            pressed.append((unit.trigger(feed, at_s=at_s), at_s))
            assert unit.trigger() == pressed[0][0]

    with Unit(feed, live=LiveSettings(pre_roll_s=20.0)) as unit:
        thread = threading.Thread(target=press)
        thread.start()
        events = []
        for event in unit.events():
            events.append(event)
            if event.state == "closed":
                break
        clip = unit.clip(event, 1.0)
        thread.join(timeout=5)
    ((name, at_s),) = pressed
    assert [(each.id, each.state) for each in events] == [
        (name, state) for state in ("provisional", "confirmed", "closed")
    ]
    assert event.source == "push://front"
    assert event.triggered_s is not None
    happened = event.when(event.triggered_s)
    assert happened is not None
    assert happened.monotonic_s == pytest.approx(at_s, abs=0.01)
    stamps = [unit_.captured_s for unit_ in clip.units]
    assert stamps[0] <= at_s - 0.9
    assert stamps[-1] >= at_s + 1.5 - 0.3
    assert max(np.diff(stamps)) < 1.0, "nothing is missing between"


@pytest.mark.native
def test_the_program_of_the_page_triggers_when_its_button_is_pressed(
    camera: tuple[Feed, threading.Event], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "live.md").read_text(encoding="utf-8")
    (example,) = re.findall(
        r"```python\n(.*?)```", page.partition("## An event by hand\n")[2].partition("\n## ")[0], re.S
    )
    units: list[Unit] = []

    def watch(_: str, **settings: Any) -> Unit:
        units.append(Unit(camera[0], **settings))
        return units[0]

    answers = iter(["", "stop"])

    def pressed(_: str) -> str:
        with stopping(units[0]):
            scored(units[0])
        answer = next(answers)
        if answer:
            units[0].stop()
        return answer

    monkeypatch.setattr(edge_sdk, "open", watch)
    exec(compile(example, "docs/live.md", "exec"), {"input": pressed})
    # Two threads print: the button's, which has the id, may come behind the reader's.
    printed = [line.partition(" ")[::2] for line in capsys.readouterr().out.splitlines()]
    (name,) = [text for kind, text in printed if kind == "event"]
    events = [Event.from_json(text) for kind, text in printed if kind == "manual"]
    assert [(event.id, event.state) for event in events] == [(name, state) for state in ("confirmed", "closed")]


@pytest.mark.native
def test_a_camera_that_dies_closes_it_and_is_no_source_of_another_once_what_it_showed_is_old(
    camera: tuple[Feed, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HISTORY_S", 1.0)
    feed, dead = camera
    with Unit(feed, live=LiveSettings(stall_timeout_s=2.0)) as unit:
        seen: list[tuple[str, str]] = []
        name = ""
        for item in unit.watch():
            seen.append((item.state, item.id if isinstance(item, Event) else ""))
            if item.state == "live":
                threading.Thread(target=press_when_scored, args=(unit,)).start()
            elif item.state == "confirmed":
                name = seen[-1][1]
                dead.set()
            elif item.state == "backoff":
                with pytest.raises(
                    SourceError,
                    match=r"push://front: expected a live source, found it (backoff|connecting) without a "
                    r"picture in the last 1 s",
                ):
                    unit.trigger()
                unit.stop()
    assert name
    states = [state for state, _ in seen]
    assert states.index("stalled") < states.index("closed") < states.index("backoff")
    assert ("closed", name) in seen
    assert states.count("closed") == 1


@pytest.mark.native
def test_who_presses_after_the_camera_has_died_has_an_event_at_its_last_picture(
    camera: tuple[Feed, threading.Event],
) -> None:
    """Pressed when it stalls, and again while it is tried again: one event, closed at once, with the scores it had."""
    feed, dead = camera
    found: list[Event] = []
    names: list[str] = []
    with Unit(feed, live=LiveSettings(stall_timeout_s=1.0)) as unit:
        threading.Thread(target=die_when_scored, args=(unit, dead)).start()
        for item in unit.watch():
            if isinstance(item, Event):
                found.append(item)
            elif item.state in ("stalled", "backoff"):
                stalled_s = item.at_s
                names.append(unit.trigger())
            elif item.state == "connecting" and names:
                unit.stop()
        point = unit.student.operating_point
        assert found[-1].score == pytest.approx(calibrate(unit.peak_score, point)), "of the seconds before it died"
    assert names == [found[0].id] * 2
    assert [(event.id, event.state) for event in found] == [
        (names[0], state) for state in ("provisional", "confirmed", "closed")
    ]
    assert found[0].triggered_s is not None
    happened = found[0].when(found[0].triggered_s)
    assert happened is not None
    assert 0.9 < stalled_s - happened.monotonic_s < 2.0, "no picture was seen later"


@pytest.mark.native
def test_a_camera_that_comes_back_has_an_event_of_its_own(camera: tuple[Feed, threading.Event]) -> None:
    """The ring still has what came before the first one."""
    feed, dead = camera
    found: list[Event] = []
    names: list[str] = []
    with Unit(feed, live=LiveSettings(stall_timeout_s=1.0, pre_roll_s=20.0)) as unit:
        threading.Thread(target=die_when_scored, args=(unit, dead)).start()
        for item in unit.watch():
            if isinstance(item, Event):
                found.append(item)
                if len(found) == 3:
                    dead.clear()
                    threading.Thread(target=press_when_back, args=(unit, feed, dead, names)).start()
                elif len(found) == 5:
                    unit.stop()
            elif item.state == "backoff":
                assert not names, "it is told before the next attempt is over"
                names.append(unit.trigger())
        clip = unit.clip(found[0], 0.5)
    first, second = names
    assert [event.id for event in found] == [first] * 3 + [second] * 3
    began, again = found[0].triggered_s, found[-1].triggered_s
    assert began is not None
    assert again is not None
    assert again > began + 1.0
    assert clip.delivered_s >= 0.5
    ((gap_s, back_s),) = clip.gaps
    assert (gap_s - clip.zero_s, back_s - clip.zero_s) == (pytest.approx(began, abs=0.3), pytest.approx(again, abs=2.0))


def die_when_scored(unit: Unit, dead: threading.Event) -> None:
    with stopping(unit):
        scored(unit)
        time.sleep(1.0)
    dead.set()


def press_when_back(unit: Unit, feed: Feed, dead: threading.Event, names: list[str]) -> None:
    """Push to the feed again, until the event is set."""
    with stopping(unit):
        pressed = False
        while not dead.wait(0.1):
            feed.push(np.random.default_rng().integers(0, 255, PICTURE.shape).astype(np.uint8))
            timeline = unit.streams[0].timeline
            if not pressed and unit.sources[0].state == "live" and timeline.last_s is not None:
                names.append(unit.trigger())
                pressed = True


def press_when_scored(unit: Unit) -> None:
    with stopping(unit):
        scored(unit)
        unit.trigger()


@pytest.mark.native
def test_an_instant_that_is_not_held_is_refused(camera: tuple[Feed, threading.Event]) -> None:
    feed, _ = camera
    with Unit(feed) as unit:
        next(unit.steps())
        now_s = time.monotonic()
        for wrong_s in (now_s - 1000.0, now_s + 60.0, math.nan):
            with pytest.raises(ConfigError, match=r"push://front: expected at_s from \S+ to \S+, now, on the clock"):
                unit.trigger(at_s=wrong_s)
        assert unit.finish() == ()
