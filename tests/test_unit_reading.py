"""Readers of a unit that are left in the middle: the next one goes on there, and no two read at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from demo_pictures import CLIP, broken_off
from pushing import until

from edge_sdk.capture import Feed, SourceChange
from edge_sdk.errors import ConfigError, RuntimeFailure, SourceError
from edge_sdk.events import Event
from edge_sdk.unit import Step, Unit

T = TypeVar("T")
SHORT = "test://gradient?duration=1&width=320&height=192&rate=10"
LONGER = "test://ball?duration=2&width=320&height=192&rate=10"
CALM = "test://gradient?duration=8&width=320&height=192&rate=30"


def one_by_one(read: Callable[[], Iterator[T]]) -> Iterator[T]:
    """What a unit gives to readers of whom each takes one thing and leaves."""
    while True:
        reader = read()
        try:
            yield next(reader)
        except StopIteration:
            return
        finally:
            reader.close()  # type: ignore[attr-defined]


def place(step: Step) -> tuple[int, int, float]:
    return step.stream, step.frame.sequence, round(step.scores.crash, 5)


def news(item: Event | SourceChange) -> tuple[str, int]:
    return item.state, item.revision if isinstance(item, Event) else 0


def test_the_frames_of_a_round_are_all_given_though_its_reader_leaves() -> None:
    with Unit([SHORT, LONGER]) as unit:
        whole = [place(step) for step in unit.steps()]
    with Unit([SHORT, LONGER]) as unit:
        assert [place(step) for step in one_by_one(unit.steps)] == whole
    assert {stream for stream, *_ in whole} == {0, 1}


def test_revisions_and_changes_are_all_given_though_each_reader_takes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two crashes side by side, and a file that fails between two frames."""
    found: list[list[tuple[str, int]]] = []
    for readers in (lambda unit: unit.watch(), lambda unit: one_by_one(unit.watch)):
        with Unit([CLIP, LONGER, CLIP]) as unit:
            source = unit.streams[1].feeder._source  # type: ignore[attr-defined]
            pull, left = source._player.pull, iter(range(5))

            def fail_later(timeout_s: float, pull: object = pull, left: Iterator[int] = left) -> object:
                if next(left, None) is None:
                    raise SourceError("the storage hangs")
                return pull(timeout_s)  # type: ignore[operator]

            monkeypatch.setattr(source._player, "pull", fail_later)
            found.append([news(item) for item in readers(unit)])
    assert found[0] == found[1]
    assert found[0].count(("provisional", 1)) == 2
    assert [state for state, _ in found[0]].count("closed") == 2


def confirmed_at() -> int:
    """The number of the frame that confirms the demo's event."""
    with Unit(CLIP) as unit:
        return next(
            step.frame.sequence for step in unit.steps() if "confirmed" in [event.state for event in step.events]
        )


def test_what_was_found_and_not_read_comes_with_the_last_revisions() -> None:
    """The reader is left between the calm source's frame and that of the crash, in one round."""
    at = confirmed_at()
    with Unit([CALM, CLIP]) as unit:
        next(step for step in unit.steps() if step.stream == 0 and step.frame.sequence == at)
        assert [event.state for event in unit.finish()][-2:] == ["confirmed", "closed"]
        assert unit.finish() == ()


def test_what_steps_have_held_is_read_as_an_event(tmp_path: Path) -> None:
    with Unit([broken_off(tmp_path), CALM]) as unit:
        last = next(step for step in unit.steps() if step.stream == 1 and step.frame.time_s > 6.5)
        assert last.events == ()
        assert [event.state for event in unit.events()] == ["closed"]


def test_a_reader_that_goes_on_has_at_once_what_another_has_held(tmp_path: Path) -> None:
    """A camera never ends: what `steps` kept for a step that did not come would not be told before `stop`."""
    with Unit([broken_off(tmp_path), CALM]) as unit:
        first = unit.watch()
        for _ in range(2):
            next(first)
        next(step for step in unit.steps() if step.stream == 1 and step.frame.time_s > 6.5)
        told = next(first)
        assert isinstance(told, Event)
        assert told.state == "closed"
        assert any(stream.open for stream in unit.streams), "the calm source goes on"


def test_an_error_waits_for_the_reader_who_has_read_what_it_left(monkeypatch: pytest.MonkeyPatch) -> None:
    at = confirmed_at()
    with Unit(CLIP) as unit:
        step, left = unit._recogniser.step, iter(range(at + 3))

        def fails() -> object:
            if next(left, None) is None:
                raise RuntimeFailure("lost its device")
            return step()

        monkeypatch.setattr(unit._recogniser, "step", fails)
        states = []
        with pytest.raises(RuntimeFailure, match="lost its device"):
            states.extend(event.state for event in one_by_one(unit.watch))
    assert states == ["provisional", "confirmed", "closed"]


def test_a_second_reader_at_the_same_time_is_refused_and_the_first_goes_on() -> None:
    frames: list[object] = []
    with Unit(Feed("rgb", width=64, height=48), rate_hz=0.1) as unit:
        reader = threading.Thread(target=lambda: frames.extend(unit.frames()))
        reader.start()
        until(unit._reading._lock.locked)
        with pytest.raises(ConfigError, match="one reader of a unit at a time, found another one"):
            next(unit.steps())
        assert reader.is_alive()
        unit.stop()
        reader.join(timeout=20)
        assert not reader.is_alive()
        assert list(unit.frames()) == frames == []
