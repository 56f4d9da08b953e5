"""Cars: dimensions and masses of the usual kinds, and the triangle meshes that draw them.

A mesh is textured by a palette: eight columns of flat colour, one per `Paint`, so a whole car is one geometry.
Model coordinates: x forward, y left, z up, origin on the ground under the centre of the outline.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.scenes.geometry import Outline
from edge_sdk.calibration.scenes.streams import Rng, uniform


@dataclass(frozen=True, kw_only=True)
class Vehicle:
    """Outline, height and mass of one vehicle; `kind` picks the bodywork."""

    kind: str
    length_m: float
    width_m: float
    height_m: float
    mass_kg: float

    @property
    def outline(self) -> Outline:
        """Length and width, in metres."""
        return self.length_m, self.width_m

    @property
    def wheelbase_m(self) -> float:
        """Distance between the axles."""
        return 0.6 * self.length_m


_KINDS: dict[str, tuple[float, tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    # kind: share, length_m, width_m, height_m, mass_kg
    "sedan": (0.42, (4.3, 4.9), (1.72, 1.88), (1.40, 1.50), (1250, 1700)),
    "hatch": (0.22, (3.6, 4.2), (1.62, 1.80), (1.45, 1.58), (950, 1350)),
    "suv": (0.18, (4.4, 4.9), (1.82, 1.95), (1.62, 1.80), (1600, 2200)),
    "van": (0.10, (4.8, 5.9), (1.90, 2.05), (1.95, 2.50), (1800, 2800)),
    "truck": (0.05, (7.5, 10.0), (2.30, 2.50), (3.00, 3.70), (7000, 14000)),
    "bus": (0.03, (9.5, 12.0), (2.40, 2.55), (2.90, 3.20), (9000, 15000)),
}


def draw_vehicle(rng: Rng, *, light_only: bool = False) -> Vehicle:
    """Draw a vehicle; `light_only` leaves out trucks and buses."""
    names = [name for name in _KINDS if not (light_only and name in ("truck", "bus"))]
    shares = np.array([_KINDS[name][0] for name in names])
    kind = names[int(rng.choice(len(names), p=shares / shares.sum()))]
    _, length, width, height, mass = _KINDS[kind]
    return Vehicle(
        kind=kind,
        length_m=uniform(rng, *length),
        width_m=uniform(rng, *width),
        height_m=uniform(rng, *height),
        mass_kg=uniform(rng, *mass),
    )


class Paint(enum.IntEnum):
    """Columns of a vehicle's palette."""

    BODY = 0
    GLASS = 1
    TYRE = 2
    TRIM = 3
    HEADLIGHT = 4
    TAIL_LIGHT = 5
    CARGO = 6
    PLATE = 7


@dataclass(frozen=True)
class Mesh:
    """Triangles with one texture coordinate a vertex; vertices are not shared, so shading is flat."""

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    texcoords: NDArray[np.float32]


class MeshBuilder:
    """Collects quads and triangles into a `Mesh`."""

    def __init__(self) -> None:
        self._vertices: list[tuple[float, float, float]] = []
        self._faces: list[tuple[int, int, int]] = []
        self._texcoords: list[tuple[float, float]] = []

    def polygon(self, points: list[tuple[float, float, float]], uv: list[tuple[float, float]]) -> None:
        """A convex polygon, counter-clockwise from outside."""
        first = len(self._vertices)
        self._vertices += points
        self._texcoords += uv
        self._faces += [(first, first + i, first + i + 1) for i in range(1, len(points) - 1)]

    def painted(self, points: list[tuple[float, float, float]], paint: Paint) -> None:
        """A polygon in one palette colour."""
        self.polygon(points, [((paint + 0.5) / len(Paint), 0.5)] * len(points))

    def box(self, low: tuple[float, float, float], high: tuple[float, float, float], paint: Paint) -> None:
        """An axis-aligned box in one palette colour, without its bottom."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        self.painted([(x1, y0, z0), (x1, y1, z0), (x1, y1, z1), (x1, y0, z1)], paint)
        self.painted([(x0, y1, z0), (x0, y0, z0), (x0, y0, z1), (x0, y1, z1)], paint)
        self.painted([(x1, y1, z0), (x0, y1, z0), (x0, y1, z1), (x1, y1, z1)], paint)
        self.painted([(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)], paint)
        self.painted([(x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)], paint)

    def build(self) -> Mesh:
        """The collected mesh."""
        return Mesh(
            np.array(self._vertices, np.float32),
            np.array(self._faces, np.int32),
            np.array(self._texcoords, np.float32),
        )


def _prism(
    builder: MeshBuilder,
    profile: list[tuple[float, float]],
    half_bottom_m: float,
    half_top_m: float,
    sides: Paint,
    tops: list[Paint],
) -> None:
    """Extrude a side profile (x, z), rear bottom first and clockwise seen from the left, narrowing towards the top."""
    low, high = min(z for _, z in profile), max(z for _, z in profile)

    def half(z: float) -> float:
        return half_bottom_m + (half_top_m - half_bottom_m) * (z - low) / (high - low)

    left = [(x, half(z), z) for x, z in profile]
    right = [(x, -half(z), z) for x, z in profile]
    builder.painted(left, sides)
    builder.painted(right[::-1], sides)
    for i, paint in enumerate(tops):
        builder.painted([left[i], right[i], right[i + 1], left[i + 1]], paint)


def _wheels(builder: MeshBuilder, vehicle: Vehicle, radius_m: float) -> None:
    for x in (-0.5 * vehicle.wheelbase_m, 0.5 * vehicle.wheelbase_m):
        angles = np.linspace(0, 2 * np.pi, 9)[:-1]
        for side in (-1.0, 1.0):
            y = side * (vehicle.width_m / 2 + 0.01)
            disc = [(x + radius_m * float(np.cos(a)), y, radius_m + radius_m * float(np.sin(a))) for a in angles]
            builder.painted(disc[:: -int(side)], Paint.TYRE)


def _lamps(builder: MeshBuilder, vehicle: Vehicle, z_m: float) -> None:
    half, side, tall = vehicle.length_m / 2 + 0.02, vehicle.width_m / 2, 0.16
    for y0, y1 in ((-side * 0.95, -side * 0.55), (side * 0.55, side * 0.95)):
        z0, z1 = z_m, z_m + tall
        builder.painted([(half, y0, z0), (half, y1, z0), (half, y1, z1), (half, y0, z1)], Paint.HEADLIGHT)
        builder.painted([(-half, y1, z0), (-half, y0, z0), (-half, y0, z1), (-half, y1, z1)], Paint.TAIL_LIGHT)
    z0, z1 = z_m - 0.25, z_m - 0.12
    builder.painted([(-half, 0.26, z0), (-half, -0.26, z0), (-half, -0.26, z1), (-half, 0.26, z1)], Paint.PLATE)
    builder.painted([(half, -0.26, z0), (half, 0.26, z0), (half, 0.26, z1), (half, -0.26, z1)], Paint.PLATE)


# Cabin outlines as shares of the length from the rear: foot and roof of the rear window, roof and foot of the
# windscreen; and the height of the waist as a share of the height.
_CABINS = {
    "sedan": (0.12, 0.24, 0.55, 0.72, 0.62),
    "hatch": (0.02, 0.10, 0.56, 0.76, 0.62),
    "suv": (0.02, 0.07, 0.58, 0.74, 0.60),
    "van": (0.01, 0.03, 0.74, 0.90, 0.55),
}


def vehicle_mesh(vehicle: Vehicle) -> Mesh:
    """The bodywork of a vehicle: a hull, a cabin or a load, wheels, lamps and plates."""
    builder = MeshBuilder()
    if vehicle.kind in _CABINS:
        _car_body(builder, vehicle)
    else:
        _heavy_body(builder, vehicle)
    return builder.build()


def _car_body(builder: MeshBuilder, vehicle: Vehicle) -> None:
    rear_foot, rear_roof, front_roof, front_foot, waist_share = _CABINS[vehicle.kind]
    length, half, height = vehicle.length_m, vehicle.width_m / 2, vehicle.height_m
    sill, waist = 0.22, waist_share * height

    def x(share: float) -> float:
        return (share - 0.5) * length

    nose = waist * 0.80
    hull = [
        (x(0), sill),
        (x(0), waist * 0.92),
        (x(rear_foot), waist),
        (x(front_foot), waist),
        (x(0.97), nose),
        (x(1), nose * 0.8),
        (x(1), sill),
    ]
    _prism(builder, hull, half, half * 0.96, Paint.BODY, [Paint.BODY] * 5 + [Paint.TRIM])
    glass = [(x(rear_foot), waist), (x(rear_roof), height), (x(front_roof), height), (x(front_foot), waist)]
    _prism(builder, glass, half * 0.93, half * 0.76, Paint.GLASS, [Paint.GLASS, Paint.BODY, Paint.GLASS])
    _wheels(builder, vehicle, 0.31)
    _lamps(builder, vehicle, waist * 0.66)


def _heavy_body(builder: MeshBuilder, vehicle: Vehicle) -> None:
    length, half, height = vehicle.length_m, vehicle.width_m / 2, vehicle.height_m
    if vehicle.kind == "truck":
        split = length / 2 - 2.1
        builder.box((-length / 2, -half, 0.9), (split - 0.3, half, height), Paint.CARGO)
        builder.box((-length / 2, -half * 0.8, 0.5), (split, half * 0.8, 0.95), Paint.TRIM)
        builder.box((split, -half * 0.96, 0.4), (length / 2, half * 0.96, 0.72 * height), Paint.BODY)
        window_low, window_high, window_rear = 0.45 * height, 0.66 * height, split + 0.7
    else:
        builder.box((-length / 2, -half, 0.35), (length / 2, half, height), Paint.BODY)
        window_low, window_high, window_rear = 0.42 * height, 0.78 * height, -length / 2 + 0.4
    front, side = length / 2 + 0.01, half + 0.01
    z0, z1 = window_low, window_high
    builder.painted(
        [(front, -half * 0.9, z0), (front, half * 0.9, z0), (front, half * 0.9, z1), (front, -half * 0.9, z1)],
        Paint.GLASS,
    )
    builder.painted(
        [(front - 0.3, side, z0), (window_rear, side, z0), (window_rear, side, z1), (front - 0.3, side, z1)],
        Paint.GLASS,
    )
    builder.painted(
        [(window_rear, -side, z0), (front - 0.3, -side, z0), (front - 0.3, -side, z1), (window_rear, -side, z1)],
        Paint.GLASS,
    )
    _wheels(builder, vehicle, 0.48)
    _lamps(builder, vehicle, 0.7)
