"""What a run costs in energy, from the board's own power monitors; nothing on machines that have none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import fmean

from edge_sdk.benchmarks.report import Energy
from edge_sdk.hardware import Conditions, Draw, observe, whole_draw

IDLE_READINGS = 10
IDLE_INTERVAL_S = 0.2


def idle_draw() -> Draw | None:
    """What the board draws while this process sleeps for two seconds; None, at once, where no rail tells."""
    first = whole_draw(observe().power_w)
    if first is None:
        return None
    readings = [first.power_w]
    for _ in range(IDLE_READINGS - 1):
        time.sleep(IDLE_INTERVAL_S)
        again = whole_draw(observe().power_w)
        readings += [again.power_w] if again and again.rail == first.rail else []
    return Draw(first.rail, fmean(readings))


def energy_of(idle: Draw | None, during: Sequence[Conditions], frames: int, duration_s: float) -> Energy | None:
    """The energy of a run of `duration_s` in which `frames` were scored; None where `during` has no readings of it."""
    if idle is None:
        return None
    draws = [draw for each in during if (draw := whole_draw(each.power_w)) and draw.rail == idle.rail]
    if not draws or not frames:
        return None
    mean_w, frame_s = fmean(draw.power_w for draw in draws), duration_s / frames
    return Energy(
        mean_w=mean_w,
        idle_w=idle.power_w,
        joule_per_frame=mean_w * frame_s,
        joule_per_frame_above_idle=(mean_w - idle.power_w) * frame_s,
        rail=idle.rail,
        readings=len(draws),
    )
