"""Which seeds a recipe's scenes have: consecutive ones, or those whose conditions are wanted.

Nothing but what a seed settles before any traffic is drawn decides, so no scene is chosen for being easy or hard.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Literal

from edge_sdk.calibration.scenes.plan import draw_conditions
from edge_sdk.calibration.scenes.suite import pick_seeds, suite_size

# "any": every seed; "others": the camera's own car takes no part in what happens; "suite": the committed suite's
# quotas, of which the number of seeds says how many times.
Choice = Literal["any", "others", "suite"]


def choose_seeds(first: int, wanted: int, of: Choice = "any") -> list[int]:
    """The first `wanted` seeds from `first` on that are of that kind."""
    if of == "suite":
        return pick_seeds(first, wanted / suite_size())
    return list(islice(count(first) if of == "any" else _others(first), wanted))


def _others(first: int) -> Iterator[int]:
    for seed in count(first):
        conditions = draw_conditions(seed)
        if conditions.view == "roadside" or not conditions.ego_takes_part:
            yield seed
