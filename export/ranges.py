"""Ranges of the numbers in a recipe, and the check of a recipe against them.

Unchecked, a learning rate of `nan` or a share above 1 would show only after hours of training.
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
    """A range of finite numbers, in words and as a predicate, which rejects NaN and infinity."""

    words: str
    holds: Callable[[float], bool]


FINITE = Range("a finite number", math.isfinite)
AT_LEAST_0 = Range("at least 0", lambda number: 0 <= number < math.inf)
AT_LEAST_1 = Range("at least 1", lambda number: 1 <= number < math.inf)
ABOVE_0 = Range("above 0", lambda number: 0 < number < math.inf)
SHARE = Range("between 0 and 1", lambda number: 0 <= number <= 1)
BELOW_1 = Range("at least 0 and below 1", lambda number: 0 <= number < 1)
UP_TO_1 = Range("above 0 and at most 1", lambda number: 0 < number <= 1)


def check_ranges(recipe: Value, ranges: Mapping[str, Range], path: Path) -> None:
    """Raise `ConfigError` for the first key of the recipe at `path` whose number is out of range.

    Keys are named as in the file, `table.key`. Every number of a list is checked; an absent key passes.
    """
    for key, allowed in ranges.items():
        for number in _numbers(recipe, key.split(".")):
            if not allowed.holds(number):
                raise ConfigError(f"recipe {path}: {key} must be {allowed.words}, found {number}; correct the recipe")


# Any: a table, a list of numbers or of tables, or a number.
def _numbers(found: Any, names: list[str]) -> list[float]:
    if found is None or found is msgspec.UNSET:
        return []
    if isinstance(found, tuple):
        return [number for each in found for number in _numbers(each, names)]
    return _numbers(getattr(found, names[0]), names[1:]) if names else [found]
