"""The families of scenes: what a seed means in each, and the generator version that its records carry.

Families are added, never changed: clips that students learnt from, and suites that they are tested on, stay what they
are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_sdk.calibration.scenes import BROAD_VERSION, CLOSE_VERSION, GENERATOR_VERSION, SOFT_VERSION
from edge_sdk.calibration.scenes.broad_plan import plan_broad
from edge_sdk.calibration.scenes.broad_suite import broad_suite_seeds
from edge_sdk.calibration.scenes.close_plan import close_suite_seeds, plan_close
from edge_sdk.calibration.scenes.plan import ScenePlan, plan_scene
from edge_sdk.calibration.scenes.soft_plan import plan_soft, soft_suite_seeds
from edge_sdk.calibration.scenes.suite import suite_seeds
from edge_sdk.errors import UnknownNameError


@dataclass(frozen=True)
class Family:
    """A name, the generator version of its records, the first word of its clips' names, its planner and its test seeds.

    `with_truth`: whether its records say who hit whom and why; for other families `truths.jsonl` beside them does.
    """

    name: str
    generator: str
    clip: str
    plan: Callable[[int], ScenePlan]
    suite: Callable[[], list[int]]
    with_truth: bool

    def clip_name(self, seed: int) -> str:
        """File name, without suffix, of a seed's clip."""
        return f"{self.clip}_{seed:08d}"


FAMILIES: tuple[Family, ...] = (
    Family("first", GENERATOR_VERSION, "scene", plan_scene, suite_seeds, with_truth=False),
    Family("broad", BROAD_VERSION, "broad", plan_broad, broad_suite_seeds, with_truth=True),
    Family("close", CLOSE_VERSION, "close", plan_close, close_suite_seeds, with_truth=True),
    Family("soft", SOFT_VERSION, "soft", plan_soft, soft_suite_seeds, with_truth=True),
)
DEFAULT_FAMILY = FAMILIES[0].name


def find_family(name: str) -> Family:
    """The family called `name`. Raises `UnknownNameError`."""
    for family in FAMILIES:
        if family.name == name:
            return family
    raise UnknownNameError("family of scenes", name, [family.name for family in FAMILIES])
