"""What lies between the scene and the viewer: bonnet, windscreen, printed clock, marks and black bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_sdk.calibration.scenes.geometry import Floats
from edge_sdk.calibration.scenes.streams import Rng, chance, uniform
from edge_sdk.calibration.scenes.textures import Plane

# Digits on a grid of 3 by 5, one number per row, most significant bit left.
_DIGITS = {
    "0": (7, 5, 5, 5, 7), "1": (2, 6, 2, 2, 7), "2": (7, 1, 7, 4, 7), "3": (7, 1, 3, 1, 7), "4": (5, 5, 7, 1, 1),
    "5": (7, 4, 7, 1, 7), "6": (7, 4, 7, 5, 7), "7": (7, 1, 2, 2, 2), "8": (7, 5, 7, 5, 7), "9": (7, 5, 7, 1, 7),
    ":": (0, 2, 0, 2, 0), "-": (0, 0, 7, 0, 0), " ": (0, 0, 0, 0, 0),
}  # fmt: skip


class Windscreen:
    """Bonnet, reflections and the view through the glass of a dashcam."""

    def __init__(self, rng: Rng, size: tuple[int, int]) -> None:
        width, height = size
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        u, v = columns / width, rows / height
        self._bonnet: Plane | None = None
        if chance(rng, 0.55):
            top = 1 - uniform(rng, 0.05, 0.18) + uniform(rng, 0.1, 0.35) * (u - uniform(rng, 0.4, 0.6)) ** 2
            self._bonnet = np.clip((v - top) * height / 2, 0, 1)[..., None]
        self._paint = rng.uniform(0.03, 0.5) * np.array([1.0, 1.0, 1.0], np.float32)
        self._shine = (0.5 + 0.8 * (1 - v))[..., None]
        glare = uniform(rng, 0.0, 0.14) if chance(rng, 0.4) else 0.0
        self._glare = (glare * np.clip(v * uniform(rng, 0.6, 1.4) - 0.3, 0, 1) * (0.6 + 0.4 * np.sin(u * 9)))[..., None]

    def through(self, image: Plane, brightness: float) -> Plane:
        """The frame as seen from behind the glass."""
        image = image + self._glare * brightness
        if self._bonnet is not None:
            image = image * (1 - self._bonnet) + self._bonnet * self._paint * self._shine * brightness
        return np.asarray(image)


class Prints:
    """A running clock and a static mark."""

    def __init__(self, rng: Rng, size: tuple[int, int]) -> None:
        self._width, self._height = size
        self._clock = int(rng.integers(0, 86_400)) if chance(rng, 0.45) else None
        self._date = f"{rng.integers(2015, 2027)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d} "
        self._dot = max(round(size[0] / 320 * uniform(rng, 0.8, 1.6)), 1)
        self._corner = (chance(rng, 0.5), chance(rng, 0.5))
        self._boxed = chance(rng, 0.4)
        self._mark = _mark(rng, size) if chance(rng, 0.25) else None

    def draw(self, image: Plane, time_s: float) -> Plane:
        """Print on a frame, in place."""
        if self._mark is not None:
            rows, columns, colour = self._mark
            image[rows, columns] = colour
        if self._clock is not None:
            self._print(image, time_s)
        return image

    def _print(self, image: Plane, time_s: float) -> None:
        now = (self._clock or 0) + int(time_s)
        text = f"{self._date}{now // 3600 % 24:02d}:{now // 60 % 60:02d}:{now % 60:02d}"
        dots = np.array(
            [
                [(_DIGITS[c][row] >> (2 - column)) & 1 if column < 3 else 0 for c in text for column in range(4)]
                for row in range(5)
            ],
            bool,
        )
        dots = np.repeat(np.repeat(dots, self._dot, 0), self._dot, 1)
        height, width = dots.shape
        top = 4 if self._corner[0] else self._height - height - 4
        left = 5 if self._corner[1] else max(self._width - width - 5, 0)
        area = image[top : top + height, left : left + width]
        if self._boxed:
            area *= 0.25
        area[dots[:, : area.shape[1]]] = 0.92


def _mark(rng: Rng, size: tuple[int, int]) -> tuple[slice, slice, Plane]:
    """A station logo: a block of one colour near a corner."""
    width, height = size
    wide, tall = int(width * uniform(rng, 0.06, 0.16)), int(height * uniform(rng, 0.04, 0.10))
    left = int(width * 0.03) if chance(rng, 0.5) else int(width * 0.97) - wide
    top = int(height * 0.05) if chance(rng, 0.4) else int(height * 0.94) - tall
    return slice(top, top + tall), slice(left, left + wide), rng.random(3).astype(np.float32)


@dataclass(frozen=True)
class Bars:
    """The part of the delivered picture, in pixels, that shows the scene; the rest is black."""

    width: int
    height: int
    inner_width: int
    inner_height: int

    @property
    def _corner(self) -> tuple[int, int]:
        return (self.width - self.inner_width) // 2, (self.height - self.inner_height) // 2

    def squeeze(self, image: Plane) -> Plane:
        """Squeeze a picture between its bars."""
        if (self.inner_width, self.inner_height) == (self.width, self.height):
            return image
        rows = np.arange(self.inner_height) * self.height // self.inner_height
        columns = np.arange(self.inner_width) * self.width // self.inner_width
        left, top = self._corner
        boxed = np.zeros_like(image)
        boxed[top : top + self.inner_height, left : left + self.inner_width] = image[rows][:, columns]
        return boxed

    def place(self, box: Floats) -> Floats:
        """A box (x0, y0, x1, y1 as shares of the picture) after squeezing."""
        left, top = self._corner
        full, inner = np.array([self.width, self.height] * 2), np.array([self.inner_width, self.inner_height] * 2)
        return np.asarray((box * inner + np.array([left, top] * 2)) / full)


def draw_bars(rng: Rng, size: tuple[int, int]) -> Bars:
    """Draw bars: most pictures have none; some are squeezed from the sides, some from above and below."""
    width, height = size
    draw, squeezed = rng.random(), uniform(rng, 0.6, 0.92)
    if draw < 0.12:
        return Bars(width, height, int(width * min(squeezed, 0.85)), height)
    if draw < 0.2:
        return Bars(width, height, width, int(height * max(squeezed, 0.72)))
    return Bars(width, height, width, height)
