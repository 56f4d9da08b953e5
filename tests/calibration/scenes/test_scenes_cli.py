"""`edge-sdk scenes` as users start it, on one small broad clip."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from command_line import last_json, sdk
from scene_needs import need_drawing, need_encoding


def scenes(*words: str) -> subprocess.CompletedProcess[str]:
    return sdk("scenes", *words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_drawing()
    need_encoding()
    out = tmp_path_factory.mktemp("broad")
    words = ["--family", "broad", "--first-seed", "37", "--count", "1", "--fps", "4", "--size", "160x96", "--jobs", "1"]
    assert last_json(scenes("render", str(out), *words, "--json"))["crashes"] == 1
    return out


def test_truths_of_a_broad_folder_come_from_its_records(folder: Path) -> None:
    found = last_json(scenes("truth", str(folder), "--json"))
    assert (found["scenes"], found["crashes"]) == (1, 1)
    line = json.loads((folder / "truths.jsonl").read_text())
    record = json.loads((folder / "broad_00000037.json").read_text())
    assert line == {"name": "broad_00000037", "truth": record["truth"]}


def test_a_sheet_names_its_rows(folder: Path, tmp_path: Path) -> None:
    found = last_json(scenes("sheet", str(folder), str(tmp_path / "sheet.png"), "--kind", "head_on", "--json"))
    assert found["rows"] == ["broad_00000037"]
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_a_sheet_shows_the_clips_that_are_named_also_of_a_table(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name in ("left", "right"):
        (own / f"{name}.mp4").write_bytes((folder / "broad_00000037.mp4").read_bytes())
    rows = ("clip,view,crash,crash_start_s,crash_end_s,group", "left.mp4,dashcam,no,,,a", "right.mp4,dashcam,no,,,b")
    (own / "labels.csv").write_text("\n".join(rows) + "\n")
    found = last_json(scenes("sheet", str(own), str(tmp_path / "sheet.png"), "--clip", "right", "--json"))
    assert found["rows"] == ["right"]
    missing = scenes("sheet", str(own), str(tmp_path / "sheet.png"), "--clip", "middle")
    assert missing.returncode == 2
    assert "no clip named 'middle'; it has 2 clips" in missing.stderr


def test_a_suite_has_its_own_seeds(tmp_path: Path) -> None:
    stray = scenes("render", str(tmp_path), "--suite", "--count", "3")
    assert stray.returncode == 2
    assert "--count would have no effect" in stray.stderr


def test_what_is_not_there_is_a_usage_error(folder: Path, tmp_path: Path) -> None:
    nothing = scenes("sheet", str(folder), str(tmp_path / "sheet.png"), "--kind", "debris")
    family = scenes("render", str(tmp_path), "--family", "wide", "--count", "1")
    assert (nothing.returncode, family.returncode) == (2, 2)
    assert "at least one clip" in nothing.stderr
    assert "known: broad, close, first, soft" in family.stderr
