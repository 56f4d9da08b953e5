"""Settings of a language bundle, from a recipe's TOML file; the command line may override each of them.

A recipe names the target that it was chosen for. It names no folders, because weights lie elsewhere on each machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_sdk.errors import ConfigError
from edge_sdk.export.recipe_file import find_recipe
from edge_sdk.hardware import find_target
from edge_sdk.reasoning.grid import PROFILES, STANDARD, find_profile
from edge_sdk.tasks import TASK_IDS, TASKS
from edge_sdk.types import Dialect, Value

BASE = "base"
SLOTS = (2_048, 4_096, 10_752)

# A name becomes part of file names, whose parts are separated by dots; so it must not contain one.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class ExportRecipe(Value, frozen=True, kw_only=True):
    """Settings of an export.

    `switchable`: LoRA matrices are inputs of one decoder that all adapters share. Otherwise each adapter is merged into
    its own decoder weights. `base_projector`: the adapters were trained with the checkpoint's projector and have none.
    `slots` are the lengths of the KV cache, one decoder graph each. `target` is the device the bundle is meant for;
    quantisation recipes that it cannot compute are refused.
    """

    name: str = ""
    version: str = "1"
    target: str | None = None
    switchable: bool = False
    base_projector: bool = False
    profiles: tuple[str, ...] = STANDARD
    dialects: tuple[Dialect, ...] = ("native", "decomposed")
    dtype: Literal["float16", "float32"] = "float16"
    slots: tuple[int, ...] = SLOTS


class Order(Value, frozen=True, kw_only=True):
    """One export: the settings, the checkpoint's folder, and the folder of each adapter by name."""

    recipe: ExportRecipe
    checkpoint: str
    adapters: dict[str, str] = msgspec.field(default_factory=dict)


def settle(
    checkpoint: Path,
    *,
    adapters: tuple[str, ...] = (),
    merge: tuple[str, ...] = (),
    recipe: str | Path | None = None,
    # Any: each value is checked by its field of `ExportRecipe`.
    **changes: Any,
) -> Order:
    """Turn the options of a command line into an order.

    `adapters` are written NAME=DIR; `merge` names those to merge into their own weights. `changes` are fields of
    `ExportRecipe` that override the recipe's; None and empty values override nothing. Raises `ConfigError`.
    """
    found = load_export_recipe(recipe) if recipe else ExportRecipe()
    if merge:
        if changes.get("switchable"):
            raise ConfigError("an adapter is either merged or switchable; give --merge or --switchable, not both")
        changes["switchable"] = False
    settings = msgspec.to_builtins(found) | {key: value for key, value in changes.items() if value not in (None, ())}
    folders = adapter_folders(adapters)
    settled = _checked(settings)
    _check_adapters(folders, merge, chosen=bool(merge) or settled.switchable)
    return Order(recipe=settled, checkpoint=str(checkpoint), adapters=folders)


def load_export_recipe(name: str | Path) -> ExportRecipe:
    """Load the packaged recipe called `name`, or the file at a path. Raises `ConfigError`."""
    found = find_recipe(name, "crashchat-*.toml")
    settings = found.read(dict[str, Any])
    try:
        return _checked(settings)
    except ConfigError as error:
        raise ConfigError(f"recipe {found.path}: {error}") from error


def adapter_folders(adapters: tuple[str, ...]) -> dict[str, str]:
    """Folders by name, from texts NAME=DIR. Raises `ConfigError`."""
    folders: dict[str, str] = {}
    for text in adapters:
        name, equals, folder = text.partition("=")
        if not equals or not folder or not _NAME.fullmatch(name) or name == BASE:
            raise ConfigError(
                f"--adapter is NAME=DIR with a NAME of letters, digits, - and _ that is not {BASE!r}; found {text!r}"
            )
        if name in folders:
            raise ConfigError(f"--adapter {name} is given twice; each adapter of a bundle needs its own name")
        folders[name] = folder
    return folders


def tasks_of(name: str, adapters: Mapping[str, object]) -> tuple[str, ...]:
    """The tasks that the adapter called `name` answers.

    Where there is an adapter for every kind of task, each answers its own kind. Any other adapter answers all tasks.
    """
    kinds = {task.adapter for task in TASKS}
    if name in kinds and kinds <= adapters.keys():
        return tuple(task.id for task in TASKS if task.adapter == name)
    return TASK_IDS


# Any: settings before their types are known.
def _checked(settings: Mapping[str, Any]) -> ExportRecipe:
    try:
        recipe = msgspec.convert(settings, ExportRecipe)
    except msgspec.ValidationError as error:
        raise ConfigError(f"an export's settings are not usable: {error}") from error
    for profile in recipe.profiles:
        find_profile(profile)
    if recipe.target is not None:
        find_target(recipe.target)
    for key in ("profiles", "dialects", "slots"):
        values = getattr(recipe, key)
        if not values or len(set(values)) != len(values):
            raise ConfigError(f"{key} needs at least one value, and none twice; found {list(values)}")
    if min(recipe.slots) < 1:
        raise ConfigError(f"slots must be at least 1, found {min(recipe.slots)}")
    _check_frame(recipe.profiles[0], max(recipe.slots))
    return msgspec.structs.replace(recipe, slots=tuple(sorted(recipe.slots)))


def _check_frame(profile: str, slots: int) -> None:
    """Refuse slots that do not hold one frame; the length of its question is checked later, with the tokenizer."""
    tokens = PROFILES[profile].size.tokens
    if slots <= tokens:
        raise ConfigError(
            f"slots: a frame of {profile} takes {tokens} tokens and its question more, found at most {slots}; give "
            "more, such as 2048"
        )


def _check_adapters(folders: Mapping[str, str], merge: tuple[str, ...], *, chosen: bool) -> None:
    if chosen and not folders:
        raise ConfigError("--merge and --switchable need an adapter; give --adapter NAME=DIR")
    if len(folders) > 1 and not chosen:
        raise ConfigError(
            f"{len(folders)} adapters: say --switchable (one set of weights, LoRA matrices as inputs) or --merge NAME "
            "for each (a whole set of decoder weights for each)"
        )
    if merge and set(merge) != folders.keys():
        raise ConfigError(
            f"--merge names {', '.join(sorted(set(merge)))}, the adapters are {', '.join(folders)}; name each of them, "
            "and give only adapters that the bundle is to hold"
        )
