"""Cameras: where they are mounted, how they shake, and what they can see.

A camera looks along its forward axis; image x grows to the right and y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.calibration.scenes.engine import Pose3d
from edge_sdk.calibration.scenes.geometry import Floats, corners
from edge_sdk.calibration.scenes.labels import impact_mps
from edge_sdk.calibration.scenes.physics import RECORD_S, Car, Track
from edge_sdk.calibration.scenes.streams import Rng, chance, uniform

# A car narrower than this many pixels of a 320 pixel wide image is too small to call its crash visible.
FEWEST_PIXELS = 24.0
REFERENCE_WIDTH_PX = 320.0


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A camera fixed to a car (coordinates of the car) or to a pole (world coordinates); angles in radians."""

    car: int | None
    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float
    pitch_rad: float
    roll_rad: float
    fov_y_rad: float
    aspect: float


@dataclass(frozen=True)
class Jolt:
    """Small deviation of a camera from its mount."""

    yaw_rad: float = 0.0
    pitch_rad: float = 0.0
    roll_rad: float = 0.0
    up_m: float = 0.0


def rotation(yaw_rad: float, pitch_rad: float = 0.0, roll_rad: float = 0.0) -> Floats:
    """Rotation of a body: yaw about z, then nose up by the pitch, then roll to the right about its forward axis."""
    cy, sy = math.cos(yaw_rad), math.sin(yaw_rad)
    cp, sp = math.cos(pitch_rad), math.sin(pitch_rad)
    cr, sr = math.cos(roll_rad), math.sin(roll_rad)
    yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1.0]])
    pitch = np.array([[cp, 0, -sp], [0, 1, 0], [sp, 0, cp]])
    roll = np.array([[1.0, 0, 0], [0, cr, -sr], [0, sr, cr]])
    return np.asarray(yaw @ pitch @ roll)


# Columns: image right, image up and backwards, in a body frame of forward, left and up.
_OPTICAL = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def camera_pose(mount: Mount, pose: Floats, jolt: Jolt) -> Pose3d:
    """World pose of the camera, its rotation with columns right, up, backwards; `pose` [cars, 3] is the traffic's."""
    base = np.zeros(3) if mount.car is None else pose[mount.car]
    cos, sin = math.cos(base[2]), math.sin(base[2])
    position = np.array(
        [
            base[0] + cos * mount.x_m - sin * mount.y_m,
            base[1] + sin * mount.x_m + cos * mount.y_m,
            mount.z_m + jolt.up_m,
        ]
    )
    body = rotation(
        base[2] + mount.yaw_rad + jolt.yaw_rad, mount.pitch_rad + jolt.pitch_rad, mount.roll_rad + jolt.roll_rad
    )
    return Pose3d(position, body @ _OPTICAL)


def project(camera: Pose3d, mount: Mount, points: Floats) -> tuple[Floats, Floats]:
    """World points [n, 3] to image coordinates [n, 2] (0..1 of width and height) and depth in metres [n]."""
    local = (points - camera.position) @ camera.rotation
    depth = -local[:, 2]
    safe = np.maximum(depth, 0.05)
    scale = 0.5 / math.tan(mount.fov_y_rad / 2)
    image = np.stack([0.5 + local[:, 0] / safe * scale / mount.aspect, 0.5 - local[:, 1] / safe * scale], axis=1)
    return image, depth


def box_points(pose: Floats, car: Car) -> Floats:
    """The eight corners of a car's box."""
    flat = corners(pose, car.vehicle.outline)
    return np.concatenate([np.column_stack([flat, np.full(4, z)]) for z in (0.0, car.vehicle.height_m)])


def sees_car(mount: Mount, cars: Sequence[Car], pose: Floats, target: int, fewest_px: float = FEWEST_PIXELS) -> bool:
    """Whether a car is wide enough, mostly inside the image and not behind another one."""
    camera = camera_pose(mount, pose, Jolt())
    image, depth = project(camera, mount, box_points(pose[target], cars[target]))
    if (depth < 0.3).sum() > 4:
        return False
    image = image[depth >= 0.3]
    low, high = image.min(axis=0), image.max(axis=0)
    inside = np.clip(high, 0, 1) - np.clip(low, 0, 1)
    if (high[0] - low[0]) * REFERENCE_WIDTH_PX < fewest_px or inside[0] * REFERENCE_WIDTH_PX < fewest_px:
        return False
    if inside.prod() < 0.35 * (high - low).prod() and inside.prod() < 0.06:
        return False
    centre = np.array([pose[target][0], pose[target][1], 0.65 * cars[target].vehicle.height_m])
    skip = {target, mount.car}
    return not any(i not in skip and _blocks(camera.position, centre, pose[i], car) for i, car in enumerate(cars))


def _blocks(eye: Floats, point: Floats, pose: Floats, car: Car) -> bool:
    """Whether a car's box cuts the line of sight (slab test)."""
    turn = rotation(float(pose[2]))
    offset = np.array([pose[0], pose[1], car.vehicle.height_m / 2])
    start, end = (eye - offset) @ turn, (point - offset) @ turn
    half = np.array([car.vehicle.length_m, car.vehicle.width_m, car.vehicle.height_m]) / 2
    way = np.where(np.abs(end - start) < 1e-9, 1e-9, end - start)
    first, second = (-half - start) / way, (half - start) / way
    enter, leave = np.minimum(first, second).max(), np.maximum(first, second).min()
    return bool(enter < leave and leave > 0 and enter < 1)


def dashcam(rng: Rng, ego: int, car: Car, aspect: float) -> Mount:
    """Draw a camera behind a car's windscreen, with the usual spread of lenses and of care in mounting."""
    fov_x = math.radians(uniform(rng, 58, 112))
    return Mount(
        car=ego,
        x_m=0.12 * car.vehicle.length_m + uniform(rng, 0.0, 0.3),
        y_m=uniform(rng, -0.35, 0.35),
        z_m=0.86 * car.vehicle.height_m + uniform(rng, -0.05, 0.08),
        yaw_rad=math.radians(uniform(rng, -4, 4)),
        pitch_rad=math.radians(uniform(rng, -8, 2)),
        roll_rad=math.radians(uniform(rng, -1.5, 1.5)),
        fov_y_rad=2 * math.atan(math.tan(fov_x / 2) / aspect),
        aspect=aspect,
    )


def roadside(rng: Rng, target: tuple[float, float], half_road_m: float, crossing_half_m: float, aspect: float) -> Mount:
    """Draw a camera on a pole beside the road that looks roughly at `target`; the target is not centred."""
    height = uniform(rng, 4.0, 12.0)
    fov_x = math.radians(uniform(rng, 38, 85))
    away = uniform(rng, 9.0, 26.0) + (uniform(rng, 0, 26.0) if chance(rng, 0.3) else 0.0)
    side, end = (-1.0 if chance(rng, 0.5) else 1.0), (-1.0 if chance(rng, 0.5) else 1.0)
    y = side * (half_road_m + uniform(rng, 0.5, 4.0))
    along = math.sqrt(max(away**2 - (y - target[1]) ** 2, 4.0))
    x = target[0] + end * along
    if abs(x) < crossing_half_m + 1.0:
        x = math.copysign(crossing_half_m + uniform(rng, 1.0, 4.0), x)
    if chance(rng, 0.15):
        y = side * uniform(rng, 0.0, half_road_m)
        height = max(height, 6.0)
    yaw = math.atan2(target[1] - y, target[0] - x)
    pitch = -math.atan2(height - 0.5, math.hypot(target[0] - x, target[1] - y))
    fov_y = 2 * math.atan(math.tan(fov_x / 2) / aspect)
    return Mount(
        car=None,
        x_m=x,
        y_m=y,
        z_m=height,
        yaw_rad=yaw + 0.27 * fov_x * uniform(rng, -1, 1),
        pitch_rad=pitch + 0.27 * fov_y * uniform(rng, -1, 1),
        roll_rad=math.radians(uniform(rng, -3, 3)),
        fov_y_rad=fov_y,
        aspect=aspect,
    )


def attitude(track: Track) -> Floats:
    """Pitch and roll of every car body [n, cars, 2], from its accelerations through a damped spring (1.4 Hz)."""
    yaw = track.pose[..., 2]
    forward = np.cos(yaw) * track.velocity[..., 0] + np.sin(yaw) * track.velocity[..., 1]
    accel = np.gradient(forward, RECORD_S, axis=0)
    sideways = np.cos(yaw) * track.velocity[..., 1] - np.sin(yaw) * track.velocity[..., 0]
    across = forward * track.velocity[..., 2] + np.gradient(sideways, RECORD_S, axis=0)
    wish = np.stack([np.clip(accel, -30, 30) * 0.0055, np.clip(across, -30, 30) * 0.006], axis=-1)
    stiffness, damping = (2 * math.pi * 1.4) ** 2, 2 * 0.35 * 2 * math.pi * 1.4
    state, rate = np.zeros_like(wish[0]), np.zeros_like(wish[0])
    result = np.empty_like(wish)
    for i, aim in enumerate(wish):
        rate = rate + (stiffness * (aim - state) - damping * rate) * RECORD_S
        state = state + rate * RECORD_S
        result[i] = state
    return result


@dataclass(frozen=True)
class Shake:
    """Jolts over the clip, one row every `RECORD_S`: yaw, pitch, roll (rad) and height (m)."""

    rows: Floats

    def at(self, time_s: float) -> Jolt:
        """The jolt at a time."""
        row = self.rows[min(round(time_s / RECORD_S), len(self.rows) - 1)]
        return Jolt(*(float(v) for v in row))


def _noise(rng: Rng, count: int, smooth_s: float) -> Floats:
    """Band-limited noise of unit variance."""
    width = max(round(smooth_s / RECORD_S), 1)
    raw = rng.standard_normal(count + 4 * width)
    window = np.hanning(2 * width + 1)
    smooth = np.convolve(raw, window / np.sqrt((window**2).sum()), mode="same")
    return smooth[2 * width : 2 * width + count]


def _knocks(rng: Rng, count: int, rate_hz: float, strength: float) -> Floats:
    """Damped oscillations at random times: potholes, expansion joints, a passing truck, a gust."""
    rows = np.zeros(count)
    times = np.arange(count) * RECORD_S
    for _ in range(int(rng.poisson(rate_hz * count * RECORD_S))):
        start, tone = uniform(rng, 0, count * RECORD_S), uniform(rng, 2.0, 7.0)
        rest = np.maximum(times - start, 0.0)
        rows += strength * uniform(rng, 0.3, 1.0) * np.exp(-rest / 0.25) * np.sin(2 * math.pi * tone * rest)
    return rows


def _impact(rng: Rng, count: int, time_s: float, impact: float) -> Floats:
    """Shake of the windscreen by an impact on the own car: up to 6 mrad per m/s, at 4 to 8 Hz for about 0.3 s."""
    rest = np.maximum(np.arange(count) * RECORD_S - time_s, 0.0)
    ring = np.exp(-rest / 0.3) * np.sin(2 * math.pi * uniform(rng, 4.0, 8.0) * rest)
    strength = 0.006 * min(impact, 15.0) * uniform(rng, 0.4, 1.0)
    return np.asarray(strength * ring[:, None] * np.array([uniform(rng, -0.5, 0.5), 1.0, uniform(rng, -0.8, 0.8)]))


def dashcam_shake(rng: Rng, track: Track, ego: int, light: frozenset[int] = frozenset()) -> Shake:
    """Shake of a dashcam by suspension, engine and road; the road's part grows with speed.

    A contact with one of the `light` bodies shakes a fifth as much as one with a car.
    """
    count = len(track.pose)
    speed = np.hypot(track.velocity[:, ego, 0], track.velocity[:, ego, 1]) / 15.0
    rough = uniform(rng, 0.3, 1.0) if chance(rng, 0.75) else uniform(rng, 1.0, 2.5)
    body = attitude(track)[:, ego]
    knocks = _knocks(rng, count, uniform(rng, 0.0, 0.7), 0.022 * rough) * np.minimum(speed * 2, 1.0)
    ride = np.stack([_noise(rng, count, 0.05) for _ in range(4)], axis=1)
    rows = ride * np.array([0.0006, 0.0022, 0.0016, 0.006]) * rough * (0.15 + speed[:, None])
    rows[:, 1] += body[:, 0] + knocks
    rows[:, 2] += body[:, 1] + 0.4 * knocks
    rows[:, 0] += 0.3 * knocks
    for contact in track.contacts:
        if ego in (contact.touch.first, contact.touch.second):
            share = 0.2 if light & {contact.touch.first, contact.touch.second} else 1.0
            rows[:, :3] += _impact(rng, count, contact.time_s, share * impact_mps(track, contact))
    return Shake(rows)


def roadside_shake(rng: Rng, track: Track) -> Shake:
    """Shake of a pole in the wind; some poles hardly move, some swing and get knocked."""
    count = len(track.pose)
    calm = chance(rng, 0.55)
    sway = uniform(rng, 0.0, 0.0007) if calm else uniform(rng, 0.0007, 0.006)
    rows = np.stack([_noise(rng, count, uniform(rng, 0.15, 0.6)) for _ in range(4)], axis=1)
    rows *= np.array([sway, sway * 0.7, sway * 0.5, 0.0])
    if not calm:
        rows[:, 1] += _knocks(rng, count, 0.25, 0.014)
        rows[:, 0] += _knocks(rng, count, 0.15, 0.008)
    return Shake(rows)
