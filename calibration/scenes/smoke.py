"""Dust of impacts and smoke of tyres: puffs that grow, drift and fade. Hard braking smokes whatever the outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.calibration.scenes.labels import impact_mps
from edge_sdk.calibration.scenes.physics import RECORD_S, Car, Track
from edge_sdk.calibration.scenes.streams import Rng, chance, uniform

_HARD_BRAKING_MPS2 = 5.5
_SLOWEST_SMOKE_MPS = 5.0


@dataclass(frozen=True, kw_only=True)
class Puff:
    """A ball of smoke: radius r0 + g sqrt(t) metres and opacity a0 exp(-t / fade), t seconds after its start."""

    start_s: float
    x_m: float
    y_m: float
    vx_mps: float
    vy_mps: float
    radius_m: float
    growth: float
    opacity: float
    fade_s: float
    grey: float

    def at(self, time_s: float) -> tuple[tuple[float, float, float], float, float]:
        """Centre, radius and opacity at a time; transparent before the start."""
        rest = max(time_s - self.start_s, 0.0)
        radius = self.radius_m + self.growth * math.sqrt(rest)
        slowed = 1 - math.exp(-rest)
        opacity = self.opacity * math.exp(-rest / self.fade_s) if time_s >= self.start_s else 0.0
        return (self.x_m + self.vx_mps * slowed, self.y_m + self.vy_mps * slowed, 0.6 * radius), radius, opacity


def draw_puffs(rng: Rng, track: Track, cars: Sequence[Car]) -> list[Puff]:
    """The puffs of a track: dust at its contacts, smoke behind cars that brake hard."""
    puffs: list[Puff] = []
    for contact in track.contacts[:3]:
        impact, dusty = impact_mps(track, contact), uniform(rng, 0.1, 0.75)
        for _ in range(3 if impact > 3.0 and chance(rng, 0.75) else 0):
            place = contact.touch.x_m + uniform(rng, -0.8, 0.8), contact.touch.y_m + uniform(rng, -0.8, 0.8)
            puffs.append(_puff(rng, contact.time_s, place, dusty * min(impact / 10.0, 1.0), 0.5))
    for i, car in enumerate(cars):
        start = _braking_start(track, i)
        if start is None or not chance(rng, 0.45):
            continue
        dense = uniform(rng, 0.08, 0.4)
        for step in range(3):
            time = start + 0.2 * step
            x, y, yaw = (float(v) for v in track.pose_at(time)[i])
            half = car.vehicle.length_m / 2
            puffs.append(_puff(rng, time, (x - half * math.cos(yaw), y - half * math.sin(yaw)), dense, 0.25))
    return puffs


def _puff(rng: Rng, start_s: float, place: tuple[float, float], opacity: float, radius_m: float) -> Puff:
    return Puff(
        start_s=start_s,
        x_m=place[0],
        y_m=place[1],
        vx_mps=uniform(rng, -1.0, 1.0),
        vy_mps=uniform(rng, -1.0, 1.0),
        radius_m=radius_m * uniform(rng, 0.6, 1.4),
        growth=uniform(rng, 0.5, 1.3),
        opacity=opacity,
        fade_s=uniform(rng, 0.5, 2.0),
        grey=uniform(rng, 0.5, 0.9),
    )


def _braking_start(track: Track, car: int) -> float | None:
    """When a car first brakes hard at speed, if it does; deceleration by a contact does not count."""
    until = len(track.pose) if not track.contacts else int(track.contacts[0].time_s / RECORD_S)
    speed = np.hypot(track.velocity[:until, car, 0], track.velocity[:until, car, 1])
    window = round(0.2 / RECORD_S)
    if len(speed) <= window:
        return None
    hard = ((speed[:-window] - speed[window:]) / 0.2 > _HARD_BRAKING_MPS2) & (speed[:-window] > _SLOWEST_SMOKE_MPS)
    return float(np.argmax(hard) * RECORD_S + 0.2) if hard.any() else None
