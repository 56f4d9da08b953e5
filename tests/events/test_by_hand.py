"""When an event by hand begins, goes on and is over, however often and from wherever it is triggered."""

from __future__ import annotations

import math
import threading

import pytest
from watched_events import event

from edge_sdk.bundle.manifest import OperatingPoint
from edge_sdk.events import ByHand, CrashTimeline, Incident, State
from edge_sdk.explaining.kept import begins_s

SOURCE = event("a")


def made() -> Incident:
    return Incident(SOURCE.source, SOURCE.provenance, OperatingPoint(), "manual")


def press(button: ByHand, at_s: float) -> str:
    with button.lock:
        return button.trigger(at_s, made)


def states(button: ByHand, now_s: float) -> tuple[State, ...]:
    due = button.due(now_s)
    return () if due is None else due[1]


def test_one_press_is_confirmed_at_once_and_closed_after_ten_seconds() -> None:
    button = ByHand()
    assert button.due(1.0) is None
    press(button, 2.0)
    assert states(button, 2.1) == ("provisional", "confirmed")
    assert states(button, 11.9) == ()
    assert states(button, 12.0) == ("closed",)
    assert button.due(13.0) is None


def test_a_press_while_it_is_open_prolongs_it_and_one_behind_it_begins_another() -> None:
    button = ByHand()
    first = press(button, 0.0)
    states(button, 0.0)
    assert press(button, 9.0) == first
    assert press(button, 4.0) == first, "told late, it takes nothing from the event"
    assert states(button, 18.9) == ()
    assert states(button, 19.0) == ("closed",)
    other = press(button, 19.1)
    assert other != first
    assert states(button, 19.2) == ("provisional", "confirmed")


def test_a_stuck_button_makes_one_event_of_a_minute_until_it_is_let_go() -> None:
    button = ByHand()
    ids, told = set(), []
    for tenth in range(3000):
        ids.add(press(button, tenth / 10))
        told += [(tenth / 10, state) for state in states(button, tenth / 10)]
    assert len(ids) == 1
    assert told == [(0.0, "provisional"), (0.0, "confirmed"), (60.0, "closed")]
    last_s = 299.9
    assert press(button, last_s + 9.9) in ids
    assert press(button, last_s + 9.9 + 10.0) not in ids


def test_two_presses_that_are_late_in_a_long_event_are_no_stuck_button() -> None:
    """It is closed by its last press, well before a minute is over."""
    button = ByHand()
    first = press(button, 0.0)
    for at_s in range(5, 50, 5):
        press(button, float(at_s))
    assert states(button, 55.0)[-1] == "closed"
    assert press(button, 55.1) != first


@pytest.mark.parametrize("before_s", [0.0, 55.0])
def test_the_end_of_a_source_closes_it_and_a_press_when_it_is_back_begins_another(before_s: float) -> None:
    """Of an event of which nothing was told yet all is told then."""
    button = ByHand()
    first = press(button, 0.0)
    for at_s in range(0, int(before_s) + 1, 5):
        assert press(button, float(at_s)) == first
    assert states(button, math.inf) == ("provisional", "confirmed", "closed")
    assert states(button, math.inf) == ()
    assert press(button, before_s + 1.0) != first


def test_presses_of_many_threads_at_once_are_one_event() -> None:
    button, ids = ByHand(), set[str]()
    ready = threading.Barrier(8)

    def together() -> None:
        ready.wait()
        for _ in range(200):
            ids.add(press(button, 0.0))

    threads = [threading.Thread(target=together) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(ids) == 1


def test_an_event_by_hand_says_when_and_nothing_of_a_crash() -> None:
    found = made().revise("provisional", CrashTimeline(), 0.1, time=SOURCE.time, triggered_s=7.5)
    assert (found.trigger, found.triggered_s, found.evidence) == ("manual", 7.5, None)
    assert found.timeline.crash_start is found.timeline.pre_crash_start is found.timeline.crash_end is None
    # The frames for the video LLM begin four seconds before it, those of a student's before its crash.
    assert begins_s(found.happened) == pytest.approx(7.5 - 4.0)
    assert SOURCE.happened == SOURCE.timeline
