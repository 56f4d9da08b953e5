"""Which numbers the keys of a recipe take.

A learning rate of `nan` or a share above 1 would be found after hours, in what was trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edge_sdk.errors import ConfigError
from edge_sdk.types import Value


class Range(NamedTuple):
    """Numbers, in words and as what holds of each of them; never of what is not finite."""

    words: str
    holds: Callable[[float], bool]


FINITE = Range("a finite number", math.isfinite)
AT_LEAST_0 = Range("at least 0", lambda number: 0 <= number < math.inf)
AT_LEAST_1 = Range("at least 1", lambda number: 1 <= number < math.inf)
ABOVE_0 = Range("above 0", lambda number: 0 < number < math.inf)
SHARE = Range("between 0 and 1", lambda number: 0 <= number <= 1)
BELOW_1 = Range("at least 0 and below 1", lambda number: 0 <= number < 1)
UP_TO_1 = Range("above 0 and at most 1", lambda number: 0 < number <= 1)

TEACHER: Mapping[str, Range] = {
    "teacher.feature_weight": AT_LEAST_0,
    "teacher.feature_shift_s": FINITE,
    "teacher.score_weight": AT_LEAST_0,
    "teacher.temperature": ABOVE_0,
    "teacher.boundary_weight": AT_LEAST_0,
    "teacher.save_every": AT_LEAST_1,
}
STUDENT: Mapping[str, Range] = {
    "seed": AT_LEAST_0,
    "scenes.demo_seed": AT_LEAST_0,
    "pictures.rate_hz": ABOVE_0,
    "pictures.lags": AT_LEAST_1,
    "shape.stages": AT_LEAST_1,
    "shape.grid_dilations": AT_LEAST_1,
    "shape.features": AT_LEAST_1,
    "shape.dilations": AT_LEAST_1,
    "shape.views.zoom": AT_LEAST_1,
    "targets.heat_delay_frames": AT_LEAST_0,
    "targets.heat_sigma_s": ABOVE_0,
    "targets.aftermath_s": AT_LEAST_0,
    "windows.splice_share": SHARE,
    "windows.warm_up_s": AT_LEAST_0,
    "windows.warm_up_weight": AT_LEAST_0,
    "loss.weights": AT_LEAST_0,
    "loss.positive": ABOVE_0,
    "loss.map_weights": AT_LEAST_0,
    "loss.map_positive": ABOVE_0,
    "loss.actor_cells": ABOVE_0,
    "loss.flow_weight": AT_LEAST_0,
    "loss.window_weight": AT_LEAST_0,
    "optimiser.learning_rate": ABOVE_0,
    "optimiser.weight_decay": AT_LEAST_0,
    "optimiser.warm_up_share": SHARE,
    "optimiser.clip_norm": ABOVE_0,
    "optimiser.average": BELOW_1,
    "stages.epochs": AT_LEAST_1,
    "stages.windows": AT_LEAST_1,
    "stages.micro": AT_LEAST_1,
    "late.copies": AT_LEAST_1,
    "late.epochs": AT_LEAST_1,
    "late.windows": AT_LEAST_1,
    "late.micro": AT_LEAST_1,
    "late.learning_rate": ABOVE_0,
    "late.average": BELOW_1,
    "late.window_weight": AT_LEAST_0,
    "late.map_weight": AT_LEAST_0,
    "head.epochs": AT_LEAST_1,
    "head.windows": AT_LEAST_1,
    "head.dropout": BELOW_1,
    "head.learning_rate": ABOVE_0,
    "head.average": BELOW_1,
    "head.window_weight": AT_LEAST_0,
    "onward.steps": AT_LEAST_1,
    "onward.windows": AT_LEAST_1,
    "onward.micro": AT_LEAST_1,
    "onward.frozen": AT_LEAST_0,
    "onward.dropout": BELOW_1,
    "onward.learning_rate": ABOVE_0,
    "onward.warm_up_steps": AT_LEAST_0,
    "onward.decay_share": UP_TO_1,
    "onward.average": BELOW_1,
    "onward.window_weight": AT_LEAST_0,
    "onward.views.zoom": AT_LEAST_1,
    "onward.focus.share": SHARE,
    "onward.focus.before": AT_LEAST_0,
    "onward.focus.after": AT_LEAST_0,
    "onward.focus.own_car": ABOVE_0,
    "onward.focus.normal": ABOVE_0,
    "onward.focus.zoom": AT_LEAST_1,
    "onward.focus.zoomed": SHARE,
    "onward.focus.splice_share": SHARE,
    **TEACHER,
}
TUNING: Mapping[str, Range] = {
    "seed": AT_LEAST_0,
    "epochs": AT_LEAST_1,
    "windows": AT_LEAST_1,
    "micro": AT_LEAST_1,
    "splice_share": SHARE,
    "rehearsal_share": BELOW_1,
    "aftermath_s": AT_LEAST_0,
    "dropout": BELOW_1,
    "learning_rate": ABOVE_0,
    "average": BELOW_1,
    "blend": UP_TO_1,
    **TEACHER,
}


def check_ranges(recipe: Value, ranges: Mapping[str, Range], path: Path) -> None:
    """Raises `ConfigError` for the first key of the recipe at `path` that holds a number out of its range.

    Keys are those of the file, `table.key`; of lists every number counts, and what is not there is in range.
    """
    for key, allowed in ranges.items():
        for number in _numbers(recipe, key.split(".")):
            if not allowed.holds(number):
                raise ConfigError(f"recipe {path}: {key} must be {allowed.words}, found {number}; mend it there")


# Any: a table, a list of numbers or of tables, or a number.
def _numbers(found: Any, names: list[str]) -> list[float]:
    if found is None or found is msgspec.UNSET:
        return []
    if isinstance(found, tuple):
        return [number for each in found for number in _numbers(each, names)]
    return _numbers(getattr(found, names[0]), names[1:]) if names else [found]
