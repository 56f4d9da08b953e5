"""Broken parts that fly off at a contact: more of them, and faster, the harder the impact."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_sdk.calibration.scenes.labels import impact_mps
from edge_sdk.calibration.scenes.physics import GRAVITY_MPS2, Track
from edge_sdk.calibration.scenes.streams import Rng, uniform

# Below this speed of impact bodywork bends and nothing falls off.
_SOFTEST_MPS = 3.0
_MOST_PARTS = 9


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part: a flat box that flies a parabola from the contact, then lies where it landed."""

    start_s: float
    x_m: float
    y_m: float
    z_m: float
    vx_mps: float
    vy_mps: float
    vz_mps: float
    spin_radps: float
    size_m: tuple[float, float, float]
    grey: float

    def place(self, time_s: float) -> tuple[float, float, float, float]:
        """Position and angle at a time; out of sight under the ground before the contact."""
        rest = time_s - self.start_s
        if rest < 0:
            return self.x_m, self.y_m, -5.0, 0.0
        # From z0 with vz the part is in the air for (vz + sqrt(vz^2 + 2 g z0)) / g, and slides half as long again.
        flight = (self.vz_mps + math.sqrt(self.vz_mps**2 + 2 * GRAVITY_MPS2 * self.z_m)) / GRAVITY_MPS2
        moving = min(rest, 1.5 * flight)
        height = max(self.z_m + self.vz_mps * rest - GRAVITY_MPS2 / 2 * rest**2, 0.04) if rest < flight else 0.04
        return self.x_m + self.vx_mps * moving, self.y_m + self.vy_mps * moving, height, self.spin_radps * moving


def draw_parts(rng: Rng, track: Track) -> list[Part]:
    """The parts of all contacts of a track."""
    parts: list[Part] = []
    for contact in track.contacts:
        impact = impact_mps(track, contact)
        count = min(int((impact - _SOFTEST_MPS) * uniform(rng, 0.3, 1.0)), _MOST_PARTS - len(parts))
        vx, vy = (float(v) for v in track.velocity_at(contact.time_s)[contact.touch.first, :2])
        for _ in range(max(count, 0)):
            course, speed = uniform(rng, 0, 2 * math.pi), impact * uniform(rng, 0.05, 0.45)
            parts.append(
                Part(
                    start_s=contact.time_s,
                    x_m=contact.touch.x_m + uniform(rng, -0.6, 0.6),
                    y_m=contact.touch.y_m + uniform(rng, -0.6, 0.6),
                    z_m=uniform(rng, 0.3, 0.9),
                    vx_mps=0.6 * vx + speed * math.cos(course),
                    vy_mps=0.6 * vy + speed * math.sin(course),
                    vz_mps=uniform(rng, 0.5, 0.5 + 0.3 * impact),
                    spin_radps=uniform(rng, -12, 12),
                    size_m=(uniform(rng, 0.06, 0.4), uniform(rng, 0.05, 0.25), 0.04),
                    grey=uniform(rng, 0.03, 0.8),
                )
            )
    return parts
