"""The committed suite: quotas, disjointness, and a sample recomputed from physics."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.calibration.scenes.plan import plan_scene
from edge_sdk.calibration.scenes.suite import FIRST_SUITE_SEED, pick_seeds, read_suite, suite_scene
from edge_sdk.errors import ConfigError


def test_quotas() -> None:
    scenes = read_suite().scenes
    crashes = [scene for scene in scenes if scene.crash]
    third_party = [scene for scene in crashes if scene.view == "dashcam" and not scene.ego_involved]
    assert len(scenes) == len({scene.seed for scene in scenes}) == 200
    assert sum(scene.view == "roadside" for scene in scenes) == 100
    assert len(crashes) == 80
    assert sum(scene.kind == "near_miss" for scene in scenes) >= 60
    assert sum(not scene.ego_involved for scene in crashes) >= 40
    assert len(third_party) >= len(crashes) / 5
    assert sum(scene.light == "night" or scene.weather == "rain" for scene in scenes) >= 50
    assert {scene.kind for scene in crashes} == {"rear_end", "side"}


def test_seeds_are_the_first_that_fill_the_quotas() -> None:
    seeds = [scene.seed for scene in read_suite().scenes]
    assert seeds == pick_seeds()
    assert min(seeds) >= FIRST_SUITE_SEED


@pytest.mark.parametrize("index", [0, 41, 97, 150, 199])
def test_recorded_classes_come_from_physics(index: int) -> None:
    pytest.importorskip("mujoco", reason="rendered scenes need mujoco (extra: scenes)")
    scene = read_suite().scenes[index]
    assert suite_scene(plan_scene(scene.seed)) == scene


def test_a_suite_of_another_generator_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "suite.json"
    path.write_text('{"generator": "0", "scenes": []}')
    with pytest.raises(ConfigError, match="generator"):
        read_suite(path)
