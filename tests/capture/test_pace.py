"""The beat of rounds, on a clock that the test moves."""

from __future__ import annotations

import pytest

from edge_sdk.capture.pace import Pace


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def wait(pace: Pace, clock: Clock) -> None:
    while (rest_s := pace.rest_s()) > 0:
        clock.now_s += rest_s


def test_rounds_keep_their_instants_whatever_the_work_costs() -> None:
    clock = Clock()
    pace, began = Pace(0.125, clock), []
    for work_s in (0.0, 0.1, 0.03, 0.12, 0.0, 0.07):
        wait(pace, clock)
        pace.begin()
        began.append(clock.now_s)
        clock.now_s += work_s
    assert began == pytest.approx([100.0 + 0.125 * number for number in range(6)])
    assert pace.missed == 0


def test_a_late_round_is_skipped_and_counted_not_made_up_for() -> None:
    clock = Clock()
    pace = Pace(0.125, clock)
    pace.begin()
    clock.now_s += 0.53
    assert pace.rest_s() == 0
    pace.begin()
    assert pace.missed == 3
    wait(pace, clock)
    assert clock.now_s == pytest.approx(100.625)


def test_a_wait_is_cut_short_so_that_a_request_to_stop_is_heard() -> None:
    pace = Pace(10.0, Clock())
    pace.begin()
    assert 0 < pace.rest_s() <= 0.1


def test_what_passes_before_the_first_round_was_not_missed() -> None:
    clock = Clock()
    pace = Pace(0.125, clock)
    clock.now_s += 60.0
    assert pace.rest_s() == 0
    pace.begin()
    assert pace.missed == 0
    wait(pace, clock)
    assert clock.now_s == pytest.approx(160.125)
