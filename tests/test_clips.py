from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from scene_records import scene_record

from edge_sdk.clips import (
    LabelledClip,
    SceneRecord,
    check_within,
    read_folder,
    read_labels,
    read_record,
    read_scenes,
)
from edge_sdk.errors import ConfigError

RECORD = scene_record()
HEADER = "clip,view,crash,crash_start_s,crash_end_s,label_source,label_confidence,group,origin,licence\n"


def write_scene(folder: Path, record: SceneRecord = RECORD) -> Path:
    path = folder / f"{record.name}.json"
    path.write_bytes(msgspec.json.encode(record))
    path.with_suffix(".mp4").write_bytes(b"video")
    return path


def test_scenes_come_back_as_labelled_clips(tmp_path: Path) -> None:
    write_scene(tmp_path)
    (clip,) = read_scenes(tmp_path)
    assert (clip.view, clip.crash, clip.start_s, clip.end_s, clip.pre_crash_s) == ("roadside", True, 3.5, 6.0, 2.0)
    assert clip.record == RECORD
    assert clip.path.name == "scene_1.mp4"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "upside_down"}, "kind"),
        ({"seeds": 3}, "seeds"),
        ({"schema": 9}, "schema"),
        ({"crash_start_s": None}, "crash_start_s"),
    ],
)
def test_a_broken_record_names_file_and_field(change: dict[str, object], field: str, tmp_path: Path) -> None:
    path = write_scene(tmp_path)
    path.write_bytes(msgspec.json.encode({**msgspec.to_builtins(RECORD), **change}))
    with pytest.raises(ConfigError, match=rf"{path.name}.*{field}"):
        read_record(path)


def test_folders_without_scenes_or_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_scenes(tmp_path / "absent")
    with pytest.raises(ConfigError, match="no scene record"):
        read_scenes(tmp_path)
    write_scene(tmp_path).with_suffix(".mp4").unlink()
    with pytest.raises(ConfigError, match="no video"):
        read_scenes(tmp_path)


def test_label_tables_map_cctv_to_roadside(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(HEADER + "a.mp4,cctv,yes,1.5,2.5,s,high,g1,o,none\nb.mp4,dashcam,no,,,s,high,g2,o,none\n")
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    first, second = read_labels(table)
    assert (first.view, first.crash, first.start_s, first.end_s, first.group) == ("roadside", True, 1.5, 2.5, "g1")
    assert (second.view, second.crash, second.start_s, second.record) == ("dashcam", False, None, None)


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ("a.mp4,drone,yes,1.5,2.5,s,high,g,o,none", "view"),
        ("a.mp4,cctv,maybe,1.5,2.5,s,high,g,o,none", "crash"),
        ("a.mp4,cctv,yes,soon,2.5,s,high,g,o,none", "crash_start_s"),
        ("a.mp4,cctv,yes,,2.5,s,high,g,o,none", "crash_start_s"),
        ("a.mp4,cctv,yes,nan,2.5,s,high,g,o,none", "crash_start_s"),
        ("a.mp4,cctv,yes,-1.0,2.5,s,high,g,o,none", "crash_start_s"),
        ("a.mp4,cctv,yes,3.5,2.5,s,high,g,o,none", "crash_end_s"),
        ("a.mp4,cctv,no,1.5,,s,high,g,o,none", "crash is no"),
        ("a.mp4,cctv,no,,2.5,s,high,g,o,none", "crash is no"),
        ("b.mp4,cctv,yes,1.5,2.5,s,high,g,o,none", "clip"),
        ("../a.mp4,cctv,yes,1.5,2.5,s,high,g,o,none", "clip"),
        ("/dev/null,cctv,yes,1.5,2.5,s,high,g,o,none", "clip"),
        ("a.mp4,cctv,yes,1.5,2.5,s,high,,o,none", "group"),
    ],
)
def test_a_broken_row_names_line_and_field(row: str, field: str, tmp_path: Path) -> None:
    table = tmp_path / "deep" / "labels.csv"
    table.parent.mkdir()
    table.write_text(HEADER + row + "\n")
    for folder in (tmp_path, table.parent):
        (folder / "a.mp4").touch()
    with pytest.raises(ConfigError, match=rf"line 2.*{field}"):
        read_labels(table)


@pytest.mark.parametrize("other", ["cctv,no,,", "cctv,yes,4.0,", "cctv,yes,1.5,3.5", "dashcam,yes,1.5,"])
def test_two_labels_for_one_file_are_refused(other: str, tmp_path: Path) -> None:
    """Whoever repeats a clip under another group says the same of it."""
    (tmp_path / "a.mp4").touch()
    table = tmp_path / "labels.csv"
    rows = [f"a.mp4,{said},s,high,{group},o,none\n" for said, group in (("cctv,yes,1.5,", "g"), (other, "h"))]
    table.write_text(HEADER + "".join(rows))
    with pytest.raises(ConfigError, match=r"one label for a\.mp4, found two on lines 2 and 3"):
        read_labels(table)
    table.write_text(HEADER + rows[0] + rows[0].replace(",g,", ",h,"))
    assert [clip.group for clip in read_labels(table)] == ["g", "h"]


def test_a_crash_behind_the_end_of_its_clip_is_refused() -> None:
    clip = LabelledClip(
        path=Path("a.mp4"), view="roadside", crash=True, start_s=9.9, end_s=None, pre_crash_s=None, group="g"
    )
    check_within(clip, 9.0)
    check_within(replace(clip, crash=False, start_s=None), 0.0)
    with pytest.raises(ConfigError, match=r"found crash_start_s 126, but the last picture is at 9\.0 s"):
        check_within(replace(clip, start_s=126.0), 9.0)


def test_the_line_of_a_broken_row_is_the_file_s_own(tmp_path: Path) -> None:
    """Behind lines that are empty."""
    table = tmp_path / "labels.csv"
    table.write_text(HEADER + "\n\na.mp4,drone,yes,1.5,2.5,s,high,g,o,none\n")
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ConfigError, match=r"line 4.*view"):
        read_labels(table)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "no row"),
        ("clip,view,crash,crash_start_s,crash_end_s,group\n", "no row"),
        ("clip;view;crash;crash_start_s;crash_end_s;group\na.mp4;cctv;no;;;g\n", "clip;view;crash"),
        ("clip,view,crash,crash_start_s,group\na.mp4,cctv,no,,g\n", "crash_end_s is missing"),
    ],
)
def test_a_table_without_rows_or_columns_says_what_it_needs(text: str, found: str, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(text)
    with pytest.raises(ConfigError, match=rf"columns clip, view, .*, group, separated by commas, found .*{found}"):
        read_labels(table)


def test_a_folder_without_labels_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no labelled clips: expected labels\.csv with the columns clip, view"):
        read_folder(tmp_path)


def test_a_table_that_a_spreadsheet_wrote_is_read_or_refused_in_a_sentence(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    (tmp_path / "a.mp4").touch()
    row = HEADER + "a.mp4,cctv,yes,1.5,2.5,café,high,g,o,none\n"
    table.write_bytes(row.encode("utf-8-sig"))
    assert [clip.path.name for clip in read_labels(table)] == ["a.mp4"]
    table.write_bytes(row.encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_labels(table)
    table.write_text(HEADER + "a.mp4,cctv,yes,1.5\n")
    with pytest.raises(ConfigError, match=r"line 2.*crash_end_s"):
        read_labels(table)
