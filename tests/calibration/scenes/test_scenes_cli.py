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


def test_what_is_not_there_is_a_usage_error(folder: Path, tmp_path: Path) -> None:
    nothing = scenes("sheet", str(folder), str(tmp_path / "sheet.png"), "--kind", "debris")
    family = scenes("render", str(tmp_path), "--family", "wide", "--count", "1")
    assert (nothing.returncode, family.returncode) == (2, 2)
    assert "at least one clip" in nothing.stderr
    assert "known: broad, close, first" in family.stderr
