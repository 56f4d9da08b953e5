"""Recipes: the committed one loads, and a slip in one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.calibration.scenes.choice import choose_seeds
from edge_sdk.calibration.scenes.suite import suite_seeds
from edge_sdk.errors import ConfigError
from edge_sdk.export.distil import load_recipe

DEMO = Path(__file__).parents[2] / "export" / "recipes" / "student-demo.toml"


def test_the_demo_recipe_keeps_training_and_suites_apart() -> None:
    recipe, text = load_recipe("student-demo")
    assert text == DEMO.read_text()
    scenes = recipe.scenes
    assert scenes.further is not None
    chosen = [choose_seeds(seeds.first, seeds.count, seeds.of) for seeds in (scenes.training, scenes.validation)]
    chosen += [choose_seeds(scenes.further.first, scenes.further.count, scenes.further.of)]
    chosen += [[scenes.demo_seed], suite_seeds()]
    together = [seed for seeds in chosen for seed in seeds]
    assert len(set(together)) == len(together) == 1400 + 300 + 500 + 1 + 200
    assert (recipe.pictures.height, recipe.pictures.width, recipe.pictures.lags) == (192, 320, (1, 3))
    assert (recipe.stages[-1].height, recipe.stages[-1].width) == (192, 320)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('of = "others"', 'of = "others", family = "close"', "'close' are of"),
        ("count = 1400", "count = 0", "count of at least 1"),
        ("count = 1400", "count = -5", "count of at least 1"),
        ("first = 0", "first = -1", "first seed of at least 0"),
        ("frames = 64", "frames = 4", "frames of at least 5, found 4"),
        ("seed = 7", "seed = 7\nspeed = 9", "speed"),
        ("seed = 7", "", "seed"),
        ("seed = 7", 'seed = "seven"', "seed"),
        ("height = 192", "height = 190", "divide by 32"),
        ("planes = 3", "planes = 4", "planes"),
        ("[pictures]", "[pictures", "not TOML"),
        ("copies = 2", "copies = 0", "copies"),
        ("[late]", "[later]", "later"),
    ],
)
def test_a_slip_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(DEMO.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError, match=named):
        load_recipe(path)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="student-demo"):
        load_recipe("student-dreamt")
