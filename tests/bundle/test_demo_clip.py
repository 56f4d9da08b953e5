"""A bundle's demo is another clip after `bundle demo`, and everything else is as it was."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from command_line import last_json, sdk
from scene_records import scene_record

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.demo_clip import with_demo
from edge_sdk.clips import read_record
from edge_sdk.errors import ConfigError


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "scene_1.mp4"
    path.write_bytes(b"video")
    path.with_suffix(".json").write_bytes(msgspec.json.encode(scene_record()))
    return path


def test_a_copy_shows_another_clip(folder: Path, clip: Path, tmp_path: Path) -> None:
    found = last_json(sdk("bundle", "demo", str(clip), str(tmp_path / "new"), "--bundle", str(folder), "--json"))
    old, new = Bundle.open(folder), Bundle.open(tmp_path / "new")
    assert found == {"bundle": str(tmp_path / "new"), "sha256": new.sha256, "clip": "scene_1.mp4"}
    assert new.manifest.demo is not None
    assert new.path(new.manifest.demo.video).read_bytes() == b"video"
    assert read_record(new.path(new.manifest.demo.record)) == scene_record()
    assert (new.manifest.graphs, new.manifest.student) == (old.manifest.graphs, old.manifest.student)
    assert old.path("notes.txt").read_bytes() == new.path("notes.txt").read_bytes()


def test_a_clip_without_its_record_makes_nothing(folder: Path, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a rendered clip"):
        with_demo(Bundle.open(folder), tmp_path / "nowhere.mp4", tmp_path / "new")
    record = json.loads(clip.with_suffix(".json").read_text())
    clip.with_suffix(".json").write_text(json.dumps(record | {"crash_start_s": None}))
    with pytest.raises(ConfigError, match="crash_start_s"):
        with_demo(Bundle.open(folder), clip, tmp_path / "new")
    assert not (tmp_path / "new").exists()
