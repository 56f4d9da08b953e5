"""Settings of a student's quantisation to 8 bits, from a recipe's TOML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from edge_sdk.errors import ConfigError
from edge_sdk.export.recipe_file import find_recipe
from edge_sdk.types import Value

RECIPES = Path(__file__).parent / "recipes"

Method = Literal["max", "percentile", "entropy"]


class StudentRecipe(Value, frozen=True, kw_only=True):
    """Settings of a student's quantisation.

    `methods` are the methods to try for choosing an activation's range. The one whose scores differ least on the
    calibration clips, in the worse of the two graphs, is used. Layers return to float32, the most sensitive first,
    until the mean difference of the scores (probabilities, 0..1) is at most `max_score_error`; `float_layers` are in
    float32 from the start.
    """

    part: Literal["student"]
    name: str = ""
    methods: tuple[Method, ...] = ("max", "percentile", "entropy")
    percentile: float = 99.99
    max_score_error: float = 0.004
    float_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.methods:
            raise ConfigError("methods must name at least one of max, percentile, entropy; found none")
        if not 50 < self.percentile <= 100:
            raise ConfigError(f"percentile must be above 50 and at most 100, found {self.percentile:g}")
        if self.max_score_error <= 0:
            raise ConfigError(f"max_score_error must be above 0, found {self.max_score_error:g}")

    def check(self, names: Sequence[str]) -> None:
        """Raise `ConfigError` where `float_layers` names none of the student's layers, `names`."""
        if unknown := sorted(set(self.float_layers) - set(names)):
            raise ConfigError(
                f"float_layers: this student has no layer {', '.join(unknown)}; it has {', '.join(names)}"
            )


class _Part(msgspec.Struct):
    part: str = "language"


def load_student_recipe(name: str | Path) -> StudentRecipe:
    """The recipe called `name` among those of the package, or the file at a path. Raises `ConfigError`."""
    found = find_recipe(name, "*.toml", RECIPES)
    if found.read(_Part).part != "student":
        raise ConfigError(
            f"recipe {name} is for a checkpoint's weights, and a bundle was given, whose student can be quantised; "
            "take student-int8, or give the checkpoint"
        )
    return found.read(StudentRecipe)
