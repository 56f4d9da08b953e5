"""Rain in front of the lens: a grey veil, streaks, drops on the glass and wipers."""

from __future__ import annotations

import math

import numpy as np

from edge_sdk.calibration.scenes.night import Enlarge
from edge_sdk.calibration.scenes.streams import Rng, chance, uniform
from edge_sdk.calibration.scenes.textures import Plane


class Rain:
    """The rain of one scene."""

    def __init__(self, rng: Rng, size: tuple[int, int], behind_glass: bool) -> None:
        self._width, self._height = size
        self._veil = uniform(rng, 0.05, 0.3)
        self._tone = uniform(rng, 0.4, 0.65)
        self._strength = uniform(rng, 0.0, 0.16)
        self._streaks = [_streaks(rng, size, int(rng.integers(40, 220))) for _ in range(4)]
        self._order = rng.integers(0, 4, 64)
        self._shift = rng.integers(0, size[0], 64)
        self._enlarge = Enlarge(size, 8)
        self._drops = (
            _drops(rng, size, int(rng.integers(3, 26))) if chance(rng, 0.85 if behind_glass else 0.35) else None
        )
        self._wiper_period_s = uniform(rng, 0.9, 2.6) if behind_glass and chance(rng, 0.7) else math.inf
        self._wiper_phase_s = uniform(rng, 0.0, 3.0)
        self._tick_s = 0.1

    def fall(self, image: Plane, time_s: float, brightness: float) -> Plane:
        """Add the rain to one RGB frame in 0..1."""
        image = image * (1 - self._veil) + self._veil * self._tone * brightness
        if self._drops is not None:
            step = 8
            height, width = image.shape[0] // step * step, image.shape[1] // step * step
            small = image[:height, :width].reshape(height // step, step, width // step, step, 3).mean(axis=(1, 3))
            image += self._drops[..., None] * (self._enlarge(small) * 1.12 - image)
        tick = int(time_s / self._tick_s + 0.5) % 64
        streaks = np.roll(self._streaks[int(self._order[tick])], int(self._shift[tick]), axis=1)
        image += (self._strength * brightness) * streaks[..., None]
        return self._wipe(image, time_s)

    def _wipe(self, image: Plane, time_s: float) -> Plane:
        """Draw a dark arm that swings across and back in 0.7 s, once per period."""
        if math.isinf(self._wiper_period_s):
            return image
        phase = (time_s + self._wiper_phase_s) % self._wiper_period_s
        if phase > 0.7:
            return image
        angle = math.radians(172) * math.sin(math.pi * phase / 0.7) + math.radians(4)
        rows, columns = np.mgrid[0 : self._height, 0 : self._width].astype(np.float32)
        dx, dy = columns / self._width - 0.62, (1.08 - rows / self._height) * self._height / self._width
        across = np.abs(dx * math.sin(angle) + dy * math.cos(angle))
        along = -dx * math.cos(angle) + dy * math.sin(angle)
        arm = np.clip(1.6 - across / 0.012, 0, 1) * (along > 0) * (along < 0.75)
        return np.asarray(image * (1 - 0.85 * arm[..., None]))


def _streaks(rng: Rng, size: tuple[int, int], count: int) -> Plane:
    width, height = size
    plane = np.zeros((height, width), np.float32)
    lean = uniform(rng, -0.2, 0.2)
    for _ in range(count):
        x, y, length = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(6, 22) * height / 192)
        rows = np.arange(y, min(y + length, height))
        columns = (x + (rows - y) * lean).astype(int) % width
        plane[rows, columns] += uniform(rng, 0.3, 1.0)
    return plane


def _drops(rng: Rng, size: tuple[int, int], count: int) -> Plane:
    """Where drops on the glass blur the picture, 0..1."""
    width, height = size
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    plane = np.zeros((height, width), np.float32)
    for _ in range(count):
        x, y, radius = uniform(rng, 0, width), uniform(rng, 0, height), uniform(rng, 0.008, 0.035) * width
        square = ((columns - x) ** 2 + ((rows - y) * uniform(rng, 0.7, 1.2)) ** 2) / radius**2
        plane = np.maximum(plane, np.clip(1.4 - square, 0, 1) * 0.95)
    return plane
