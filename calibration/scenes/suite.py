"""The committed test suite: 200 seeds with quotas, disjoint from training seeds, chosen before any training.

The seeds are the first ones from `FIRST_SUITE_SEED` that fill the quotas; only the conditions drawn from a seed (view,
outcome, whether the ego car takes part) decide, so no scene was chosen for being easy or hard.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from edge_sdk.calibration.scenes import GENERATOR_VERSION
from edge_sdk.calibration.scenes.plan import Conditions, ScenePlan, draw_conditions, plan_scene
from edge_sdk.clips import Light, SceneKind, View, Weather
from edge_sdk.errors import ConfigError
from edge_sdk.files import write_text

FIRST_SUITE_SEED = 9_000_000
SUITE_PATH = Path(__file__).with_name("suite.json")

# Clips per view, outcome and role of the ego car: 80 crashes (58 of them without the ego car, 18 of those seen from a
# dashcam), 66 near misses, 54 normal drives; half of each from the roadside.
_QUOTAS: dict[tuple[str, str, bool | None], int] = {
    ("roadside", "crash", None): 40,
    ("dashcam", "crash", True): 22,
    ("dashcam", "crash", False): 18,
    ("roadside", "near_miss", None): 33,
    ("dashcam", "near_miss", None): 33,
    ("roadside", "normal", None): 27,
    ("dashcam", "normal", None): 27,
}


class SuiteScene(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One seed and what its physics gave when the suite was chosen."""

    seed: int
    view: View
    kind: SceneKind
    crash: bool
    ego_involved: bool
    light: Light
    weather: Weather


class Suite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The suite and the generator version whose scenes its labels describe."""

    generator: str
    scenes: tuple[SuiteScene, ...]


def read_suite(path: Path = SUITE_PATH, generator: str = GENERATOR_VERSION) -> Suite:
    """Read a suite; raise ConfigError when it is broken or belongs to another generator version."""
    try:
        suite = msgspec.json.decode(path.read_bytes(), type=Suite)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"scene suite {path}: {error}") from error
    if suite.generator != generator:
        raise ConfigError(f"scene suite {path}: field generator is {suite.generator!r}, this is {generator!r}")
    return suite


def suite_seeds() -> list[int]:
    """The seeds of the committed suite."""
    return [scene.seed for scene in read_suite().scenes]


def suite_size() -> int:
    """Number of scenes in the suite."""
    return sum(_QUOTAS.values())


def pick_seeds(first: int = FIRST_SUITE_SEED, suites: float = 1.0) -> list[int]:
    """The first seeds from `first` on that fill the quotas times `suites`, each rounded."""
    left, seeds, seed = Counter({cell: round(clips * suites) for cell, clips in _QUOTAS.items()}), [], first
    while left.total() > 0:
        cell = _cell(draw_conditions(seed))
        if left[cell] > 0:
            left[cell] -= 1
            seeds.append(seed)
        seed += 1
    return seeds


def _cell(conditions: Conditions) -> tuple[str, str, bool | None]:
    by_ego = conditions.view == "dashcam" and conditions.outcome == "crash"
    return conditions.view, conditions.outcome, conditions.ego_takes_part if by_ego else None


def suite_scene(plan: ScenePlan) -> SuiteScene:
    """The entry of the suite for a plan."""
    return SuiteScene(
        seed=plan.seed,
        view=plan.conditions.view,
        kind=plan.kind,
        crash=plan.times is not None,
        ego_involved=plan.ego_involved,
        light=plan.conditions.light,
        weather=plan.conditions.weather,
    )


def write_suite(path: Path = SUITE_PATH) -> Suite:
    """Choose and plan the suite, and write it; needed once per generator version."""
    suite = Suite(generator=GENERATOR_VERSION, scenes=tuple(suite_scene(plan_scene(seed)) for seed in pick_seeds()))
    save_suite(suite, path)
    return suite


def save_suite(suite: Suite, path: Path) -> None:
    """Write a suite."""
    # One line per scene, so that a change of the suite reads well in a diff.
    lines = ",\n".join("  " + msgspec.json.encode(scene).decode() for scene in suite.scenes)
    write_text(path, f'{{"generator": "{suite.generator}", "scenes": [\n{lines}\n]}}\n')
