"""What slowed a run down by heat, power or governor, as far as the machine shows it.

A clock below its limit was throttled, or scaled by a governor that found too little work; both make a run slower. On
CPUs that boost, the clock also falls as more cores work, so there only the kernel's counts of throttling are used. A
graphics card boosts too, and says itself what slows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from edge_sdk.hardware import Conditions
from edge_sdk.hardware.nvml import CardClock

# A clock below this share of its limit was throttled or scaled.
CLOCK_SHARE = 0.9
BOOSTING = frozenset({"x86_64", "AMD64", "i686"})


class Seen(NamedTuple):
    """The machine's conditions: all that were read, and those within the measured time and around it.

    `cards` are the readings of a graphics card within the measured time; empty on a Jetson.
    """

    everything: Sequence[Conditions]
    begin: Conditions
    inside: Sequence[Conditions]
    end: Conditions
    cards: Sequence[CardClock] = ()


def throttled(seen: Seen, arch: str, *, gpu: bool) -> tuple[str, ...] | None:
    """What slowed the CPU and, with `gpu`, the GPU down, as sentences; empty if nothing did.

    None where nothing is found and one of the two cannot be judged. `arch` is `Machine.arch`.
    """
    parts = [_heated(seen) if arch in BOOSTING else _cpu_slowed(seen)]
    if gpu:
        parts.append(_gpu_slowed(seen))
    found = tuple(part for part in parts if part)
    return None if not found and None in parts else found


def _heated(seen: Seen) -> str | None:
    """Whether the kernel counted throttling by heat; empty if not, None where it does not count."""
    before, after = seen.begin.cpu_throttles, seen.end.cpu_throttles
    if before is None or after is None:
        return None
    return f"CPU throttled by heat: the kernel's counts rose by {after - before:.0f}" if after > before else ""


def _cpu_slowed(seen: Seen) -> str | None:
    """Judge the fastest core: with few threads, the others are idle."""
    limits = (each.cpu_limit_mhz for each in seen.everything)
    return _slowed("CPU", limits, (each.cpu_fastest_mhz for each in seen.inside))


def _gpu_slowed(seen: Seen) -> str | None:
    if seen.cards:
        reasons = Counter(reason for card in seen.cards for reason in card.slowed_by)
        told = (f"{reason} in {count} of {len(seen.cards)} readings" for reason, count in reasons.items())
        return f"GPU slowed down by {', by '.join(told)}" if reasons else ""
    limits = (each.gpu_limit_mhz for each in seen.everything)
    return _slowed("GPU", limits, (each.gpu_mhz for each in seen.inside))


def _slowed(name: str, limits: Iterable[float | None], clocks: Iterable[float | None]) -> str | None:
    """Compare with the highest limit that was read, because the kernel lowers the limit itself when it is hot."""
    limit = max((mhz for mhz in limits if mhz is not None), default=None)
    lowest = min((mhz for mhz in clocks if mhz is not None), default=None)
    if limit is None or lowest is None:
        return None
    return f"{name} clock was down to {lowest:.0f} of {limit:.0f} MHz" if lowest < CLOCK_SHARE * limit else ""
