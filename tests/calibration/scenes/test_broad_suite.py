"""The held-out scenes of the broad family: quotas, disjointness, and a sample recomputed from physics."""

from __future__ import annotations

import pytest

from edge_sdk.calibration.scenes import BROAD_VERSION
from edge_sdk.calibration.scenes.broad_plan import plan_broad
from edge_sdk.calibration.scenes.broad_suite import (
    BROAD_QUOTAS,
    BROAD_SUITE_PATH,
    FIRST_BROAD_SUITE_SEED,
    broad_suite_seeds,
    pick_broad_seeds,
)
from edge_sdk.calibration.scenes.suite import read_suite, suite_scene, suite_seeds

# Training clips of this family start here.
FIRST_TRAINING_SEED = 20_000_000


def test_quotas() -> None:
    scenes = read_suite(BROAD_SUITE_PATH, BROAD_VERSION).scenes
    crashes = [scene for scene in scenes if scene.crash]
    assert len(scenes) == sum(map(sum, BROAD_QUOTAS.values()))
    assert len(crashes) == sum(row[0] for row in BROAD_QUOTAS.values())
    assert sum(scene.kind == "near_miss" for scene in scenes) == sum(row[1] for row in BROAD_QUOTAS.values())
    for kind in ("head_on", "pedestrian", "cyclist", "loss_of_control", "debris", "rear_end", "side"):
        assert sum(scene.kind == kind for scene in crashes) >= 7
    assert sum(scene.light == "night" or scene.weather == "rain" for scene in scenes) >= 80
    assert 0.4 < sum(scene.view == "dashcam" for scene in scenes) / len(scenes) < 0.7


def test_seeds_are_the_first_that_fill_the_quotas_and_nobody_elses() -> None:
    seeds = broad_suite_seeds()
    assert seeds == pick_broad_seeds()
    assert min(seeds) >= FIRST_BROAD_SUITE_SEED
    assert max(seeds) < FIRST_TRAINING_SEED
    assert not set(seeds) & set(suite_seeds())


@pytest.mark.parametrize("index", [0, 71, 143, 214])
def test_recorded_classes_come_from_physics(index: int) -> None:
    pytest.importorskip("mujoco", reason="planned scenes need mujoco (extra: scenes)")
    scene = read_suite(BROAD_SUITE_PATH, BROAD_VERSION).scenes[index]
    assert suite_scene(plan_broad(scene.seed)) == scene
