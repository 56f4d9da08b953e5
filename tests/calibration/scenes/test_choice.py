"""Seeds of a kind: what a seed's conditions say, and nothing else, decides."""

from __future__ import annotations

from edge_sdk.calibration.scenes.choice import choose_seeds
from edge_sdk.calibration.scenes.plan import draw_conditions
from edge_sdk.calibration.scenes.suite import FIRST_SUITE_SEED, suite_seeds


def test_any_seeds_are_consecutive() -> None:
    assert choose_seeds(40, 5) == [40, 41, 42, 43, 44]


def test_the_suite_is_chosen_as_it_was() -> None:
    assert choose_seeds(FIRST_SUITE_SEED, 200, "suite") == suite_seeds()


def test_quotas_hold_for_more_clips_too() -> None:
    conditions = [draw_conditions(seed) for seed in choose_seeds(400_000, 300, "suite")]
    assert len(conditions) == 300
    assert sum(each.view == "roadside" for each in conditions) == 150
    assert sum(each.outcome == "crash" for each in conditions) == 120


def test_others_leave_out_what_the_camera_s_own_car_takes_part_in() -> None:
    chosen = choose_seeds(1400, 60, "others")
    assert len(chosen) == 60
    for seed in range(1400, chosen[-1] + 1):
        conditions = draw_conditions(seed)
        assert (seed in chosen) == (conditions.view == "roadside" or not conditions.ego_takes_part)
