"""The seeds of a recipe's scenes: consecutive ones, or those with wanted conditions.

Only what a seed decides before any traffic is drawn matters, so no scene is chosen for being easy or hard.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Literal

from edge_sdk.calibration.scenes.plan import draw_conditions
from edge_sdk.calibration.scenes.suite import pick_seeds, suite_size

# "any": every seed; "others": the camera's own car takes no part in what happens; "suite": the quotas of the committed
# suite, scaled to the number of seeds.
Choice = Literal["any", "others", "suite"]


def choose_seeds(first: int, wanted: int, of: Choice = "any") -> list[int]:
    """The first `wanted` seeds from `first` on that are of the kind `of`."""
    if of == "suite":
        return pick_seeds(first, wanted / suite_size())
    return list(islice(count(first) if of == "any" else _others(first), wanted))


def _others(first: int) -> Iterator[int]:
    for seed in count(first):
        conditions = draw_conditions(seed)
        if conditions.view == "roadside" or not conditions.ego_takes_part:
            yield seed
