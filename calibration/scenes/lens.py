"""From a drawn frame to what a camera would deliver: light, exposure, glass, sensor, overlays.

One `Lens` is one camera in one scene. Frames are numpy RGB; internally they are float32 in 0..1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge_sdk.calibration.scenes.effects import Front
from edge_sdk.calibration.scenes.engine import Pose3d
from edge_sdk.calibration.scenes.geometry import Floats
from edge_sdk.calibration.scenes.night import NightLights, NightLook
from edge_sdk.calibration.scenes.overlays import Prints, Windscreen, draw_bars
from edge_sdk.calibration.scenes.plan import ScenePlan
from edge_sdk.calibration.scenes.scenery import Stage
from edge_sdk.calibration.scenes.streams import Rng, chance, stream, uniform
from edge_sdk.calibration.scenes.textures import Image, Plane
from edge_sdk.calibration.scenes.weather import Rain

_NOISE_FRAMES = 5


@dataclass(frozen=True)
class _Sensor:
    """Constant properties of one camera."""

    gain: Plane
    gamma: float
    contrast: float
    noise: float
    blur: int
    grey: bool
    saturation: float


def _sensor(rng: Rng, night: bool) -> _Sensor:
    return _Sensor(
        gain=(uniform(rng, 0.85, 1.2) * rng.uniform(0.9, 1.1, 3)).astype(np.float32),
        gamma=uniform(rng, 0.75, 1.25),
        contrast=uniform(rng, 0.8, 1.25),
        noise=uniform(rng, 0.002, 0.02) * (2.0 if night else 1.0),
        blur=int(rng.choice([0, 1, 2, 4], p=[0.4, 0.3, 0.2, 0.1])),
        grey=chance(rng, 0.25 if night else 0.04),
        saturation=uniform(rng, 0.4, 1.25),
    )


class Framing:
    """Where the drawn picture ends up in the delivered one: mirrored or not, squeezed between black bars or not."""

    def __init__(self, rng: Rng, size: tuple[int, int]) -> None:
        self.mirrored = chance(rng, 0.5)
        self.bars = draw_bars(rng, size)

    def place(self, box: Floats) -> Floats:
        """A box (x0, y0, x1, y1 as shares of the drawn picture) as shares of the delivered one."""
        x0, y0, x1, y1 = box
        if self.mirrored:
            x0, x1 = 1 - x1, 1 - x0
        return self.bars.place(np.array([x0, y0, x1, y1]))


class Lens:
    """Finishes the frames of one scene."""

    def __init__(self, plan: ScenePlan, stage: Stage, framing: Framing, size: tuple[int, int]) -> None:
        rng = stream(plan.seed, "lens")
        self._framing = framing
        self._light = plan.conditions.light
        night = self._light == "night"
        self._brightness = {"day": 1.0, "dusk": 0.55, "night": 0.22}[self._light]
        self._sensor = _sensor(rng, night)
        self._exposure = _exposure(rng, plan.conditions.duration_s)
        self._target = uniform(rng, 0.16, 0.34) if night else uniform(rng, 0.27, 0.52)
        self._metered: float | None = None
        self._vignette = _vignette(rng, size)
        self._noise = [rng.standard_normal((size[1], size[0], 1), dtype=np.float32) for _ in range(_NOISE_FRAMES)]
        self._shifts = rng.integers(0, size[0], 997)
        look = _night_look(rng, plan)
        self._lights = (
            None if self._light == "day" else NightLights(look, stage.street_lamps, plan.mount, plan.cars, size)
        )
        behind_glass = plan.mount.car is not None
        self._glass = Windscreen(rng, size) if behind_glass else None
        self._rain = Rain(rng, size, behind_glass) if plan.conditions.weather == "rain" else None
        self._prints = Prints(rng, size)
        self._front = None if plan.tricks is None else Front(plan.tricks, size)

    def finish(self, frame: Image, time_s: float, camera: Pose3d, pose: Floats, braking: Floats) -> Image:
        """The delivered frame for a drawn one."""
        image = frame.astype(np.float32) / 255.0
        if self._lights is not None:
            image = self._lights.light(image, camera, pose, braking)
            # A sensor's shoulder: lamps and lit asphalt saturate softly.
            image = 1 - np.exp(-1.4 * image)
        if self._rain is not None:
            image = self._rain.fall(image, time_s, self._brightness)
        if self._glass is not None:
            image = self._glass.through(image, self._brightness)
        if self._front is not None:
            image = self._front.over(image, time_s, self._brightness)
        image = self._develop(image * self._meter(image), time_s)
        if self._framing.mirrored:
            image = image[:, ::-1].copy()
        image = self._prints.draw(self._framing.bars.squeeze(image), time_s)
        return np.ascontiguousarray(np.clip(image * 255.0, 0, 255).astype(np.uint8))

    def _meter(self, image: Plane) -> float:
        """Exposure that brings the first frame to this camera's target brightness; kept for the clip."""
        if self._metered is None:
            self._metered = float(np.clip(self._target / max(float(image.mean()), 1e-3), 0.6, 3.0))
        return self._metered

    def _develop(self, image: Plane, time_s: float) -> Plane:
        sensor = self._sensor
        for _ in range(sensor.blur):
            image = _soften(image)
        index = min(round(time_s * 50), len(self._exposure) - 1)
        image = image * (self._vignette * float(self._exposure[index]) * sensor.gain)
        grey = image.mean(axis=2, keepdims=True)
        image = np.repeat(grey, 3, 2) if sensor.grey else grey + (image - grey) * sensor.saturation
        image = np.clip((image - 0.5) * sensor.contrast + 0.5, 0.0, 1.0) ** sensor.gamma
        tick = round(time_s * 30)
        noise = np.roll(self._noise[tick % _NOISE_FRAMES], int(self._shifts[tick % 997]), axis=1)
        return np.asarray(image + sensor.noise * noise)


def _night_look(rng: Rng, plan: ScenePlan) -> NightLook:
    dusk = plan.conditions.light == "dusk"
    return NightLook(
        ambient=uniform(rng, 0.55, 0.9) if dusk else uniform(rng, 0.12, 0.4),
        street=uniform(rng, 0.05, 0.3) if dusk else uniform(rng, 0.5, 1.3),
        headlights=uniform(rng, 0.05, 0.3) if dusk else uniform(rng, 0.5, 1.3),
        glow=uniform(rng, 0.25, 0.6) if dusk else uniform(rng, 0.5, 1.6),
        wet=plan.conditions.weather == "rain",
    )


def _soften(image: Plane) -> Plane:
    """One pass of a 1-2-1 kernel in both directions."""
    padded = np.pad(image, ((1, 1), (0, 0), (0, 0)), mode="edge")
    image = 0.25 * (padded[:-2] + padded[2:]) + 0.5 * image
    padded = np.pad(image, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return np.asarray(0.25 * (padded[:, :-2] + padded[:, 2:]) + 0.5 * image)


def _vignette(rng: Rng, size: tuple[int, int]) -> Plane:
    width, height = size
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    square = (columns / width - 0.5) ** 2 + (rows / height - 0.5) ** 2
    return np.asarray((1 - uniform(rng, 0.0, 0.9) * square)[..., None], np.float32)


def _exposure(rng: Rng, duration_s: float) -> Floats:
    """Exposure at 50 Hz: slow drift, and in some clips sudden steps (glare, tunnels, a lamp) with slow recovery."""
    times = np.arange(int(duration_s * 50) + 2) / 50
    rows = 1 + uniform(rng, 0.0, 0.05) * np.sin(2 * math.pi * times / uniform(rng, 2, 9) + uniform(rng, 0, 6))
    for _ in range(int(rng.poisson(0.45))):
        start, strength = uniform(rng, 0, duration_s), uniform(rng, -0.5, 0.8)
        rise, fall = uniform(rng, 0.02, 0.25), uniform(rng, 0.2, 1.2)
        rest = np.maximum(times - start, 0)
        rows *= 1 + strength * (1 - np.exp(-rest / rise)) * np.exp(-rest / fall)
    return np.asarray(rows)
