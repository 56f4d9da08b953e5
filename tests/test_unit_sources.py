"""Several sources in one unit: each is scored as if it were alone, and none can hold up another."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import numpy as np
import pytest
from demo_pictures import AMID_S, CLIP, CRASH_S, broken_off, decoded, playing

import edge_sdk
from edge_sdk.capture import Feed, LiveSettings, SourceChange
from edge_sdk.errors import ConfigError, SourceError, UnknownNameError
from edge_sdk.events import Event
from edge_sdk.perception.timeline import FrameScores
from edge_sdk.types import Frame
from edge_sdk.unit import Step, Unit

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


def test_one_of_several_files_that_fails_says_so_when_all_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with Unit([CLIP, PATTERN]) as unit:
        source = unit.streams[0].feeder._source  # type: ignore[attr-defined]
        pull, left = source._player.pull, iter(range(20))

        def fail_later(timeout_s: float) -> object:
            if next(left, None) is None:
                raise SourceError("the storage hangs")
            return pull(timeout_s)

        monkeypatch.setattr(source._player, "pull", fail_later)
        assert list(unit.events()) == []
        failed, whole = unit.sources
    assert failed.stats.warnings == ("reading was stopped: the storage hangs",)
    assert (whole.state, whole.stats.warnings) == ("ended", ())


def test_a_file_has_no_units_to_cut_an_event_from() -> None:
    with Unit([PATTERN, CLIP]) as unit:
        event = next(iter(unit.events({"closed"})))
        with pytest.raises(ConfigError, match=r"clip\.mp4 is a file, and units are kept only for live sources"):
            unit.clip(event, 5.0)
        with pytest.raises(ConfigError, match="not a source of this unit"):
            unit.clip(msgspec.structs.replace(event, source="rtsp://elsewhere"), 5.0)


def test_events_say_whose_they_are() -> None:
    with edge_sdk.open([PATTERN, CLIP]) as unit:
        assert {event.source for event in unit.events()} == {CLIP.absolute().as_uri()}


def test_steps_hand_on_what_no_frame_has_caused(tmp_path: Path) -> None:
    """One file ends in the middle of its event, seconds before the other source."""
    clip = broken_off(tmp_path)
    with Unit([clip, "test://gradient?duration=8&width=320&height=192&rate=30"]) as unit:
        states = [event.state for step in unit.steps() for event in step.events]
        assert states[:2] == ["provisional", "confirmed"]
        assert "closed" not in states
        assert [(event.state, event.source) for event in unit.finish()] == [("closed", clip.absolute().as_uri())]
        assert unit.finish() == ()


def test_what_a_gap_has_closed_comes_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    with Unit(CLIP) as unit:
        confirmed = next(step.frame.sequence for step in unit.steps() if "confirmed" in states_of(step))
    gap = confirmed + 3
    with Unit(CLIP) as unit:
        feeder = unit.streams[0].feeder
        take = feeder.take

        def after_a_gap() -> Frame | None:
            frame = take()
            return frame if frame is None else msgspec.structs.replace(frame, restarted=frame.sequence == gap)

        monkeypatch.setattr(feeder, "take", after_a_gap)
        news = {step.frame.sequence: states_of(step) for step in unit.steps() if step.frame.sequence <= gap}
    assert news[confirmed][-1] == "confirmed"
    assert news[gap] == ["closed"]
    assert not any(news[between] for between in range(confirmed + 1, gap))


def states_of(step: Step) -> list[str]:
    return [event.state for event in step.events]


@pytest.mark.parametrize("wrong", [None, b"clip.mp4", 7, [CLIP, None]])
def test_what_is_no_source_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="expected a path, a URI or a Feed as source, found "):
        Unit(wrong)


def test_states_that_no_event_has_are_refused() -> None:
    with Unit(PATTERN) as unit:
        with pytest.raises(UnknownNameError, match=r"unknown event state 'Closed'; known: closed, confirmed"):
            unit.events({"Closed"})  # type: ignore[arg-type]
        assert list(unit.events({"closed"})) == []


def test_a_rate_of_rounds_is_for_live_sources() -> None:
    with pytest.raises(ConfigError, match="rate_hz is the rate of live sources, found 5 with only files"):
        Unit([CLIP, PATTERN], rate_hz=5)
    Unit([Feed("h264"), CLIP], rate_hz=5).close()


def test_live_settings_are_for_live_sources() -> None:
    with pytest.raises(ConfigError, match="live settings are for live sources, found only files"):
        edge_sdk.open([CLIP, PATTERN], live=LiveSettings(pre_roll_s=5.0))
    edge_sdk.open([Feed("h264"), CLIP], live=LiveSettings(pre_roll_s=5.0)).close()


def test_no_source_and_a_bad_one_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="at least one source"):
        Unit([])
    with pytest.raises(SourceError, match="nothing-here"):
        Unit([CLIP, "nothing-here.mp4"])


@pytest.mark.parametrize(
    "twins",
    [
        (Feed("h264"), Feed("mjpeg")),
        ("rtsp://a:1@127.0.0.1:1/x?token=1", "rtsp://b:2@127.0.0.1:1/x?token=2"),
        ("v4l2://0", "v4l2:///dev/video0"),
    ],
)
def test_two_live_sources_of_one_name_are_refused(twins: tuple[str | Feed, ...]) -> None:
    """Nobody could tell whose an event is."""
    with pytest.raises(ConfigError, match=r"different names, found \S+ twice; give each feed a name") as refused:
        Unit([CLIP, *twins])
    assert "token=1" not in str(refused.value)
    Unit([Feed("h264", name="front"), Feed("h264", name="rear"), CLIP, CLIP]).close()


@pytest.mark.native
def test_a_crash_that_is_pushed_live_is_the_crash_of_the_file_and_a_dead_camera_harms_nobody() -> None:
    with Unit(CLIP) as unit:
        expected = next(iter(unit.events({"closed"}))).timeline.crash_start
    assert expected is not None
    feed = Feed("rgb", width=400, height=240, rate_hz=30)
    dead = "rtsp://user:secret@127.0.0.1:1/nothing"
    with Unit([dead, feed], live=LiveSettings(connect_timeout_s=1.0)) as unit, playing(feed, decoded(30), 30):
        began_s, began_utc_s = time.monotonic(), time.time()
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
    happened = closed[0].when(start.t)
    assert happened is not None
    assert happened.monotonic_s - began_s == pytest.approx(CRASH_S, abs=0.5)
    assert happened.utc_s is None or happened.utc_s - began_utc_s == pytest.approx(CRASH_S, abs=0.5)
    assert happened.source == "host"
    assert ages is not None
    assert ages.count > 40
    assert missed < 20
    states = [item.state for item in seen if isinstance(item, SourceChange) and item.source.startswith("rtsp")]
    assert states[0] == "connecting"
    assert "live" not in states
    assert "backoff" in states
    assert "secret" not in str(seen)


def test_an_open_event_is_closed_when_its_camera_dies() -> None:
    """And not when it comes back, or when the unit ends."""
    feed = Feed("rgb", width=400, height=240, rate_hz=30)
    with (
        Unit(feed, live=LiveSettings(stall_timeout_s=0.5)) as unit,
        playing(feed, decoded(30, AMID_S), 30, ends=False),
    ):
        seen: list[str] = []
        for item in unit.watch():
            seen.append(item.state)
            if item.state == "backoff":
                unit.stop()
    assert seen.index("confirmed") < seen.index("stalled") < seen.index("closed") < seen.index("backoff")
    assert seen.count("closed") == 1


def test_a_unit_is_stopped_from_another_thread() -> None:
    feed = Feed("rgb", width=400, height=240, rate_hz=10)
    with Unit(feed) as unit:
        threading.Timer(0.5, unit.stop).start()
        before_s = time.monotonic()
        assert list(unit.scores()) == []
        assert 0.3 < time.monotonic() - before_s < 2.0


def test_a_handler_may_stop_a_unit_wherever_it_interrupts_it() -> None:
    """Handlers run between any two lines of the main thread: no lock may be held where it waits."""
    unit, waiting = Unit(Feed("rgb", width=64, height=48), rate_hz=0.1), threading.Event.wait.__code__

    def handler(frame: FrameType, event: str, _: object) -> Any:
        if event == "line" and frame.f_code is waiting and frame.f_locals["self"]._cond._lock.locked():
            unit.stop()
        return handler

    def loop() -> None:
        sys.settrace(handler)
        list(unit.scores())

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    threading.Timer(0.5, unit.stop).start()
    thread.join(timeout=5)
    assert not thread.is_alive()
    unit.close()


def test_what_a_live_source_has_not_shown_yet_is_not_told() -> None:
    with Unit(Feed("rgb", width=400, height=240)) as unit:
        assert unit.sources[0].state == "connecting"
        with pytest.raises(SourceError, match="no picture has come yet"):
            _ = unit.info
