"""Several sources in one unit: each is scored as if it were alone, and none can hold up another."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from demo_pictures import CLIP, decoded, playing

import edge_sdk
from edge_sdk.capture import Feed, LiveSettings, SourceChange
from edge_sdk.errors import ConfigError, SourceError
from edge_sdk.events import Event
from edge_sdk.perception.timeline import FrameScores
from edge_sdk.unit import Unit

PATTERN = "test://gradient?duration=4&width=320&height=192&rate=30"


def alone(source: str | Path) -> list[FrameScores]:
    with Unit(source) as unit:
        return list(unit.scores())


def test_two_files_of_unequal_length_score_as_each_alone() -> None:
    with Unit([CLIP, PATTERN]) as unit:
        steps = list(unit.steps())
        assert [view.state for view in unit.sources] == ["ended", "ended"]
    for number, source in enumerate((CLIP, PATTERN)):
        together = [step.scores for step in steps if step.stream == number]
        np.testing.assert_allclose(np.array(together), np.array(alone(source)), atol=1e-5)


def test_events_say_whose_they_are() -> None:
    with edge_sdk.open([PATTERN, CLIP]) as unit:
        assert {event.source for event in unit.events()} == {CLIP.absolute().as_uri()}


def test_no_source_and_a_bad_one_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="at least one source"):
        Unit([])
    with pytest.raises(SourceError, match="nothing-here"):
        Unit([CLIP, "nothing-here.mp4"])


def test_a_crash_that_is_pushed_live_is_the_crash_of_the_file_and_a_dead_camera_harms_nobody() -> None:
    with Unit(CLIP) as unit:
        expected = next(iter(unit.events({"closed"}))).timeline.crash_start
    assert expected is not None
    feed = Feed("rgb", width=400, height=240, rate_hz=30)
    dead = "rtsp://user:secret@127.0.0.1:1/nothing"
    with Unit([dead, feed], live=LiveSettings(connect_timeout_s=1.0)) as unit, playing(feed, decoded(30), 30):
        seen: list[Event | SourceChange] = []
        for item in unit.watch():
            seen.append(item)
            if isinstance(item, SourceChange) and item.state == "ended":
                unit.stop()
        ages = unit.sources[1].age
        missed = unit.missed_rounds
    events = [item for item in seen if isinstance(item, Event)]
    assert {event.source for event in events} == {"push://push"}
    closed = [event for event in events if event.state == "closed"]
    assert len(closed) == 1
    start = closed[0].timeline.crash_start
    assert start is not None
    assert start.t == pytest.approx(expected.t, abs=0.5)
    assert closed[0].time.utc is not None
    assert ages is not None
    assert ages.count > 40
    assert missed < 20
    states = [item.state for item in seen if isinstance(item, SourceChange) and item.source.startswith("rtsp")]
    assert states[0] == "connecting"
    assert "live" not in states
    assert "backoff" in states
    assert "secret" not in str(seen)


def test_a_unit_is_stopped_from_another_thread() -> None:
    feed = Feed("rgb", width=400, height=240, rate_hz=10)
    with Unit(feed) as unit:
        threading.Timer(0.5, unit.stop).start()
        before_s = time.monotonic()
        assert list(unit.scores()) == []
        assert 0.3 < time.monotonic() - before_s < 2.0


def test_what_a_live_source_has_not_shown_yet_is_not_told() -> None:
    with Unit(Feed("rgb", width=400, height=240)) as unit:
        assert unit.sources[0].state == "connecting"
        with pytest.raises(SourceError, match="no picture has come yet"):
            _ = unit.info
