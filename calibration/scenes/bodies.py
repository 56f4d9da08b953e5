"""Bodies other than cars, trucks and buses: people on foot, cyclists, guard rails and things lost on the road.

To the physics each is a `Vehicle`: a box with a mass that slides and turns in the plane. People who walk or ride have a
driver as well. A body is drawn as one mesh and, for legs, two more that alternate; every geometry costs time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from edge_sdk.calibration.scenes.physics import Car, Track
from edge_sdk.calibration.scenes.streams import Rng, uniform
from edge_sdk.calibration.scenes.textures import Image, car_palette
from edge_sdk.calibration.scenes.vehicles import Mesh, MeshBuilder, Paint, Vehicle, vehicle_mesh

BodyKind = Literal["pedestrian", "cyclist", "barrier", "object"]
BODY_KINDS: tuple[BodyKind, ...] = ("pedestrian", "cyclist", "barrier", "object")
WITH_LEGS: tuple[BodyKind, ...] = ("pedestrian", "cyclist")
# Too light to shake a car, break parts off it or raise dust when it hits them.
LIGHT_KINDS: tuple[BodyKind, ...] = ("pedestrian", "cyclist", "object")
_SIZES: dict[BodyKind, tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    # kind: length_m, width_m, height_m, mass_kg; a guard rail is as good as fixed to the ground.
    "pedestrian": ((0.38, 0.46), (0.46, 0.56), (1.50, 1.90), (50, 95)),
    "cyclist": ((1.65, 1.85), (0.50, 0.62), (1.60, 1.85), (70, 110)),
    "barrier": ((45.0, 80.0), (0.30, 0.40), (0.75, 0.90), (2e6, 2e6)),
    "object": ((0.5, 1.3), (0.5, 1.3), (0.30, 0.90), (15, 120)),
}


def draw_body(rng: Rng, kind: BodyKind) -> Vehicle:
    """Draw the size and mass of a body."""
    length, width, height, mass = (uniform(rng, *span) for span in _SIZES[kind])
    return Vehicle(kind=kind, length_m=length, width_m=width, height_m=height, mass_kg=mass)


def body_palette(rng: Rng, vehicle: Vehicle, lights_on: bool) -> Image:
    """The paints of a vehicle or a body; for people, the glass paint is skin and the trim paint is trousers."""
    palette = car_palette(rng, lights_on)
    if vehicle.kind in WITH_LEGS:
        palette[:, Paint.BODY] = rng.integers(20, 236, 3)
        palette[:, Paint.TRIM] = rng.integers(15, 130, 3)
        palette[:, Paint.GLASS] = (np.array([224, 172, 140]) * uniform(rng, 0.45, 1.05)).astype(np.uint8)
    return palette


def body_mesh(vehicle: Vehicle) -> Mesh:
    """The mesh of a vehicle or a body, without legs."""
    builder = MeshBuilder()
    if vehicle.kind == "pedestrian":
        _person(builder, vehicle.height_m)
    elif vehicle.kind == "cyclist":
        _rider(builder, vehicle)
    elif vehicle.kind == "barrier":
        _rail(builder, vehicle)
    elif vehicle.kind == "object":
        half = vehicle.length_m / 2, vehicle.width_m / 2
        builder.box((-half[0], -half[1], 0.0), (half[0], half[1], vehicle.height_m), Paint.CARGO)
    else:
        return vehicle_mesh(vehicle)
    return builder.build()


def light_cars(cars: Sequence[Car]) -> frozenset[int]:
    """Which of the cars are light bodies."""
    return frozenset(i for i, car in enumerate(cars) if car.vehicle.kind in LIGHT_KINDS)


def hard_contacts(track: Track, cars: Sequence[Car]) -> Track:
    """The track without the contacts of light bodies."""
    light = light_cars(cars)
    return replace(
        track, contacts=tuple(c for c in track.contacts if c.touch.first not in light and c.touch.second not in light)
    )


def leg_meshes(vehicle: Vehicle) -> tuple[Mesh, Mesh]:
    """Both phases of a step, or of a turn of the pedals."""
    return _legs(vehicle, 1.0), _legs(vehicle, -1.0)


def _person(builder: MeshBuilder, height_m: float) -> None:
    hip, neck = 0.47 * height_m, 0.84 * height_m
    builder.box((-0.12, -0.21, hip), (0.12, 0.21, neck), Paint.BODY)
    builder.box((-0.07, -0.28, hip + 0.05), (0.07, -0.21, neck - 0.03), Paint.BODY)
    builder.box((-0.07, 0.21, hip + 0.05), (0.07, 0.28, neck - 0.03), Paint.BODY)
    builder.box((-0.10, -0.09, neck + 0.02), (0.11, 0.09, height_m), Paint.GLASS)


def _rider(builder: MeshBuilder, vehicle: Vehicle) -> None:
    """Wheels, a frame, and somebody leaning forward on it."""
    reach, height = vehicle.length_m / 2 - 0.33, vehicle.height_m
    for x in (-reach, reach):
        angles = np.linspace(0, 2 * math.pi, 11)[:-1]
        for side in (-1.0, 1.0):
            ring = [(x + 0.33 * float(np.cos(a)), side * 0.03, 0.34 + 0.33 * float(np.sin(a))) for a in angles]
            builder.painted(ring[:: -int(side)], Paint.TYRE)
    builder.box((-reach, -0.03, 0.42), (reach, 0.03, 0.58), Paint.CARGO)
    builder.box((reach - 0.12, -0.24, 0.95), (reach - 0.04, 0.24, 1.0), Paint.TRIM)
    builder.box((-0.42, -0.17, 0.88), (-0.08, 0.17, 0.62 * height + 0.1), Paint.BODY)
    builder.box((-0.22, -0.20, 0.62 * height), (0.16, 0.20, 0.86 * height), Paint.BODY)
    builder.box((0.02, -0.23, 0.98), (reach - 0.08, -0.16, 0.80 * height), Paint.BODY)
    builder.box((0.02, 0.16, 0.98), (reach - 0.08, 0.23, 0.80 * height), Paint.BODY)
    builder.box((0.02, -0.10, 0.86 * height), (0.24, 0.10, height), Paint.GLASS)


def _rail(builder: MeshBuilder, vehicle: Vehicle) -> None:
    half, side, height = vehicle.length_m / 2, vehicle.width_m / 2, vehicle.height_m
    builder.box((-half, -side, height - 0.34), (half, side, height), Paint.CARGO)
    for x in np.arange(-half, half, 4.0):
        builder.box((float(x), -0.06, 0.0), (float(x) + 0.12, 0.06, height), Paint.TRIM)


def _legs(vehicle: Vehicle, phase: float) -> Mesh:
    builder = MeshBuilder()
    riding = vehicle.kind == "cyclist"
    for side in (-1.0, 1.0):
        swing = 0.14 * phase * side
        low = (0.2 + 0.9 * abs(swing) * (1 - phase * side) / 2) if riding else 0.0
        x, y = (-0.05 + swing, side * 0.13) if riding else (swing, side * 0.11)
        top = 0.95 if riding else 0.48 * vehicle.height_m
        builder.box((x - 0.08, y - 0.07, low), (x + 0.08, y + 0.07, top), Paint.TRIM)
    return builder.build()
