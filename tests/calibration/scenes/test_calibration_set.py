"""The committed calibration set: even in every condition, disjoint from tests, and a sample planned anew."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from command_line import sdk
from scene_needs import need_drawing, need_encoding
from scene_records import CRASH_S, scene_record

from edge_sdk.calibration.activation_clips import choose_clips
from edge_sdk.calibration.scenes import calibration_set
from edge_sdk.calibration.scenes.broad_suite import broad_suite_seeds
from edge_sdk.calibration.scenes.calibration_set import (
    SET_PATH,
    CalibrationScene,
    calibration_scene,
    compare,
    pick_calibration_seeds,
    read_calibration_set,
)
from edge_sdk.calibration.scenes.close_plan import close_suite_seeds
from edge_sdk.calibration.scenes.render import Job, expected_record
from edge_sdk.calibration.scenes.suite import suite_seeds
from edge_sdk.clips import SceneRecord
from edge_sdk.errors import ConfigError

VALUES = {"crash": 2, "view": 2, "light": 3, "weather": 3}


def unevenness(scenes: list[CalibrationScene]) -> dict[str, int]:
    """By attribute, how much more often its most frequent value comes than the least frequent."""
    found: dict[str, int] = {}
    for attribute, values in VALUES.items():
        counts = Counter(getattr(scene, attribute) for scene in scenes)
        assert len(counts) == values
        found[attribute] = max(counts.values()) - min(counts.values())
    return found


def test_the_set_is_even_and_nobody_elses() -> None:
    scenes = list(read_calibration_set().scenes)
    assert len(scenes) == 64
    assert unevenness(scenes) == {"crash": 0, "view": 0, "light": 1, "weather": 1}
    assert set(Counter((scene.crash, scene.view) for scene in scenes).values()) == {16}
    seeds = [scene.seed for scene in scenes]
    assert seeds == pick_calibration_seeds()
    assert not set(seeds) & {*suite_seeds(), *broad_suite_seeds(), *close_suite_seeds()}


@pytest.mark.parametrize("count", [16, 32, 64])
def test_calibrations_on_fewer_clips_of_the_set_are_even_too(tmp_path: Path, count: int) -> None:
    by_name: dict[str, CalibrationScene] = {}
    for scene in read_calibration_set().scenes:
        record = fake_record(scene)
        by_name[record.name] = scene
        (tmp_path / f"{record.name}.json").write_bytes(msgspec.json.encode(record))
        (tmp_path / f"{record.name}.mp4").write_text(record.name)
    chosen = [by_name[Path(clip.path).stem] for clip in choose_clips(tmp_path, count)]
    assert len(chosen) == count
    assert max(unevenness(chosen).values()) <= 1


def fake_record(scene: CalibrationScene) -> SceneRecord:
    told = {"view": scene.view, "light": scene.light, "weather": scene.weather, "seed": scene.seed}
    return scene_record(CRASH_S if scene.crash else None, name=f"scene_{scene.seed:08}", **told)


@pytest.mark.parametrize("index", [0, 21, 63])
def test_committed_hashes_are_of_what_is_planned(tmp_path: Path, index: int) -> None:
    pytest.importorskip("mujoco", reason="planned scenes need mujoco (extra: scenes)")
    found = read_calibration_set()
    job = Job(found.scenes[index].seed, tmp_path, found.fps, (found.width, found.height), found.family)
    assert calibration_scene(expected_record(job)) == found.scenes[index]


def test_what_is_rendered_has_the_records_that_were_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_drawing()
    need_encoding()
    planned = calibration_scene(expected_record(Job(4, tmp_path, 4.0, (160, 96))))
    small = msgspec.structs.replace(read_calibration_set(), fps=4.0, width=160, height=96, scenes=(planned,))
    monkeypatch.setattr(calibration_set, "read_calibration_set", lambda: small)
    made = calibration_set.render_calibration_set(tmp_path / "out", jobs=1)
    assert made.changed == ()
    assert made.records_sha256 == hashlib.sha256(planned.record_sha256.encode()).hexdigest()
    assert (tmp_path / "out/scene_00000004.mp4").is_file()


def test_a_record_that_is_another_is_named() -> None:
    expected = read_calibration_set()
    records = [fake_record(scene) for scene in expected.scenes]
    fakes = msgspec.structs.replace(expected, scenes=tuple(map(calibration_scene, records)))
    same = compare(fakes, records)
    later = msgspec.structs.replace(records[5], crash_end_s=6.5)
    other = compare(fakes, [*records[:5], later, *records[6:]])
    assert same.changed == ()
    assert other.changed == (later.name,)
    assert other.records_sha256 != same.records_sha256


def test_a_set_of_another_generator_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_bytes(SET_PATH.read_bytes().replace(b'"generator": "2"', b'"generator": "1"'))
    with pytest.raises(ConfigError, match="generator is '1', this is '2'"):
        read_calibration_set(path)


def test_the_command_takes_nothing_that_would_make_it_another_set(tmp_path: Path) -> None:
    said = sdk("scenes", "render", str(tmp_path / "out"), "--calibration-set", "--count", "3", "--size", "64x64")
    assert said.returncode == 2
    assert "--count, --size would have no effect" in said.stderr
    assert not (tmp_path / "out").exists()
