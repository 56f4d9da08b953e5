"""Plane geometry: outlines of cars as oriented rectangles, and paths as polylines.

A pose is (x_m, y_m, yaw_rad), yaw counter-clockwise from +x; an outline is (length_m, width_m) centred on the pose.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Outline = tuple[float, float]
Point = tuple[float, float]
_CORNERS = np.array([[0.5, 0.5], [0.5, -0.5], [-0.5, -0.5], [-0.5, 0.5]])


def corners(pose: Floats, outline: Outline) -> Floats:
    """Corners [..., 4, 2] of rectangles at poses [..., 3]."""
    local = _CORNERS * np.asarray(outline)
    cos, sin = np.cos(pose[..., 2:3]), np.sin(pose[..., 2:3])
    x = pose[..., 0:1] + cos * local[:, 0] - sin * local[:, 1]
    y = pose[..., 1:2] + sin * local[:, 0] + cos * local[:, 1]
    return np.stack([x, y], axis=-1)


def _seen_from(points: Floats, pose: Floats) -> Floats:
    """World points [..., n, 2] in the frames of poses [..., 3]."""
    dx, dy = points[..., 0] - pose[..., 0:1], points[..., 1] - pose[..., 1:2]
    cos, sin = np.cos(pose[..., 2:3]), np.sin(pose[..., 2:3])
    return np.stack([cos * dx + sin * dy, cos * dy - sin * dx], axis=-1)


def _one_sided(points: Floats, outline: Outline) -> tuple[Floats, NDArray[np.bool_]]:
    """Smallest distance of points to a centred rectangle, and whether one of its axes separates them from it."""
    half = np.asarray(outline) / 2
    outside = np.maximum(np.abs(points) - half, 0.0)
    distance = np.hypot(outside[..., 0], outside[..., 1]).min(axis=-1)
    separated = (points.min(axis=-2) > half) | (points.max(axis=-2) < -half)
    return distance, separated.any(axis=-1)


def gap_m(pose_a: Floats, outline_a: Outline, pose_b: Floats, outline_b: Outline) -> Floats:
    """Distance between two outlines, 0 where they overlap (separating axis test); poses broadcast over [..., 3]."""
    near_a, apart_a = _one_sided(_seen_from(corners(pose_b, outline_b), pose_a), outline_a)
    near_b, apart_b = _one_sided(_seen_from(corners(pose_a, outline_a), pose_b), outline_b)
    return np.where(apart_a | apart_b, np.minimum(near_a, near_b), 0.0)


def extrapolate(pose: Floats, velocity: Floats, ahead_s: Floats) -> Floats:
    """Poses [..., n, 3] after `ahead_s` [n] under constant turn rate and velocity.

    `velocity` is (vx, vy, yaw rate w). The course turns with the yaw, so with the rotation R by w*t/2 the displacement
    is  R * v * t * sinc(w*t/2).
    """
    half_turn = velocity[..., 2:3] * ahead_s / 2
    reach = ahead_s * np.sinc(half_turn / np.pi)
    cos, sin = np.cos(half_turn), np.sin(half_turn)
    x = pose[..., 0:1] + reach * (cos * velocity[..., 0:1] - sin * velocity[..., 1:2])
    y = pose[..., 1:2] + reach * (sin * velocity[..., 0:1] + cos * velocity[..., 1:2])
    return np.stack([x, y, pose[..., 2:3] + 2 * half_turn], axis=-1)


class Path:
    """A polyline with arc length; straight on beyond both ends."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = [(float(x), float(y)) for x, y in points]
        self.starts_m = [0.0]
        self.tangents: list[Point] = []
        for (x0, y0), (x1, y1) in zip(self.points, self.points[1:], strict=False):
            length = math.hypot(x1 - x0, y1 - y0)
            self.starts_m.append(self.starts_m[-1] + length)
            self.tangents.append(((x1 - x0) / length, (y1 - y0) / length))

    def _leg(self, along_m: float) -> int:
        return min(max(bisect_right(self.starts_m, along_m) - 1, 0), len(self.tangents) - 1)

    def at(self, along_m: float, left_m: float = 0.0) -> tuple[float, float, float]:
        """Point `left_m` to the left of the path at an arc length, and the heading there."""
        leg = self._leg(along_m)
        (x, y), (tx, ty), rest = self.points[leg], self.tangents[leg], along_m - self.starts_m[leg]
        return x + tx * rest - ty * left_m, y + ty * rest + tx * left_m, math.atan2(ty, tx)

    def locate(self, x: float, y: float, near_m: float) -> float:
        """Arc length of the projection of a point onto the leg at `near_m` (its last known place)."""
        leg = self._leg(near_m)
        (px, py), (tx, ty) = self.points[leg], self.tangents[leg]
        return self.starts_m[leg] + (x - px) * tx + (y - py) * ty


def straight(start: Point, end: Point) -> Path:
    """A path of one leg."""
    return Path([start, end])


def turn(entry: Point, exit_: Point, lead_m: float) -> Path:
    """A quarter turn from a lane along x into a lane along y: straight in for `lead_m`, an arc, straight out."""
    (x0, y0), (x1, y1) = entry, exit_
    angles = np.linspace(0.0, math.pi / 2, 9)
    arc = [(x0 + (x1 - x0) * math.sin(a), y0 + (y1 - y0) * (1 - math.cos(a))) for a in angles]
    side_x, side_y = math.copysign(1.0, x1 - x0), math.copysign(1.0, y1 - y0)
    return Path([(x0 - side_x * lead_m, y0), *arc, (x1, y1 + side_y * 200.0)])
