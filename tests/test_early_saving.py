"""Events that are saved before they are closed, for a crash may cut the power: at once, and until there is more."""

from __future__ import annotations

import hashlib
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from pushing import moving_camera, until
from saved_files import event_of, pictures_in, saved_before, shown_s, told_in
from watched_events import event as made_up

from edge_sdk.capture import LiveSettings
from edge_sdk.cli.saving import EventSaver, Saving, with_ring
from edge_sdk.events import CrashTimeline, Event, EventClip, by_hand
from edge_sdk.saving import SaveSettings, clip_for
from edge_sdk.types import Estimate
from edge_sdk.unit import Unit

PICTURE = np.random.default_rng(3).integers(60, 120, (48, 64, 3)).astype(np.uint8)
SETTINGS = SaveSettings(pre_roll_s=1.0, post_roll_s=0.5)


@contextmanager
def watching(kept_s: float = 20.0) -> Iterator[Unit]:
    with moving_camera(PICTURE) as (feed, _), Unit(feed, live=LiveSettings(pre_roll_s=kept_s)) as unit:
        yield unit


def next_closed(unit: Unit) -> Event:
    return next(unit.events({"closed"}))


@pytest.mark.native
def test_a_confirmed_event_is_saved_at_once_and_replaced_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder may hold nothing, which costs older events, and never the one that is written."""
    monkeypatch.setattr(by_hand, "POST_S", 1.5)
    saved_before(tmp_path, 1, 0.1)
    with watching() as unit:
        confirmed = event_of(unit, 1.5, "confirmed")
        time.sleep(0.2)  # the camera's last unit before the trigger is collected
        begun_s = time.monotonic()
        early = unit.save(confirmed, tmp_path, SaveSettings(pre_roll_s=1.0, post_roll_s=60.0, limit_mb=0.001))
        assert time.monotonic() - begun_s < 5.0
        path = tmp_path / f"{early.id}.mp4"
        assert early.clip is not None
        assert told_in(tmp_path, early) == early == msgspec.structs.replace(confirmed, clip=early.clip)
        assert early.clip.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert early.clip.pre_s >= 1.0
        assert 0 <= early.clip.post_s < 1.0
        shown = shown_s(path)
        assert len(pictures_in(path)) == len(shown)
        assert shown[-1] == pytest.approx(early.clip.pre_s + early.clip.post_s, abs=0.002)
        closed = next_closed(unit)
        whole = unit.save(closed, tmp_path, msgspec.structs.replace(SETTINGS, limit_mb=0.001))
    assert sorted(tmp_path.iterdir()) == [path.with_suffix(".json"), path]
    assert whole.clip is not None
    assert told_in(tmp_path, whole) == whole == msgspec.structs.replace(closed, clip=whole.clip)
    assert whole.clip.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert whole.clip.start_s == early.clip.start_s
    assert whole.clip.post_s > 1.5
    assert len(pictures_in(path)) > len(shown)


@pytest.mark.native
def test_what_has_lost_the_crash_does_not_replace_what_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(by_hand, "POST_S", 4.0)
    complaints: list[str] = []
    with watching(1.0) as unit:
        settings = SaveSettings(pre_roll_s=0.5, post_roll_s=0.0)
        with EventSaver(unit, Saving(tmp_path, settings), complaints.extend) as saver:
            confirmed = event_of(unit, 1.0, "confirmed")
            saver.notice(confirmed)
            closed = next_closed(unit)
            early, data = told_in(tmp_path, closed), (tmp_path / f"{closed.id}.mp4").read_bytes()
            assert early.state == "confirmed"
            saver.notice(closed)
        again = unit.save(closed, tmp_path, settings)
        assert early.clip is not None
        # Also where it misses the first moment itself, as after a stall, and what is kept by now misses more.
        late = msgspec.structs.replace(early.clip, pre_s=-0.5)
        (tmp_path / f"{closed.id}.json").write_text(msgspec.structs.replace(closed, clip=late).to_json())
        assert unit.save(closed, tmp_path, settings).clip == late
        (tmp_path / f"{closed.id}.json").write_text(again.to_json())
    assert min(early.clip.pre_s - 0.5, early.clip.post_s) >= 0
    assert again == told_in(tmp_path, closed) == msgspec.structs.replace(closed, clip=early.clip)
    assert (tmp_path / f"{closed.id}.mp4").read_bytes() == data
    assert (saver.counts.saved, saver.counts.lost) == (1, 0)
    (said,) = [json.loads(line)["saved"] for line in capsys.readouterr().out.splitlines()]
    assert said["clip"] == msgspec.to_builtins(early.clip) | {"gaps_s": []}
    why = f"its clip ends {early.clip.post_s:.1f} s after the crash or trigger, because it was"
    assert said["reason"].startswith(why)
    assert complaints == [f"event {closed.id}: {said['reason']}"]


@contextmanager
def no_larger_files(than: int) -> Iterator[None]:
    """Inside, this process writes no file beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (than, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.native
def test_the_early_file_stays_when_the_whole_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_hand, "POST_S", 3.0)
    with watching() as unit:
        confirmed = event_of(unit, 1.0, "confirmed")
        time.sleep(0.2)
        early = unit.save(confirmed, tmp_path, SETTINGS)
        path = tmp_path / f"{early.id}.mp4"
        closed = next_closed(unit)
        with no_larger_files(path.stat().st_size + 100), pytest.raises(OSError, match="File too large"):
            unit.save(closed, tmp_path, SETTINGS)
    assert early.clip is not None
    assert told_in(tmp_path, closed) == msgspec.structs.replace(closed, clip=early.clip)
    assert early.clip.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.native
def test_what_cannot_be_written_early_is_not_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_hand, "POST_S", 1.0)
    complaints: list[str] = []
    settings = msgspec.structs.replace(SETTINGS, pre_roll_s=4.0)
    with watching() as unit, EventSaver(unit, Saving(tmp_path, settings), complaints.extend) as saver:
        with no_larger_files(3000):
            confirmed = event_of(unit, 4.0, "confirmed")
            saver.notice(confirmed)
            closed = next_closed(unit)
        assert told_in(tmp_path, closed) == confirmed
        saver.notice(closed)
    assert (saver.counts.saved, saver.counts.lost, complaints) == (1, 0, [])
    assert told_in(tmp_path, closed).clip is not None


@pytest.mark.native
def test_an_early_file_does_not_wait_behind_the_post_roll_of_another_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_hand, "POST_S", 0.5)
    settings = SaveSettings(pre_roll_s=0.5, post_roll_s=30.0)
    complaints: list[str] = []
    with watching(60.0) as unit, EventSaver(unit, Saving(tmp_path, settings), complaints.extend) as saver:
        first = event_of(unit, 1.0, "closed")
        saver.notice(first)
        second = event_of(unit, 0.5, "confirmed")
        saver.notice(second)
        until(lambda: (tmp_path / f"{second.id}.json").exists() and told_in(tmp_path, second).clip, 10.0)
        assert not (tmp_path / f"{first.id}.json").exists()
        saver.notice(next_closed(unit))
    assert (saver.counts.saved, saver.counts.lost) == (2, 0)
    assert {told_in(tmp_path, each).state for each in (first, second)} == {"closed"}


def test_an_early_clip_is_told_by_what_is_known_of_the_crash_since() -> None:
    clip = EventClip(uri="file:///clip.mp4", start_s=2.0, pre_s=3.0, post_s=1.0, gaps_s=(), sha256="0" * 64)
    early = msgspec.structs.replace(made_up("a" * 32, "confirmed"), clip=clip)
    later = CrashTimeline(crash_start=Estimate(t=0.25, lo=0.0, hi=1.0))
    found = clip_for(msgspec.structs.replace(early, state="closed", timeline=later, clip=None), early)
    assert found == msgspec.structs.replace(clip, pre_s=3.25, post_s=0.75)


@pytest.mark.native
def test_the_early_file_is_written_again_when_times_are_refined_for_the_first_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_hand, "POST_S", 6.0)
    with watching() as unit, EventSaver(unit, Saving(tmp_path, SETTINGS), list) as saver:
        confirmed = event_of(unit, 1.0, "confirmed")
        saver.notice(confirmed)
        until(lambda: (tmp_path / f"{confirmed.id}.json").exists() and told_in(tmp_path, confirmed).clip is not None)
        first = told_in(tmp_path, confirmed)
        time.sleep(0.7)
        refined = msgspec.structs.replace(confirmed, state="refined")
        saver.notice(refined)
        until(lambda: told_in(tmp_path, confirmed).state == "refined")
        second, data = told_in(tmp_path, confirmed), (tmp_path / f"{confirmed.id}.mp4").read_bytes()
        time.sleep(0.7)
        saver.notice(refined)
        time.sleep(0.7)
        assert told_in(tmp_path, confirmed) == second
    assert first.clip is not None
    assert second.clip is not None
    assert second.clip.post_s > first.clip.post_s + 0.5
    assert second.clip.sha256 == hashlib.sha256(data).hexdigest()


def test_a_ring_that_a_program_has_chosen_stays_unless_another_is_asked_for(tmp_path: Path) -> None:
    chosen = LiveSettings(ring_limit_mb=256.0)
    assert with_ring(chosen, Saving(tmp_path, SETTINGS)).ring_limit_mb == 256.0
    assert with_ring(chosen, Saving(tmp_path, SETTINGS, 100.0)).ring_limit_mb == 100.0
