"""Night by relighting: the scene is drawn flat and multiplied by the light that falls on the ground behind each pixel.

A pixel's ray meets the ground at a point g; its light is the sum of street lamps, I h^3 / (d^2 + h^2)^(3/2) with d the
distance of g from below the lamp and h its height, and of headlights, a forward lobe of each car. Lamps themselves
are added as soft glowing discs. All of it is computed on a grid of 1/4 size and enlarged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.scenes.bodies import BODY_KINDS
from edge_sdk.calibration.scenes.cameras import Mount, project
from edge_sdk.calibration.scenes.engine import Pose3d
from edge_sdk.calibration.scenes.geometry import Floats
from edge_sdk.calibration.scenes.physics import Car
from edge_sdk.calibration.scenes.textures import Plane

_SHRINK = 4
_LAMP_M = 7.5
_FARTHEST_M = 90.0


class Enlarge:
    """Bilinear enlargement of small planes [h, w] or images [h, w, 3]."""

    def __init__(self, size: tuple[int, int], shrink: int = _SHRINK) -> None:
        self.width, self.height = -(-size[0] // shrink), -(-size[1] // shrink)
        self._rows, self._columns = _neighbours(size[1], self.height), _neighbours(size[0], self.width)

    def __call__(self, small: Plane) -> Plane:
        """The plane or image at full size."""
        above, below, share = self._rows
        tall = small[above] + (small[below] - small[above]) * share.reshape(-1, *[1] * (small.ndim - 1))
        left, right, share = self._columns
        return np.asarray(tall[:, left] + (tall[:, right] - tall[:, left]) * share.reshape(-1, *[1] * (small.ndim - 2)))


def _neighbours(full: int, small: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Plane]:
    """For every full-size place, its two neighbours at the small size and the share of the second."""
    place = np.clip((np.arange(full) + 0.5) * small / full - 0.5, 0, small - 1)
    low = place.astype(np.intp)
    return low, np.minimum(low + 1, small - 1), (place - low).astype(np.float32)


@dataclass(frozen=True)
class NightLook:
    """Strengths of the lights of one scene."""

    ambient: float
    street: float
    headlights: float
    glow: float
    wet: bool


class NightLights:
    """Light maps and glows of one scene at night or dusk."""

    def __init__(
        self,
        look: NightLook,
        lamps: list[tuple[float, float]],
        mount: Mount,
        cars: tuple[Car, ...],
        size: tuple[int, int],
    ) -> None:
        self._look, self._mount, self._cars = look, mount, cars
        self._lamps = np.array(lamps).reshape(-1, 2)
        self._enlarge = Enlarge(size)
        columns, rows = np.meshgrid(
            (np.arange(self._enlarge.width) + 0.5) / self._enlarge.width,
            (np.arange(self._enlarge.height) + 0.5) / self._enlarge.height,
        )
        self._image = np.stack([columns, rows], axis=-1)
        tall = math.tan(mount.fov_y_rad / 2)
        self._rays = np.stack(
            [(columns - 0.5) * 2 * tall * mount.aspect, (0.5 - rows) * 2 * tall, -np.ones_like(rows)], axis=-1
        )

    def light(self, image: Plane, camera: Pose3d, pose: Floats, braking: Floats) -> Plane:
        """Relight one linear RGB frame [height, width, 3] in 0..1."""
        level = self._level(camera, pose)
        lit = image * self._enlarge(level)[..., None]
        return np.asarray(lit + self._enlarge(self._glows(camera, pose, braking)))

    def _level(self, camera: Pose3d, pose: Floats) -> Plane:
        rays = self._rays @ camera.rotation.T
        down = np.minimum(rays[..., 2], -1e-3)
        reach = np.minimum(
            -camera.position[2] / down, _FARTHEST_M / np.maximum(np.hypot(rays[..., 0], rays[..., 1]), 1e-3)
        )
        x, y = camera.position[0] + rays[..., 0] * reach, camera.position[1] + rays[..., 1] * reach
        # Above the horizon there is no ground; houses and trees close to it still catch some light.
        lit = np.clip(1 - rays[..., 2] / np.linalg.norm(rays, axis=-1) / 0.15, 0.0, 1.0)
        level = np.zeros(x.shape)
        middle = camera.position[:2]
        for lamp in self._lamps[np.hypot(*(self._lamps - middle).T) < _FARTHEST_M]:
            square = (x - lamp[0]) ** 2 + (y - lamp[1]) ** 2
            level += self._look.street * _LAMP_M**3 / (square + _LAMP_M**2) ** 1.5
        for car, (cx, cy, yaw) in zip(self._cars, pose, strict=True):
            if car.vehicle.kind not in BODY_KINDS and math.hypot(cx - middle[0], cy - middle[1]) < _FARTHEST_M:
                level += self._look.headlights * _beam(x - cx, y - cy, yaw, car.vehicle.length_m / 2)
        return np.asarray(self._look.ambient + lit * level, np.float32)

    def _glows(self, camera: Pose3d, pose: Floats, braking: Floats) -> Plane:
        glow = np.zeros((*self._image.shape[:2], 3), np.float32)
        for i, car in enumerate(self._cars):
            if i == self._mount.car or car.vehicle.kind in BODY_KINDS:
                continue
            for points, colour, strength, facing in self._lamp_pairs(car, pose[i], float(braking[i]), camera):
                if facing > 0.05:
                    self._add(glow, camera, points, colour, strength * facing)
        return glow

    def _lamp_pairs(
        self, car: Car, pose: Floats, braking: float, camera: Pose3d
    ) -> list[tuple[Floats, tuple[float, float, float], float, float]]:
        cos, sin = math.cos(pose[2]), math.sin(pose[2])
        to_camera = camera.position[:2] - pose[:2]
        facing = float(to_camera @ np.array([cos, sin])) / max(float(np.hypot(*to_camera)), 0.1)
        half, side = car.vehicle.length_m / 2, 0.38 * car.vehicle.width_m
        pairs: list[tuple[Floats, tuple[float, float, float], float, float]] = []
        for end, colour, strength in ((1.0, (1.0, 0.96, 0.85), 1.0), (-1.0, (1.0, 0.06, 0.04), 0.25 + 0.5 * braking)):
            points = np.array(
                [
                    [pose[0] + cos * end * half - sin * s, pose[1] + sin * end * half + cos * s, 0.68]
                    for s in (-side, side)
                ]
            )
            pairs.append((points, colour, strength, end * facing))
        return pairs

    def _add(
        self, glow: Plane, camera: Pose3d, points: Floats, colour: tuple[float, float, float], strength: float
    ) -> None:
        image, depth = project(camera, self._mount, points)
        for (u, v), away in zip(image, depth, strict=True):
            if away < 0.8 or not (-0.1 < u < 1.1 and -0.1 < v < 1.1):
                continue
            radius = (0.012 + 0.35 / away) * self._look.glow * 0.5 * math.sqrt(strength)
            across = (self._image[..., 0] - u) * self._mount.aspect / radius
            along = (self._image[..., 1] - v) / radius
            if self._look.wet:
                along = np.where(along > 0, along / 3.5, along)
            disc = strength * np.exp(-np.sqrt(across**2 + along**2 + 0.04) * 1.6)
            glow += disc[..., None].astype(np.float32) * np.array(colour, np.float32) * 1.3


def _beam(dx: Floats, dy: Floats, yaw: float, nose_m: float) -> Floats:
    """Headlights on the ground: a lobe of 0.3 rad that fades over 25 m."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    ahead, aside = cos * dx + sin * dy - nose_m, cos * dy - sin * dx
    spread = aside / (0.9 + 0.3 * np.maximum(ahead, 0.0))
    return np.asarray(
        np.where(ahead > 0, np.exp(-(spread**2)) / (1 + (ahead / 14.0) ** 2) * np.minimum(ahead / 2, 1), 0.0)
    )
