"""Choose greedily which matrices stay in more bits, by the KL divergence that each extra byte saves.

The costs of single matrices are scaled so that their sum equals the cost measured for all of them together.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from edge_sdk.bundle.proof import Kept
from edge_sdk.errors import ConfigError

_MB = 1e6


@dataclass(frozen=True)
class Step:
    """A matrix in more bits: the KL that remains, and the bytes beyond its size in the fewest bits."""

    bits: int
    kl: float
    more_bytes: int


@dataclass(frozen=True)
class Candidate:
    """A matrix that costs `kl` in its fewest bits; `steps` are the alternatives, in order of rising bits."""

    name: str
    kl: float
    steps: tuple[Step, ...]


@dataclass
class Picked:
    """The step of each candidate that stays in more bits, by name, and the total cost of all candidates."""

    kl: float
    size_bytes: int
    steps: dict[str, Step] = field(default_factory=dict)


def pick(candidates: Sequence[Candidate], size_bytes: int, max_kl: float | None, budget_bytes: float | None) -> Picked:
    """Choose what to keep: the least that brings KL to `max_kl`, or without `max_kl` the most that fits `budget_bytes`.

    `size_bytes` is the size of everything in its fewest bits. Raises `ConfigError` with the numbers where the budget is
    below that size, or nothing meets both limits.
    """
    check_budget(size_bytes, budget_bytes)
    found = _greedy(candidates, size_bytes, max_kl, budget_bytes)
    if max_kl is not None and found.kl > max_kl:
        free = _greedy(candidates, size_bytes, max_kl, None)
        needed = f"it takes {free.size_bytes / _MB:,.1f} MB" if free.kl <= max_kl else "no choice reaches it"
        within = "" if budget_bytes is None else f" within --budget-mb {budget_bytes / _MB:,.1f}"
        raise ConfigError(
            f"--max-kl {max_kl:g} cannot be met{within}: the best is {found.kl:.3g} in "
            f"{found.size_bytes / _MB:,.1f} MB; {needed}, and the fewest bits {size_bytes / _MB:,.1f} MB; raise a limit"
        )
    return found


def check_budget(size_bytes: int, budget_bytes: float | None) -> None:
    """Raise `ConfigError` where the size in the fewest bits, `size_bytes`, already exceeds the budget."""
    if budget_bytes is not None and budget_bytes < size_bytes:
        least_mb = math.ceil(100 * size_bytes / _MB) / 100  # rounded up, so that the stated budget is enough
        raise ConfigError(
            f"--budget-mb {budget_bytes / _MB:g}: the decoder takes at least {least_mb:,.2f} MB by this recipe; give "
            "at least that, or a recipe of fewer bits"
        )


def reasons(candidates: Sequence[Candidate], found: Picked, max_kl: float | None) -> Iterator[Kept]:
    """Why each chosen candidate stays in more bits, the most costly first."""
    chosen = [each for each in candidates if each.name in found.steps]
    limit = max_kl if max_kl is not None else sum(each.kl for each in candidates)
    for each in sorted(chosen, key=lambda each: each.kl, reverse=True):
        step = found.steps[each.name]
        more_mb = step.more_bytes / _MB
        reason = f"kept in {step.bits} bits: costs {each.kl:.2g} of {limit:.2g} KL otherwise, for {more_mb:.2f} MB"
        yield Kept(name=each.name, bits=step.bits, more_mb=more_mb, reason=reason)


def _greedy(
    candidates: Sequence[Candidate], size_bytes: int, max_kl: float | None, budget_bytes: float | None
) -> Picked:
    found = Picked(kl=sum(each.kl for each in candidates), size_bytes=size_bytes)
    moves: list[tuple[float, int, int]] = []
    for number, each in enumerate(candidates):
        _offer(moves, number, each, 0)
    while moves and (max_kl is None or found.kl > max_kl):
        _, number, place = heapq.heappop(moves)
        each = candidates[number]
        saved, more = _gain(each, place)
        if budget_bytes is not None and found.size_bytes + more > budget_bytes:
            continue
        found.kl, found.size_bytes = found.kl - saved, found.size_bytes + more
        found.steps[each.name] = each.steps[place]
        _offer(moves, number, each, place + 1)
    return found


def _offer(moves: list[tuple[float, int, int]], number: int, each: Candidate, place: int) -> None:
    if place < len(each.steps):
        saved, more = _gain(each, place)
        heapq.heappush(moves, (-saved / more, number, place))


def _gain(each: Candidate, place: int) -> tuple[float, int]:
    """The KL that a step saves over the step before it, and the extra bytes that it takes."""
    kl, taken = (each.steps[place - 1].kl, each.steps[place - 1].more_bytes) if place else (each.kl, 0)
    step = each.steps[place]
    return kl - step.kl, step.more_bytes - taken
