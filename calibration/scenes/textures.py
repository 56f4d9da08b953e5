"""Procedural textures: the painted ground, facades, foliage and car palettes. All are RGB bytes [rows, columns, 3]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.scenes.geometry import Floats
from edge_sdk.calibration.scenes.roads import Road
from edge_sdk.calibration.scenes.streams import Rng, chance, uniform
from edge_sdk.calibration.scenes.vehicles import Paint

Image = NDArray[np.uint8]
Plane = NDArray[np.float32]
Colour = tuple[float, float, float]
GROUND_HALF_M = 30.0
PIXELS_PER_M = 7.0
# Shares and RGB of the usual car colours; most cars are white, black, grey or silver.
_CAR_COLOURS: tuple[tuple[float, Colour], ...] = (
    (0.27, (0.90, 0.90, 0.90)),
    (0.18, (0.07, 0.07, 0.08)),
    (0.17, (0.42, 0.43, 0.45)),
    (0.13, (0.68, 0.69, 0.71)),
    (0.08, (0.60, 0.08, 0.07)),
    (0.08, (0.10, 0.17, 0.42)),
    (0.03, (0.10, 0.28, 0.16)),
    (0.03, (0.78, 0.62, 0.12)),
    (0.03, (0.42, 0.30, 0.20)),
)


def _bytes(values: Plane) -> Image:
    return np.asarray(np.clip(values * 255.0, 0, 255), np.uint8)


def _grain(rng: Rng, shape: tuple[int, int], coarse: int) -> Plane:
    """Noise of unit range in blocks of `coarse` pixels."""
    rows, columns = -(-shape[0] // coarse), -(-shape[1] // coarse)
    small = rng.random((rows, columns), dtype=np.float32) - 0.5
    return np.repeat(np.repeat(small, coarse, 0), coarse, 1)[: shape[0], : shape[1]]


def car_palette(rng: Rng, lights_on: bool) -> Image:
    """The eight paints of one car."""
    shares = np.array([share for share, _ in _CAR_COLOURS])
    body = np.array(_CAR_COLOURS[int(rng.choice(len(shares), p=shares / shares.sum()))][1])
    palette = np.zeros((4, len(Paint), 3), np.float32)
    palette[:, Paint.BODY] = np.clip(body + rng.uniform(-0.07, 0.07, 3), 0.03, 1)
    palette[:, Paint.GLASS] = uniform(rng, 0.05, 0.22) * np.array([0.9, 1.0, 1.1])
    palette[:, Paint.TYRE] = 0.05
    palette[:, Paint.TRIM] = uniform(rng, 0.08, 0.25)
    palette[:, Paint.HEADLIGHT] = (1.0, 0.98, 0.9) if lights_on else (0.75, 0.77, 0.8)
    palette[:, Paint.TAIL_LIGHT] = (0.75, 0.05, 0.05) if lights_on else (0.45, 0.05, 0.05)
    palette[:, Paint.CARGO] = np.clip(uniform(rng, 0.35, 0.95) + rng.uniform(-0.12, 0.12, 3), 0, 1)
    palette[:, Paint.PLATE] = (0.85, 0.85, 0.78)
    return _bytes(palette)


def facade(rng: Rng, night: bool) -> Image:
    """A wall with 4 by 4 windows, to be repeated; some windows are lit at night."""
    size, cell = 128, 32
    wall = np.empty((size, size, 3), np.float32)
    wall[:] = uniform(rng, 0.35, 0.8) * np.array([1.0, uniform(rng, 0.88, 1.0), uniform(rng, 0.75, 1.0)])
    wall += _grain(rng, (size, size), 2)[..., None] * 0.07
    inset, top = int(rng.integers(4, 11)), int(rng.integers(4, 10))
    for row in range(4):
        for column in range(4):
            lit = night and chance(rng, 0.3)
            pane = (1.0, 0.85, 0.5) if lit else tuple(uniform(rng, 0.1, 0.35) * np.array([0.9, 1.0, 1.15]))
            wall[row * cell + top : (row + 1) * cell - 6, column * cell + inset : (column + 1) * cell - inset] = pane
    return _bytes(wall)


def foliage(rng: Rng) -> Image:
    """Blotchy leaves with a trunk colour in the last rows."""
    leaves = np.empty((32, 32, 3), np.float32)
    leaves[:] = (uniform(rng, 0.12, 0.3), uniform(rng, 0.25, 0.42), uniform(rng, 0.08, 0.18))
    leaves += _grain(rng, (32, 32), 2)[..., None] * 0.18
    leaves[28:] = (0.28, 0.21, 0.15)
    return _bytes(leaves)


@dataclass(frozen=True)
class Ground:
    """The painted ground and the stretch of x it covers; rows run from y = -GROUND_HALF_M upwards."""

    image: Image
    low_m: float
    high_m: float


class _Canvas:
    """Paints rectangles given in world metres."""

    def __init__(self, low_m: float, high_m: float) -> None:
        self.low_m = low_m
        self.rows, self.columns = int(2 * GROUND_HALF_M * PIXELS_PER_M), int((high_m - low_m) * PIXELS_PER_M)
        self.image = np.zeros((self.rows, self.columns, 3), np.float32)

    def area(self, x0: float, x1: float, y0: float, y1: float) -> tuple[slice, slice]:
        """Slices of a rectangle; at least one pixel wide and high."""
        columns = [round((x - self.low_m) * PIXELS_PER_M) for x in sorted((x0, x1))]
        rows = [round((y + GROUND_HALF_M) * PIXELS_PER_M) for y in sorted((y0, y1))]
        return (
            slice(max(rows[0], 0), max(rows[1], rows[0] + 1, 0)),
            slice(max(columns[0], 0), max(columns[1], columns[0] + 1, 0)),
        )

    def fill(self, x0: float, x1: float, y0: float, y1: float, colour: Colour | Floats) -> None:
        """Paint a rectangle."""
        self.image[self.area(x0, x1, y0, y1)] = colour

    def shade(self, x0: float, x1: float, y0: float, y1: float, factor: float) -> None:
        """Darken or brighten a rectangle."""
        self.image[self.area(x0, x1, y0, y1)] *= factor


def paint_ground(rng: Rng, road: Road, low_m: float, high_m: float, wet: bool) -> Ground:
    """Asphalt with wear, lane marks, kerbs, sidewalks and what lies beyond them."""
    canvas = _Canvas(low_m, high_m)
    shape = (canvas.rows, canvas.columns)
    beyond = [(0.30, 0.36, 0.18), (0.42, 0.37, 0.28), (0.50, 0.50, 0.48)][int(rng.integers(3))]
    canvas.image[:] = np.array(beyond) * uniform(rng, 0.8, 1.15)
    tone = uniform(rng, 0.22, 0.46) * (0.75 if wet else 1.0)
    asphalt = np.array([tone, tone, tone * uniform(rng, 0.96, 1.06)])
    pavement = uniform(rng, 0.45, 0.68) * np.array([1.0, 0.98, 0.94])
    _surfaces(canvas, road, asphalt, pavement, low_m, high_m)
    _wear(rng, canvas, road, low_m, high_m)
    white: Colour = (uniform(rng, 0.65, 0.95),) * 3
    _marks(rng, canvas, road, white, low_m, high_m)
    if road.cross_lanes:
        _crossing_marks(rng, canvas, road, white)
    canvas.image *= (
        1.0
        + 0.16 * _grain(rng, shape, 1)[..., None]
        + 0.10 * _grain(rng, shape, 5)[..., None]
        + 0.12 * _grain(rng, shape, 29)[..., None]
    )
    return Ground(_bytes(canvas.image), low_m, high_m)


def _surfaces(canvas: _Canvas, road: Road, asphalt: Floats, pavement: Floats, low: float, high: float) -> None:
    half, cross, walk = road.half_m, road.cross_half_m, road.sidewalk_m
    canvas.fill(low, high, -half - walk, half + walk, pavement)
    if cross:
        canvas.fill(-cross - walk, cross + walk, -GROUND_HALF_M, GROUND_HALF_M, pavement)
    for y in (-half, half):
        canvas.fill(low, high, y - 0.15, y + 0.15, pavement * 0.75)
    canvas.fill(low, high, -half, half, asphalt)
    if cross:
        canvas.fill(-cross, cross, -GROUND_HALF_M, GROUND_HALF_M, asphalt)
    if road.median_m:
        canvas.fill(low, high, -road.median_m / 2, road.median_m / 2, pavement * 0.8)


def _wear(rng: Rng, canvas: _Canvas, road: Road, low: float, high: float) -> None:
    for direction in (1, -1):
        for lane in range(road.lanes):
            y, worn = road.lane_y(direction, lane), uniform(rng, 0.82, 1.0)
            for track in (-0.8, 0.8):
                canvas.shade(low, high, y + track - 0.25, y + track + 0.25, worn)
    for _ in range(int(rng.integers(6, 26))):
        x, y = uniform(rng, low, high), uniform(rng, -road.half_m, road.half_m)
        canvas.shade(x, x + uniform(rng, 0.5, 9.0), y, y + uniform(rng, 0.1, 2.0), uniform(rng, 0.6, 1.2))


def _marks(rng: Rng, canvas: _Canvas, road: Road, white: Colour, low: float, high: float) -> None:
    """Lane lines, edge lines and the centre line, left out on the crossing."""
    stop = road.stop_m if road.cross_lanes else 0.0
    pieces = [(low, -stop), (stop, high)] if stop else [(low, high)]
    dash, period = uniform(rng, 2.5, 5.0), uniform(rng, 7.0, 13.0)
    centre: Colour = (0.85, 0.68, 0.15) if chance(rng, 0.35) else white
    edge = road.median_m / 2 + road.lanes * road.lane_m
    for x0, x1 in pieces:
        if not road.median_m:
            for y in (-0.16, 0.16) if chance(rng, 0.5) else (0.0,):
                canvas.fill(x0, x1, y - 0.07, y + 0.07, centre)
        for side in (1, -1):
            if road.shoulder_m > 0.6 and not road.cross_lanes:
                canvas.fill(x0, x1, side * edge - 0.07, side * edge + 0.07, white)
            for lane in range(1, road.lanes):
                y = side * (road.median_m / 2 + lane * road.lane_m)
                for x in np.arange(x0, x1, period):
                    canvas.fill(x, min(x + dash, x1), y - 0.07, y + 0.07, white)


def _crossing_marks(rng: Rng, canvas: _Canvas, road: Road, white: Colour) -> None:
    """Stop lines and, mostly, zebra crossings on all four arms."""
    zebra, half, cross = chance(rng, 0.75), road.half_m, road.cross_half_m
    canvas.fill(-0.07, 0.07, -GROUND_HALF_M, -half, white)
    canvas.fill(-0.07, 0.07, half, GROUND_HALF_M, white)
    for side in (1, -1):
        canvas.fill(side * road.stop_m, side * (road.stop_m + 0.4), 0, side * half, white)
        canvas.fill(0, -side * cross, side * road.cross_stop_m, side * (road.cross_stop_m + 0.4), white)
        if not zebra:
            continue
        for y in np.arange(-half + 0.3, half - 0.5, 1.1):
            canvas.fill(side * (cross + 0.8), side * (cross + 3.4), y, y + 0.55, white)
        for x in np.arange(-cross + 0.3, cross - 0.5, 1.1):
            canvas.fill(x, x + 0.55, side * (half + 0.8), side * (half + 3.4), white)
