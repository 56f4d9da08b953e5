"""Revisions of an event that are saved in any order, by any thread: the last one is what stays on the disk."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from pushing import moving_camera
from saved_files import event_of, told_in

from edge_sdk.capture import LiveSettings
from edge_sdk.events import Event, by_hand
from edge_sdk.saving import SaveSettings
from edge_sdk.unit import Unit

PICTURE = np.random.default_rng(3).integers(60, 120, (48, 64, 3)).astype(np.uint8)
SETTINGS = SaveSettings(pre_roll_s=0.5, post_roll_s=0.0, limit_mb=10.0)


@contextmanager
def crash(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Unit, Event, Event]]:
    """A unit that still watches, and two revisions of its event: the confirmed one and the closed one."""
    monkeypatch.setattr(by_hand, "POST_S", 0.5)
    with moving_camera(PICTURE) as (feed, _), Unit(feed, live=LiveSettings(pre_roll_s=20.0)) as unit:
        closed = event_of(unit, 1.0, "closed")
        yield unit, msgspec.structs.replace(closed, state="confirmed", revision=closed.revision - 1), closed


@pytest.mark.native
def test_an_earlier_revision_does_not_replace_a_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with crash(monkeypatch) as (unit, confirmed, closed):
        early = unit.save(confirmed, tmp_path, SETTINGS)
        assert (early.state, told_in(tmp_path, closed)) == ("confirmed", early)
        last = unit.save(closed, tmp_path, SETTINGS)
        assert (last.state, told_in(tmp_path, closed)) == ("closed", last)
        data = (tmp_path / f"{closed.id}.mp4").read_bytes()
        assert unit.save(confirmed, tmp_path, SETTINGS) == last
    assert told_in(tmp_path, closed) == last
    assert (tmp_path / f"{closed.id}.mp4").read_bytes() == data
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.native
def test_what_cannot_be_read_is_replaced_by_any_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with crash(monkeypatch) as (unit, confirmed, closed):
        (tmp_path / f"{closed.id}.json").write_text('{"revision": 99')
        saved = unit.save(confirmed, tmp_path, SETTINGS)
    assert (saved.state, told_in(tmp_path, closed)) == ("confirmed", saved)


@pytest.mark.native
def test_threads_that_save_at_once_leave_the_last_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder gets eight revisions at the same moment, under two names of the folder, in every rotation."""
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    with crash(monkeypatch) as (unit, confirmed, _), ThreadPoolExecutor(8) as threads:
        revisions = [msgspec.structs.replace(confirmed, revision=number) for number in range(1, 9)]
        for turn in range(8):
            start = threading.Barrier(8)
            names = itertools.cycle([tmp_path / f"{turn}", tmp_path / "link" / f"{turn}"])

            def save(event: Event, folder: Path, start: threading.Barrier = start) -> Event:
                start.wait(10.0)
                return unit.save(event, folder, SETTINGS)

            saved = list(threads.map(save, revisions[turn:] + revisions[:turn], names))
            on_disk = told_in(tmp_path / f"{turn}", confirmed)
            assert on_disk.revision == 8
            assert on_disk in saved
            asked = [event.revision for event in revisions[turn:] + revisions[:turn]]
            assert all(each.revision >= number for each, number in zip(saved, asked, strict=True))
