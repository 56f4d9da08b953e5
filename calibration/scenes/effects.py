"""Effects on a camera and its file that look like events but are none: jolts, wipers, glare, freezes, cuts.

They are drawn in the same way for every outcome, so that none of them gives a crash away. Freezes and cuts keep away
from the planned time of the incident, which is known when they are drawn, not from the time that physics give it. A
contact is mostly within a second of its plan, but nothing ensures that a much earlier or later one can be seen (in the
first family's plans contacts came up to 4.3 s before and 2.5 s after), nor the moment when everything is at rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from edge_sdk.calibration.scenes.cameras import Shake
from edge_sdk.calibration.scenes.physics import RECORD_S
from edge_sdk.calibration.scenes.streams import Rng, chance, uniform
from edge_sdk.calibration.scenes.textures import Plane
from edge_sdk.clips import Effect, View

# How often each effect is drawn; potholes and wipers belong to dashcams only, a roadside pole is knocked instead.
EFFECT_SHARES: dict[Effect, float] = {
    "pothole": 0.22,
    "wipers": 0.14,
    "glare": 0.14,
    "freeze": 0.07,
    "cut": 0.06,
    "low_bitrate": 0.20,
}
# Freezes and cuts stay this far from the planned incident. Most collisions are foreseeable for less time: labels look
# 2 s ahead of each moment, and such moments reach back up to 2.5 s in crashes of the first family, 3.1 s in the soft.
_CLEAR_BEFORE_S = 2.3
_CLEAR_AFTER_S = 1.5


@dataclass(frozen=True, kw_only=True)
class Knock:
    """A jolt of the camera: nods by exp(-t / fade) sin(2 pi tone t)."""

    at_s: float
    strength_rad: float
    tone_hz: float
    fade_s: float = 0.2


@dataclass(frozen=True, kw_only=True)
class Glare:
    """A light that blinds the camera for a while, at a place of the picture (shares of width and height)."""

    at_s: float
    lasts_s: float
    strength: float
    u: float
    v: float
    drift_per_s: float

    def level(self, time_s: float) -> float:
        """The strength at a time, which rises and falls as sin squared."""
        share = (time_s - self.at_s) / self.lasts_s
        return self.strength * math.sin(math.pi * share) ** 2 if 0.0 < share < 1.0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Wiper:
    """Two arms that swing across and back in `swing_s`, once a period."""

    period_s: float
    phase_s: float
    swing_s: float


@dataclass(frozen=True, kw_only=True)
class Tricks:
    """All effects of one scene; `bitrate` is the share of the stream's bits that is left."""

    effects: tuple[Effect, ...] = ()
    knocks: tuple[Knock, ...] = ()
    glares: tuple[Glare, ...] = ()
    wiper: Wiper | None = None
    freeze_s: tuple[float, float] | None = None
    cut_s: float | None = None
    bitrate: float = 1.0

    def shown_frame(self, index: int, fps: float) -> float:
        """The frame that the file shows at an index: during a freeze, the one at which it began."""
        if self.freeze_s is None or not self.freeze_s[0] <= index / fps < self.freeze_s[1]:
            return index
        return self.freeze_s[0] * fps

    def knocked(self, shake: Shake) -> Shake:
        """The shake of the camera with the knocks in it."""
        rows = shake.rows.copy()
        times = np.arange(len(rows)) * RECORD_S
        for knock in self.knocks:
            rest = np.maximum(times - knock.at_s, 0.0)
            ring = knock.strength_rad * np.exp(-rest / knock.fade_s) * np.sin(2 * math.pi * knock.tone_hz * rest)
            rows[:, 1] += ring
            rows[:, 2] += 0.4 * ring
            rows[:, 3] += ring
        return replace(shake, rows=rows)


def draw_tricks(rng: Rng, view: View, duration_s: float, incident_s: float) -> Tricks:
    """Draw the effects of a scene; every draw is made, used or not, so that effects are independent of each other."""
    dashcam = view == "dashcam"
    drawn: dict[Effect, bool] = {effect: chance(rng, share) for effect, share in EFFECT_SHARES.items()}
    knocks = tuple(_knock(rng, duration_s, dashcam) for _ in range(int(rng.integers(1, 4))))
    wiper = Wiper(period_s=uniform(rng, 0.8, 2.5), phase_s=uniform(rng, 0, 3), swing_s=uniform(rng, 0.5, 0.9))
    glares = tuple(_glare(rng, duration_s) for _ in range(int(rng.integers(1, 3))))
    freeze, cut = _away(rng, duration_s, incident_s, uniform(rng, 0.3, 1.3)), uniform(rng, 0.6, 4.0)
    bitrate = math.exp(uniform(rng, math.log(0.12), math.log(0.4)))
    drawn["wipers"] &= dashcam
    drawn["pothole"] &= dashcam or chance(rng, 0.5)
    drawn["freeze"] &= freeze is not None
    drawn["cut"] &= cut < incident_s - _CLEAR_BEFORE_S
    return Tricks(
        effects=tuple(effect for effect, there in drawn.items() if there),
        knocks=knocks if drawn["pothole"] else (),
        glares=glares if drawn["glare"] else (),
        wiper=wiper if drawn["wipers"] else None,
        freeze_s=freeze if drawn["freeze"] else None,
        cut_s=cut if drawn["cut"] else None,
        bitrate=bitrate if drawn["low_bitrate"] else 1.0,
    )


def _knock(rng: Rng, duration_s: float, dashcam: bool) -> Knock:
    # A blow of 8 m/s to the own car nods a dashcam by 0.02 to 0.05 rad: a deep pothole does as much.
    strength = uniform(rng, 0.012, 0.05) if dashcam else uniform(rng, 0.004, 0.02)
    return Knock(at_s=uniform(rng, 0.2, duration_s - 0.2), strength_rad=strength, tone_hz=uniform(rng, 3.0, 8.0))


def _glare(rng: Rng, duration_s: float) -> Glare:
    return Glare(
        at_s=uniform(rng, -0.5, duration_s - 0.5),
        lasts_s=uniform(rng, 0.5, 3.0),
        strength=uniform(rng, 0.4, 1.3),
        u=uniform(rng, 0.1, 0.9),
        v=uniform(rng, 0.05, 0.6),
        drift_per_s=uniform(rng, -0.15, 0.15),
    )


def _away(rng: Rng, duration_s: float, incident_s: float, lasts_s: float) -> tuple[float, float] | None:
    """A stretch of time clear of the incident, if there is one: before it, or else after it."""
    early, late = incident_s - _CLEAR_BEFORE_S - lasts_s, incident_s + _CLEAR_AFTER_S
    if early > 0.3:
        start = uniform(rng, 0.2, early)
    elif late < duration_s - lasts_s - 0.2:
        start = uniform(rng, late, duration_s - lasts_s - 0.1)
    else:
        return None
    return start, start + lasts_s


class Front:
    """What is in front of the lens: glare and wipers."""

    def __init__(self, tricks: Tricks, size: tuple[int, int]) -> None:
        width, height = size
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        self._u, self._v, self._aspect = columns / width, rows / height, width / height
        self._tricks = tricks

    def over(self, image: Plane, time_s: float, brightness: float) -> Plane:
        """Add glare and wipers to a frame of linear RGB."""
        for glare in self._tricks.glares:
            level = glare.level(time_s)
            if level > 0.0:
                u = glare.u + glare.drift_per_s * (time_s - glare.at_s)
                away = np.hypot((self._u - u) * self._aspect, self._v - glare.v)
                light = level * (np.exp(-away / 0.16) * 1.6 + 0.28) * (0.5 + 0.5 * brightness)
                image = image + light[..., None] * np.array([1.0, 0.96, 0.88], np.float32)
        return self._wiped(np.asarray(image, np.float32), time_s)

    def _wiped(self, image: Plane, time_s: float) -> Plane:
        wiper = self._tricks.wiper
        if wiper is None:
            return image
        phase = (time_s + wiper.phase_s) % wiper.period_s
        if phase > wiper.swing_s:
            return image
        angle = math.radians(150) * math.sin(math.pi * phase / wiper.swing_s) + math.radians(8)
        for pivot in (0.36, 0.86):
            dx, dy = self._u - pivot, (1.06 - self._v) / self._aspect
            across = np.abs(dx * math.sin(angle) + dy * math.cos(angle))
            along = -dx * math.cos(angle) + dy * math.sin(angle)
            arm = np.clip(1.8 - across / 0.010, 0, 1) * (along > 0) * (along < 0.62)
            image = image * (1 - 0.9 * arm[..., None])
        return image
