"""The held-out scenes of the broad family, chosen before anybody trained on it: the first seeds that fill the quotas.

A quota is a number of scenes per scenario and outcome. Both are drawn from the seed before any traffic, so no scene was
chosen for being easy or hard. Seeds from `FIRST_BROAD_SUITE_SEED` on are for testing only.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edge_sdk.calibration.scenes import BROAD_VERSION
from edge_sdk.calibration.scenes.broad_plan import draw_broad_conditions, draw_scenario, plan_broad
from edge_sdk.calibration.scenes.suite import Suite, read_suite, save_suite, suite_scene

FIRST_BROAD_SUITE_SEED = 19_000_000
BROAD_SUITE_PATH = Path(__file__).with_name("broad_suite.json")

# For each scenario, the numbers of scenes with a crash, with a near miss, and with a mild outcome.
BROAD_QUOTAS: dict[str, tuple[int, int, int]] = {
    "wrong_lane": (9, 5, 2),
    "overtaking": (7, 4, 2),
    "step_out": (11, 7, 3),
    "zebra": (7, 4, 2),
    "cyclist_crossing": (9, 6, 2),
    "cyclist_ahead": (9, 6, 3),
    "skid": (7, 5, 2),
    "skid_parked": (7, 4, 2),
    "lost_load": (8, 5, 2),
    "lead_brake": (6, 3, 2),
    "stopped_queue": (3, 2, 1),
    "cut_in": (3, 2, 1),
    "lane_drift": (2, 1, 1),
    "pull_out": (2, 1, 1),
    "crossing": (5, 3, 1),
    "left_turn": (3, 2, 1),
    "cruise": (0, 0, 8),
    "lone_brake": (0, 0, 11),
    "passing": (0, 0, 10),
}
_OUTCOMES = ("crash", "near_miss", "normal")


def broad_suite_seeds() -> list[int]:
    """The seeds of the committed suite."""
    return [scene.seed for scene in read_suite(BROAD_SUITE_PATH, BROAD_VERSION).scenes]


def pick_broad_seeds() -> list[int]:
    """The first seeds that fill the quotas."""
    left = Counter(
        {
            (name, outcome): quota
            for name, row in BROAD_QUOTAS.items()
            for outcome, quota in zip(_OUTCOMES, row, strict=True)
        }
    )
    seeds, seed = [], FIRST_BROAD_SUITE_SEED
    while left.total() > 0:
        cell = draw_scenario(seed), draw_broad_conditions(seed).outcome
        if left[cell] > 0:
            left[cell] -= 1
            seeds.append(seed)
        seed += 1
    return seeds


def write_broad_suite(path: Path = BROAD_SUITE_PATH) -> Suite:
    """Choose and plan the suite, and write it; needed once per generator version."""
    suite = Suite(generator=BROAD_VERSION, scenes=tuple(suite_scene(plan_broad(seed)) for seed in pick_broad_seeds()))
    save_suite(suite, path)
    return suite
