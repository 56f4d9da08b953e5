"""What a live source shows again where no new picture is due, and pictures that come late, behind their repeats."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray
from pushing import taken, until

from edge_sdk.capture import Feed, LiveSettings
from edge_sdk.types import Frame
from edge_sdk.unit import Unit

PERIOD_S = 0.4
DARK, BRIGHT = (np.full((48, 64, 3), level, np.uint8) for level in (40, 200))
PATIENT = LiveSettings(stall_timeout_s=60.0)


def frames_of(unit: Unit, feed: Feed, first: NDArray[np.uint8]) -> tuple[Iterator[Frame], float]:
    """The frames of a unit that is shown `first`, and when that was taken."""
    stamps: list[float] = []
    thread = threading.Thread(target=lambda: stamps.append(taken(feed, first)))
    thread.start()
    frames = unit.frames()
    until(lambda: stamps)
    thread.join(timeout=5)
    return frames, stamps[0]


def level(frame: Frame) -> float:
    return float(frame.pixels.mean())


def test_what_a_program_draws_is_in_no_repeat() -> None:
    """It draws on each frame that it is given, on those that are shown again too."""
    feed = Feed("rgb", width=64, height=48)
    with Unit(feed, live=PATIENT, rate_hz=10.0) as unit:
        frames, _ = frames_of(unit, feed, DARK)
        shown = []
        for frame, _ in zip(frames, range(6), strict=False):
            shown.append((frame.repeated, frame.pixels.copy()))
            frame.pixels[:] = 255
    assert [repeated for repeated, _ in shown] == [False, *[True] * 5]
    for _, pixels in shown[1:]:
        np.testing.assert_array_equal(pixels, shown[0][1])


def test_a_picture_that_comes_behind_its_repeat_is_shown_at_once_and_again() -> None:
    feed = Feed("rgb", width=64, height=48)
    with Unit(feed, live=PATIENT, rate_hz=1 / PERIOD_S) as unit:
        frames, first_s = frames_of(unit, feed, DARK)
        first, again = next(frames), next(frames)
        # Taken before the instant of the repeat, and here behind it.
        late_s = first_s + PERIOD_S / 2
        assert feed.push(BRIGHT, late_s)
        rest = [next(frames) for _ in range(4)]
    assert [frame.repeated for frame in (first, again)] == [False, True]
    assert again.time_s == pytest.approx(PERIOD_S)
    late = [frame for frame in rest if not frame.repeated]
    assert [frame.captured_s for frame in late] == [pytest.approx(late_s, abs=1e-6)], "no round passes it over"
    place = rest.index(late[0])
    assert level(late[0]) > 2 * level(again)
    assert all(level(frame) == level(late[0]) for frame in rest[place:]), "repeats are of the newest picture"
    times = [frame.time_s for frame in (first, again, *rest)]
    assert times == sorted(set(times))
    assert times[2 + place] == pytest.approx(times[1 + place], abs=0.002), "just behind the last one"
    # Repeats count from when it was taken, so that a source which is often late runs no farther ahead each time.
    assert rest[-1].time_s == pytest.approx(late_s - first_s + PERIOD_S * (len(rest) - 1 - place))


def test_a_source_that_comes_back_behind_many_repeats_is_shown_until_its_time_has_come() -> None:
    feed, period_s = Feed("rgb", width=64, height=48), 0.2
    with Unit(feed, live=PATIENT, rate_hz=1 / period_s) as unit:
        frames, first_s = frames_of(unit, feed, DARK)
        shown = [next(frames) for _ in range(6)]
        assert [frame.repeated for frame in shown] == [False, *[True] * 5]
        stamps = [first_s + late_s for late_s in (0.1, 0.3, 0.5, 1.3)]
        for stamp in stamps:
            until(lambda stamp=stamp: time.monotonic() >= stamp)
            assert feed.push(BRIGHT, stamp)
            shown.append(next(frame for frame in islice(frames, 3) if not frame.repeated))
    assert [frame.captured_s for frame in shown[6:]] == pytest.approx(stamps, abs=1e-6)
    times = [frame.time_s for frame in shown]
    assert times == sorted(set(times))
    assert times[6] == pytest.approx(times[5] + 0.001)
    assert times[-1] == pytest.approx(1.3, abs=1e-6), "a time of its own again"
