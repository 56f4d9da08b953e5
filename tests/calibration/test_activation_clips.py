"""Which clips a calibration takes: balanced, the same everywhere, and clear about what is missing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("torch", reason="torch is not installed")

from edge_sdk.bundle import default_bundle
from edge_sdk.calibration.activation_clips import ChosenClip, choose_clips
from edge_sdk.clips import read_record
from edge_sdk.errors import ConfigError
from edge_sdk.export.quantise.calibrate import probe_count, probe_numbers
from edge_sdk.export.quantise.statistics import Clip

RECORD = read_record(next((default_bundle() / "demo").glob("*.json")))


CRASH, VIEW, LIGHT, WEATHER = (True, False), ("dashcam", "roadside"), ("day", "dusk", "night"), ("clear", "rain", "fog")


def scene(
    folder: Path,
    name: str,
    *,
    crash: bool,
    view: str = "roadside",
    light: str = "day",
    weather: str = "clear",
    content: str | None = None,
) -> None:
    """Write a scene's record, and beside it a file with `content`, its name unless given."""
    folder.mkdir(exist_ok=True)
    times: dict[str, Any] = {} if crash else dict.fromkeys(("pre_crash_start_s", "crash_start_s", "crash_end_s"))
    kind = RECORD.kind if crash else "normal"
    changes = {"name": name, "crash": crash, "view": view, "light": light, "weather": weather, "kind": kind} | times
    (folder / f"{name}.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(RECORD, **changes)))
    (folder / f"{name}.mp4").write_text(content or name)


def scenes(folder: Path, lights: tuple[str, ...], weathers: tuple[str, ...], each: int = 3) -> Path:
    """So many of `each` crash or none, view, light and weather."""
    for number, *attributes in product(range(each), CRASH, VIEW, lights, weathers):
        crash, view, light, weather = attributes
        name = "-".join(map(str, (*attributes, number)))
        scene(folder, name, crash=crash, view=view, light=light, weather=weather)
    return folder


def told(clip: ChosenClip) -> tuple[Any, ...]:
    """Crash or none, view, light and weather of a clip."""
    return (clip.crash, *clip.condition.split())


def unevenness(clips: Iterable[ChosenClip], attributes: Sequence[Sequence[Any]]) -> int:
    """How much more often the most frequent value of an attribute comes than the least, in the worst attribute."""
    columns = zip(*map(told, clips), strict=True)
    counts = [[column.count(value) for value in values] for column, values in zip(columns, attributes, strict=True)]
    return max(max(each) - min(each) for each in counts)


@pytest.fixture
def lopsided(tmp_path: Path) -> Path:
    """A hundred clips of clear days without a crash, and two of everything else."""
    for number in range(100):
        scene(tmp_path / "clips", f"day{number:03}", crash=False)
    for crash, light, weather in product((True, False), ("day", "dusk", "night"), ("clear", "rain", "fog")):
        for number in range(2):
            scene(tmp_path / "clips", f"{crash}-{light}-{weather}-{number}", crash=crash, light=light, weather=weather)
    return tmp_path / "clips"


@pytest.mark.parametrize(
    ("lights", "weathers"), [(LIGHT, WEATHER), (LIGHT[:2], WEATHER[:2])], ids=["all-light", "close"]
)
def test_every_beginning_of_the_list_is_even_in_each_attribute(
    tmp_path: Path, lights: tuple[str, ...], weathers: tuple[str, ...]
) -> None:
    chosen = choose_clips(scenes(tmp_path / "clips", lights, weathers, 5), 64)
    attributes = (CRASH, VIEW, lights, weathers)
    assert [unevenness(chosen[:count], attributes) for count in range(2, 65)] == [*map(least(attributes), range(2, 65))]
    # Views are not told apart by what happens: both show crashes and clips without one, as often.
    assert set(Counter(told(clip)[:2] for clip in chosen).values()) == {16}


def least(attributes: Sequence[Sequence[Any]]) -> Callable[[int], int]:
    """The unevenness that so many clips cannot be without."""
    return lambda count: int(any(count % len(values) for values in attributes))


@pytest.mark.parametrize("count", [8, 16, 24, 32, 64])
@pytest.mark.parametrize(
    ("lights", "weathers"), [(LIGHT, WEATHER), (LIGHT[:2], WEATHER[:2])], ids=["all-light", "close"]
)
def test_clips_that_are_kept_out_are_even_too(
    tmp_path: Path, lights: tuple[str, ...], weathers: tuple[str, ...], count: int
) -> None:
    chosen = choose_clips(scenes(tmp_path / "clips", lights, weathers, 5), count)
    clips = [Clip(name=each.path, sha256=each.sha256, crash=each.crash, condition=each.condition) for each in chosen]
    numbers = probe_numbers(clips)
    probes = [chosen[number] for number in numbers]
    assert len(set(numbers)) == probe_count(count)
    assert {clip.crash for clip in probes} == {True, False}
    assert {told(clip)[1] for clip in probes} == set(VIEW)
    assert unevenness(probes, (CRASH, VIEW, lights, weathers)) <= 1


def test_few_of_a_kind_are_taken_before_many_of_another(lopsided: Path) -> None:
    chosen = choose_clips(lopsided, 18)
    assert Counter(clip.crash for clip in chosen) == {True: 9, False: 9}
    assert unevenness(chosen, (CRASH, VIEW[1:], LIGHT, WEATHER)) == 0
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
        (1, 1, 8, "expected at least 2 clips, found 1"),
        (0, 3, 8, "at least 1 crash, found none among 3 labelled clips"),
        (1, 3, 1, "at least 2 clips, found --count 1"),
    ],
)
def test_too_few_clips_are_one_clear_error(tmp_path: Path, crashes: int, count: int, asked: int, reason: str) -> None:
    (tmp_path / "clips").mkdir()
    for number in range(count):
        scene(tmp_path / "clips", f"scene{number}", crash=number < crashes)
    with pytest.raises(ConfigError, match=reason):
        choose_clips(tmp_path / "clips", asked)


@pytest.mark.parametrize("labelled", [True, False])
def test_copies_do_not_count(tmp_path: Path, labelled: bool) -> None:
    for name in ("a", "b", "c"):
        scene(tmp_path / "clips", name, crash=True, content="one clip")
        if not labelled:
            (tmp_path / "clips" / f"{name}.json").unlink()
    with pytest.raises(ConfigError, match="expected at least 2 clips, found 1"):
        choose_clips(tmp_path / "clips", 8)


def test_copies_of_different_labels_are_named(tmp_path: Path) -> None:
    scene(tmp_path / "clips", "hit", crash=True, content="one clip")
    scene(tmp_path / "clips", "quiet", crash=False, content="one clip")
    scene(tmp_path / "clips", "other", crash=False)
    with pytest.raises(ConfigError, match=r"hit.mp4 and quiet.mp4 are copies .* correct the label"):
        choose_clips(tmp_path / "clips", 8)


def table(folder: Path, rows: Iterable[tuple[str, str, str]]) -> Path:
    """A folder of clips with a table of their labels: name, view, crash."""
    folder.mkdir()
    lines = ["clip,view,crash,crash_start_s,crash_end_s,group"]
    for name, view, crash in rows:
        (folder / name).write_text(name)
        lines.append(f"{name},{view},{crash},{'1.0' if crash == 'yes' else ''},,{name}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_clips_of_a_table_are_balanced_by_crash_and_view(tmp_path: Path) -> None:
    many = [(f"calm{number}.mp4", "dashcam", "no") for number in range(30)]
    few = [
        (f"{view}-{crash}{n}.mp4", view, crash) for view in ("cctv", "dashcam") for crash in ("yes", "no") for n in "12"
    ]
    folder = table(tmp_path / "clips", [*many, *few])
    (folder / "not-in-the-table.mp4").write_text("x")
    chosen = choose_clips(folder, 8)
    assert Counter((clip.crash, clip.condition) for clip in chosen) == dict.fromkeys(product(CRASH, VIEW), 2)


def test_a_table_without_a_crash_is_refused_and_a_broken_one_named(tmp_path: Path) -> None:
    folder = table(tmp_path / "clips", [(f"{number}.mp4", "dashcam", "no") for number in range(3)])
    with pytest.raises(ConfigError, match="at least 1 crash, found none among 3 labelled clips"):
        choose_clips(folder, 8)
    (folder / "labels.csv").write_text("clip,view,crash,crash_start_s,crash_end_s,group\n0.mp4,above,no,,,g\n")
    with pytest.raises(ConfigError, match=r"labels.csv, line 2: field view is 'above'"):
        choose_clips(folder, 8)


def test_a_table_without_rows_is_no_folder_without_labels(tmp_path: Path) -> None:
    folder = table(tmp_path / "clips", [])
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_text(name)
    with pytest.raises(ConfigError, match=r"labels.csv: expected rows with the columns clip, .* found no row"):
        choose_clips(folder, 8)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a folder of clips"):
        choose_clips(tmp_path / "nowhere", 4)
