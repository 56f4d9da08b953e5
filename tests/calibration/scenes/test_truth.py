"""Who hit whom, and why, against what the scripted drivers of known seeds do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scene_records import scene_record

from edge_sdk.calibration.scenes.plan import ScenePlan, plan_scene
from edge_sdk.calibration.scenes.truth import scene_truth, write_truths
from edge_sdk.clips import TRUTHS_NAME, SceneRecord, SceneTruth, read_truths
from edge_sdk.errors import ConfigError

# Seeds of generator 2: a near miss, and crashes seen from the roadside and from the car that makes them.
NEAR_MISS, TRUCK_CROSSING, CLOSE_FOLLOWER, LATE_FOLLOWER = 1, 18, 24, 4


@pytest.fixture(scope="module", autouse=True)
def _mujoco() -> None:
    pytest.importorskip("mujoco", reason="planned scenes need mujoco (extra: scenes)")


def record(plan: ScenePlan) -> SceneRecord:
    start_s = None if plan.times is None else round(plan.times.crash_start_s, 3)
    return scene_record(
        None,
        name=f"scene_{plan.seed:08d}",
        seed=plan.seed,
        view=plan.conditions.view,
        kind=plan.kind,
        scenario=plan.scenario,
        crash=start_s is not None,
        crash_start_s=start_s,
        ego_involved=plan.ego_involved,
        frames=60,
        duration_s=6.0,
    )


def test_a_near_miss_has_no_parties() -> None:
    assert scene_truth(plan_scene(NEAR_MISS)) == SceneTruth()


def test_the_truck_from_the_side_road_is_to_blame() -> None:
    plan = plan_scene(TRUCK_CROSSING)
    truth = scene_truth(plan)
    assert plan.cars[1].vehicle.kind == "truck"
    assert (truth.striker, truth.struck, truth.crossing) == ("truck", "car", True)
    assert (truth.cause, truth.culprit) == ("no_right_of_way", "truck")


@pytest.mark.parametrize(
    ("seed", "cause"), [(CLOSE_FOLLOWER, "following_too_closely"), (LATE_FOLLOWER, "late_reaction")]
)
def test_who_runs_into_the_car_ahead_struck_it(seed: int, cause: str) -> None:
    plan = plan_scene(seed)
    truth = scene_truth(plan)
    # The follower's nose lies behind the other's tail just before the contact, and it drives faster.
    before = max(int(plan.track.contacts[0].time_s / 0.02) - 1, 0)
    assert plan.track.pose[before, 0, 0] < plan.track.pose[before, 1, 0]
    assert plan.track.velocity[before, 0, 0] > plan.track.velocity[before, 1, 0]
    assert (truth.striker, truth.struck, truth.culprit) == ("ego-car", "car", "ego-car")
    assert truth.cause == cause
    start = int(np.argmax(plan.track.braking[:, 1] > 0))
    gap = plan.track.pose[start, 1, 0] - plan.track.pose[start, 0, 0]
    gap -= (plan.cars[0].vehicle.length_m + plan.cars[1].vehicle.length_m) / 2
    assert (gap / plan.track.velocity[start, 0, 0] < 0.7) == (cause == "following_too_closely")


def test_truths_are_written_beside_the_records_and_kept(tmp_path: Path) -> None:
    for seed in (NEAR_MISS, LATE_FOLLOWER):
        found = record(plan_scene(seed))
        (tmp_path / f"{found.name}.json").write_bytes(msgspec.json.encode(found))
    written = write_truths(tmp_path)
    assert written == read_truths(tmp_path)
    assert written["scene_00000001"] == SceneTruth()
    assert written["scene_00000004"].cause == "late_reaction"
    (tmp_path / "scene_00000004.json").write_bytes(
        (tmp_path / "scene_00000004.json").read_bytes().replace(b'"generator":"2"', b'"generator":"1"')
    )
    assert write_truths(tmp_path) == written
    (tmp_path / "truths.jsonl").unlink()
    with pytest.raises(ConfigError, match="generator '1'"):
        write_truths(tmp_path)


# Any: one field of a record, whatever its type.
@pytest.mark.parametrize(
    ("field", "value"), [("kind", "side"), ("scenario", "cut_in"), ("crash_start_s", 5.0), ("ego_involved", False)]
)
def test_a_crash_that_this_machine_plans_otherwise_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    drawn = record(plan_scene(LATE_FOLLOWER))
    assert getattr(drawn, field) != value
    path = tmp_path / f"{drawn.name}.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(drawn, **{field: value})))
    with pytest.raises(ConfigError, match=f"with {field} {value}, found {field} {getattr(drawn, field)};.*again"):
        write_truths(tmp_path)
    assert not (tmp_path / TRUTHS_NAME).exists()


def test_a_crash_that_is_none_on_this_machine_is_refused(tmp_path: Path) -> None:
    quiet = record(plan_scene(NEAR_MISS))
    path = tmp_path / f"{quiet.name}.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(quiet, kind="side", crash=True, crash_start_s=3.0)))
    with pytest.raises(ConfigError, match=r"kind side, crash_start_s 3\.0, found kind near_miss, crash_start_s None;"):
        write_truths(tmp_path)


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no scene record"):
        write_truths(tmp_path)
