"""Which clips a calibration takes: balanced, the same everywhere, and clear about what is missing."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_sdk.bundle import default_bundle
from edge_sdk.calibration.activation_clips import choose_clips
from edge_sdk.clips import read_record
from edge_sdk.errors import ConfigError

RECORD = read_record(next((default_bundle() / "demo").glob("*.json")))


def scene(folder: Path, name: str, *, crash: bool, light: str = "day", weather: str = "clear") -> None:
    folder.mkdir(exist_ok=True)
    times: dict[str, Any] = {} if crash else dict.fromkeys(("pre_crash_start_s", "crash_start_s", "crash_end_s"))
    kind = RECORD.kind if crash else "normal"
    changes = {"name": name, "crash": crash, "light": light, "weather": weather, "kind": kind} | times
    (folder / f"{name}.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(RECORD, **changes)))
    (folder / f"{name}.mp4").write_bytes(name.encode())


@pytest.fixture
def lopsided(tmp_path: Path) -> Path:
    """A hundred clips of clear days without a crash, and two of everything else."""
    for number in range(100):
        scene(tmp_path / "clips", f"day{number:03}", crash=False)
    for crash, light, weather in product((True, False), ("day", "dusk", "night"), ("clear", "rain", "fog")):
        for number in range(2):
            scene(tmp_path / "clips", f"{crash}-{light}-{weather}-{number}", crash=crash, light=light, weather=weather)
    return tmp_path / "clips"


def test_crashes_and_conditions_take_turns(lopsided: Path) -> None:
    chosen = choose_clips(lopsided, 18)
    assert Counter(clip.crash for clip in chosen) == {True: 9, False: 9}
    assert len({(clip.crash, clip.condition) for clip in chosen}) == 18
    assert all(clip.sha256 == hashlib.sha256(Path(clip.path).read_bytes()).hexdigest() for clip in chosen)


def test_the_list_is_the_same_in_another_folder_and_a_longer_one_begins_with_it(lopsided: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for path in sorted(lopsided.iterdir(), reverse=True):
        (tmp_path / "other" / path.name).write_bytes(path.read_bytes())
    first, other = choose_clips(lopsided, 20), choose_clips(tmp_path / "other", 40)
    assert [clip.sha256 for clip in first] == [clip.sha256 for clip in other[:20]]
    assert len(choose_clips(lopsided, 1000)) == len(list(lopsided.glob("*.mp4")))


def test_clips_without_records_are_taken_as_they_are_and_copies_once(tmp_path: Path) -> None:
    for name, text in (("a.mp4", "1"), ("b.MKV", "2"), ("copy.mp4", "1"), ("notes.txt", "3")):
        (tmp_path / name).write_text(text)
    chosen = choose_clips(tmp_path, 10)
    assert len(chosen) == 2
    assert {clip.crash for clip in chosen} == {None}


@pytest.mark.parametrize(
    ("crashes", "count", "asked", "reason"),
    [
        (0, 0, 8, "expected clips .* found none"),
        (1, 1, 8, "one clip alone"),
        (0, 3, 8, "no crash among 3 labelled clips"),
        (1, 3, 1, "at least 2 clips, 1 were asked for"),
    ],
)
def test_too_few_clips_are_one_clear_error(tmp_path: Path, crashes: int, count: int, asked: int, reason: str) -> None:
    (tmp_path / "clips").mkdir()
    for number in range(count):
        scene(tmp_path / "clips", f"scene{number}", crash=number < crashes)
    with pytest.raises(ConfigError, match=reason):
        choose_clips(tmp_path / "clips", asked)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a folder of clips"):
        choose_clips(tmp_path / "nowhere", 4)
