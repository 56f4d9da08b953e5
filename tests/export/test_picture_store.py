"""The store of decoded pictures: several processes fill one, and what a cut file has lost is decoded again."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.export.picture_store import Picture, PictureStore

SHAPE = (4, 6)


def pictures(level: int, count: int, pause_s: float = 0.0) -> Iterator[tuple[float, Picture]]:
    """Pictures of one grey level, which come slowly, as decoded ones do."""
    for number in range(count):
        time.sleep(pause_s)
        yield number / 10, np.full(SHAPE, level, np.uint8)


def fill(folder: Path, levels: range) -> None:
    """What a run does: add clips one after the other, those of other runs among them."""
    store = PictureStore(folder, "all", SHAPE)
    for level in levels:
        store.add(f"clip {level}", pictures(level, 3 + level % 4, pause_s=0.002))


def add_two(folder: Path) -> None:
    """Clips of the levels 5 and 6, of three pictures each."""
    store = PictureStore(folder, "all", SHAPE)
    for level in (5, 6):
        store.add(f"clip {level}", pictures(level, 3))


def check(folder: Path, levels: range) -> None:
    store = PictureStore(folder, "all", SHAPE)
    every = store.pictures()
    for level in levels:
        entry = store.find(f"clip {level}")
        assert entry is not None
        assert len(entry.times_s) == 3 + level % 4
        assert (every[entry.first : entry.stop] == level).all()


def test_two_runs_in_one_folder_do_not_mix_their_pictures(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    runs = [spawn.Process(target=fill, args=(tmp_path, levels)) for levels in (range(40), range(20, 60))]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0]
    check(tmp_path, range(60))
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 60, "each clip is there once"


def test_a_store_that_is_open_finds_what_another_run_adds(tmp_path: Path) -> None:
    first, second = PictureStore(tmp_path, "all", SHAPE), PictureStore(tmp_path, "all", SHAPE)
    second.add("theirs", pictures(7, 5))
    assert first.find("theirs") is None
    entry = first.add("ours", pictures(9, 2))
    assert entry is not None
    assert entry.first == 5
    found = first.find("theirs")
    assert found is not None
    assert (first.pictures()[found.first : found.stop] == 7).all()


@pytest.mark.parametrize("lost", [1, 24, 60])
def test_clips_that_a_cut_file_no_longer_holds_are_decoded_again(lost: int, tmp_path: Path) -> None:
    add_two(tmp_path)
    frames = tmp_path / "all.u8"
    os.truncate(frames, frames.stat().st_size - lost)
    again = PictureStore(tmp_path, "all", SHAPE)
    assert again.find("clip 5") is not None
    assert again.find("clip 6") is None
    entry = again.add("clip 6", pictures(6, 3))
    assert entry is not None
    assert (again.pictures()[entry.first : entry.stop] == 6).all()


@pytest.mark.parametrize("left", [0, 30, 100])
def test_where_a_lost_clip_was_the_pictures_of_another_are_not_taken_for_its_own(left: int, tmp_path: Path) -> None:
    add_two(tmp_path)
    os.truncate(tmp_path / "all.u8", left)
    PictureStore(tmp_path, "all", SHAPE).add("clip 7", pictures(7, 9))
    again = PictureStore(tmp_path, "all", SHAPE)
    known = [level for level in (5, 6, 7) if again.find(f"clip {level}") is not None]
    assert known == ([5, 7] if left == 100 else [7])
    for level in known:
        entry = again.find(f"clip {level}")
        assert entry is not None
        assert (again.pictures()[entry.first : entry.stop] == level).all()


def test_nothing_is_kept_of_a_clip_that_fails_or_is_empty(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[float, Picture]]:
        yield from pictures(1, 2)
        raise OSError("the disk is gone")

    store = PictureStore(tmp_path, "all", SHAPE)
    with pytest.raises(OSError, match="gone"):
        store.add("broken", broken())
    assert store.add("empty", pictures(2, 0)) is None
    entry = store.add("whole", pictures(3, 4), lambda times_s: times_s[-1] + 0.1)
    assert entry is not None
    assert entry.first == 0
    assert entry.end_s == pytest.approx(0.4)
    again = PictureStore(tmp_path, "all", SHAPE)
    assert again.find("whole") == entry
    assert (again.pictures() == 3).all()
