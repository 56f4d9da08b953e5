"""Recipes: the committed one loads, and a slip in one is named."""

from __future__ import annotations

import re
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
        ("height = 192", "height = 190", "multiples of 32"),
        ("planes = 3", "planes = 4", "planes"),
        ("[pictures]", "[pictures", "not TOML"),
        ("copies = 2", "copies = 0", "copies"),
        ("[late]", "[later]", "later"),
        ("learning_rate = 0.003", "learning_rate = nan", r"optimiser\.learning_rate must be above 0, found nan"),
        ("average = 0.995", "average = 1.5", r"optimiser\.average must be at least 0 and below 1, found 1\.5"),
        ("heat_sigma_s = 0.2", "heat_sigma_s = 0", r"targets\.heat_sigma_s must be above 0"),
        ("splice_share = 0.25", "splice_share = -3", r"windows\.splice_share must be between 0 and 1, found -3"),
        ("lags = [1, 3]", "lags = [0, 3]", r"pictures\.lags must be at least 1, found 0"),
        ("dropout = [0.3, 0.3]", "dropout = [0.3, 1.0]", r"head\.dropout must be at least 0 and below 1"),
        ("positive = [1.5, 1.5, 6.0, 6.0]", "positive = [1.5, 1.5, inf, 6.0]", r"loss\.positive must be above 0"),
        ("actor_cells = 8.0", "actor_cells = 0.0", r"loss\.actor_cells must be above 0"),
        ("frozen = 3", "frozen = -1", r"onward\.frozen must be at least 0, found -1"),
    ],
)
def test_a_slip_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(DEMO.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError, match=named):
        load_recipe(path)


def test_no_key_of_the_demo_recipe_takes_any_number(tmp_path: Path) -> None:
    path, text = tmp_path / "recipe.toml", DEMO.read_text() + "\n[teacher]\ntemperature = 2.0\nsave_every = 50\n"
    numbers = list(re.finditer(r"(?<=[ \[])\d+(\.\d+)?(?=[,\]\n ])", text[text.index("seed = ") :]))
    assert len(numbers) > 90
    for found in numbers:
        place = text.index("seed = ") + found.start()
        for bad in ["-1"] if found[1] is None else ["nan", "inf", "-1.0"]:
            path.write_text(text[:place] + bad + text[place + len(found[0]) :])
            with pytest.raises(ConfigError):
                load_recipe(path)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="student-demo"):
        load_recipe("student-dreamt")
