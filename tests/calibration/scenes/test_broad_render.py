"""Broad scenes drawn for real: people fall, files freeze and are cut, records carry the truth, sheets show it."""

from __future__ import annotations

import dataclasses
import io
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scene_needs import need_drawing, need_encoding

from edge_sdk.calibration.scenes.broad_plan import plan_broad
from edge_sdk.calibration.scenes.effects import Tricks
from edge_sdk.calibration.scenes.film import shoot
from edge_sdk.calibration.scenes.plan import ScenePlan, plan_scene
from edge_sdk.calibration.scenes.render import render
from edge_sdk.calibration.scenes.sheet import TILE, png, write_sheet
from edge_sdk.clips import SceneTruth, read_scenes, read_truths
from edge_sdk.errors import ConfigError

SIZE = (160, 96)
# Seeds of this generator version: the ego car hits somebody on foot; cars meet head-on.
EGO_HITS_PEDESTRIAN, HEAD_ON, OTHER_SCENE = 9, 37, 4


@pytest.fixture(scope="module", autouse=True)
def _egl() -> None:
    need_drawing()


@pytest.fixture(scope="module")
def head_on() -> ScenePlan:
    return plan_broad(HEAD_ON)


def frames(plan: ScenePlan, count: int, fps: float = 10.0) -> np.ndarray:
    return np.array([shot.image for shot in islice(shoot(plan, fps, SIZE), count)])


def test_a_frozen_file_repeats_one_picture(head_on: ScenePlan) -> None:
    plan = dataclasses.replace(head_on, tricks=Tricks(effects=("freeze",), freeze_s=(0.2, 0.5)))
    shown = frames(plan, 6)
    assert all(np.array_equal(shown[2], shown[index]) for index in (3, 4))
    assert not np.array_equal(shown[4], shown[5])


def test_before_a_cut_another_scene_is_shown_and_no_boxes(head_on: ScenePlan) -> None:
    before = plan_scene(OTHER_SCENE)
    plan = dataclasses.replace(head_on, tricks=Tricks(effects=("cut",), cut_s=0.3), before=before)
    shots = list(islice(shoot(plan, 10.0, SIZE), 5))
    assert np.array_equal(np.array([shot.image for shot in shots[:3]]), frames(before, 3))
    assert not any(shot.boxes.any() for shot in shots[:3])
    assert {shot.boxes.shape for shot in shots} == {(len(head_on.cars), 6)}
    assert shots[4].boxes[:, 4].any()
    # By this a reader of boxes tells the two apart: an incident has its vehicles in every frame.
    assert all((shot.boxes[:, 5] >= 1).any() for shot in shots[3:])


def test_a_body_is_drawn_and_falls_when_it_is_hit() -> None:
    plan = plan_broad(EGO_HITS_PEDESTRIAN)
    assert plan.times is not None
    bare = dataclasses.replace(
        plan.track, pose=np.where(np.arange(plan.track.pose.shape[1])[:, None] == 1, -500.0, plan.track.pose)
    )
    until = int(plan.times.crash_start_s * 10) + 1
    with_body, without = (frames(dataclasses.replace(plan, track=track), until) for track in (plan.track, bare))
    assert np.abs(with_body[-1].astype(int) - without[-1]).max() > 60


def test_broad_clips_carry_their_truth_and_make_a_sheet(tmp_path: Path) -> None:
    need_encoding()
    (record,) = render([HEAD_ON], tmp_path, fps=5.0, size=SIZE, jobs=1, family="broad")
    assert (record.name, record.generator, record.kind) == ("broad_00000037", "3", "head_on")
    assert isinstance(record.truth, SceneTruth)
    assert record.truth.cause == "crossed_centre_line"
    assert read_truths(tmp_path) == {record.name: record.truth}
    write_sheet(read_scenes(tmp_path), tmp_path / "sheet.png", columns=3)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (3 * TILE[0], TILE[1])
        pixels = np.array(sheet)
    edges = [tuple(int(v) for v in pixels[0, (2 * column + 1) * TILE[0] // 2]) for column in range(3)]
    assert (220, 40, 40) in edges
    assert edges[0] != (220, 40, 40)
    assert pixels[10:-10, 10:-10].std() > 10


def test_a_picture_survives_png() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    assert np.array_equal(np.array(Image.open(io.BytesIO(png(image)))), image)


def test_a_sheet_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one clip"):
        write_sheet([], tmp_path / "sheet.png")
