"""Settings of an export: the committed recipes hold, the command line overrides them, a slip is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.export.export_recipe import load_export_recipe, settle, tasks_of
from edge_sdk.hardware import find_target
from edge_sdk.reasoning.grid import PROFILES
from edge_sdk.tasks import TASK_IDS

BASE = Path("base")
TWO = ("linguistic=a", "perception=b")


@pytest.mark.parametrize("name", ["crashchat-7b-agx-orin", "crashchat-2b-orin-nano"])
def test_a_committed_recipe_holds_a_whole_clip_on_a_known_target(name: str) -> None:
    recipe = load_export_recipe(name)
    assert recipe.target is not None
    assert find_target(recipe.target).kind == "jetson"
    assert recipe.dtype == "float16"
    for profile in recipe.profiles:
        clip = PROFILES[profile]
        # Image tokens, nine for each time stamp, the longest question, the longest answer.
        assert clip.frames * (clip.size.tokens + 9) + 300 + 128 <= max(recipe.slots)


def test_the_command_line_overrides_a_recipe() -> None:
    order = settle(BASE, adapters=TWO, recipe="crashchat-7b-agx-orin", slots=(2048,), dtype=None, profiles=())
    assert order.recipe.slots == (2048,)
    assert order.recipe.dtype == "float16"
    assert order.recipe.profiles == ("96f", "48f")
    assert order.recipe.switchable
    merged = settle(BASE, adapters=TWO, recipe="crashchat-7b-agx-orin", merge=("linguistic", "perception"))
    assert not merged.recipe.switchable


def test_without_anything_said_one_adapter_is_merged_into_every_graph() -> None:
    recipe = settle(BASE, adapters=("mine=a",)).recipe
    assert (recipe.switchable, recipe.profiles, recipe.slots) == (False, ("96f", "48f"), (2048, 4096, 10_752))
    assert recipe.dialects == ("native", "decomposed")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adapters": TWO}, "say --switchable .* or --merge"),
        ({"adapters": TWO, "merge": ("linguistic",)}, "name each of them"),
        ({"adapters": TWO, "merge": ("linguistic", "other")}, "linguistic, other"),
        ({"adapters": TWO, "merge": ("linguistic", "perception"), "switchable": True}, "not both"),
        ({"switchable": True}, "need an adapter"),
        ({"merge": ("mine",)}, "need an adapter"),
        ({"adapters": ("mine",)}, "NAME=DIR"),
        ({"adapters": ("=a",)}, "NAME=DIR"),
        ({"adapters": ("a.b=a",)}, "NAME=DIR"),
        ({"adapters": ("../x=a",)}, "NAME=DIR"),
        ({"adapters": ("base=a",)}, "'base'"),
        ({"adapters": ("a=x", "a=y")}, "twice"),
        ({"profiles": ("97f",)}, "97f.*known: 24f, 48f, 96f"),
        ({"profiles": ("96f", "96f")}, "none twice"),
        ({"dialects": ("modern",)}, "dialects"),
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"slots": (0,)}, "at least 1"),
        ({"target": "toaster"}, "toaster"),
        ({"recipe": "nothing"}, "crashchat-2b-orin-nano, crashchat-7b-agx-orin"),
    ],
)
def test_a_slip_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settle(BASE, **settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [("slots = [", "not TOML"), ("slot = [64]", "slot"), ('slots = ["64"]', "slots"), ('profiles = ["1f"]', "1f")],
)
def test_a_slip_in_a_recipe_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"mine.toml.*{message}"):
        load_export_recipe(path)
    with pytest.raises(ConfigError, match=f"mine.toml.*{message}"):
        settle(BASE, recipe=str(path))


@pytest.mark.parametrize("there", [("linguistic",), ("linguistic", "mine"), ("perception", "linguistics", "mine")])
def test_an_adapter_without_its_counterpart_answers_everything(there: tuple[str, ...]) -> None:
    for name in there:
        assert tasks_of(name, dict.fromkeys(there)) == TASK_IDS


def test_counterparts_share_the_tasks() -> None:
    there = dict.fromkeys(("linguistic", "perception", "mine"))
    assert {*tasks_of("linguistic", there), *tasks_of("perception", there)} == set(TASK_IDS)
    assert not {*tasks_of("linguistic", there)} & {*tasks_of("perception", there)}
    assert tasks_of("mine", there) == TASK_IDS
