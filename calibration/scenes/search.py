"""The search for a scene: scenarios are staged in turn, a few times each, until physics have the wanted outcome."""

from __future__ import annotations

from collections.abc import Callable

from edge_sdk.calibration.scenes.plan import Conditions, ScenePlan
from edge_sdk.calibration.scenes.streams import Rng, stream
from edge_sdk.errors import EdgeError

# (seed, turn) -> the scenario that is staged in that turn
Draw = Callable[[int, int], str]
# (seed, conditions, scenario, random numbers of this attempt alone)
Attempt = Callable[[int, Conditions, str, Rng], ScenePlan | None]


def first_plan(
    seed: int, conditions: Conditions, family: str, draw: Draw, attempt: Attempt, *, rounds: int, attempts: int
) -> ScenePlan:
    """The first plan that an attempt finds. Raises `EdgeError` when none of `rounds` times `attempts` does."""
    for turn in range(rounds):
        name = draw(seed, turn)
        for number in range(attempts):
            plan = attempt(seed, conditions, name, stream(seed, f"{family} attempt {turn} {number}"))
            if plan is not None:
                return plan
    raise EdgeError(f"seed {seed}: no traffic for {conditions} in {rounds * attempts} attempts; use another seed")
