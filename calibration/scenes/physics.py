"""Simulates planned traffic: drivers, tyres, contacts. Independent of how, and how often, the scene is drawn.

Every car is a body in the plane with two axles. An axle's lateral tyre force is -F tanh(v_lat / v_0), with
F = mu m g / 2 per axle and v_0 = 0.3 m/s + 0.03 v the sliding speed at which the tyre gives way: linear for small
slip, saturated in a skid, and enough to bring a spinning car to rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.calibration.scenes.drivers import Ahead, Controls, Driver
from edge_sdk.calibration.scenes.engine import PlanarWorld, Touch
from edge_sdk.calibration.scenes.geometry import Floats
from edge_sdk.calibration.scenes.vehicles import Vehicle

STEP_S = 0.005
RECORD_S = 0.02
CONTROL_S = 0.04
GRAVITY_MPS2 = 9.81
_STEPS_PER_RECORD = round(RECORD_S / STEP_S)
_STEPS_PER_TYRES = 2
_STEPS_PER_CONTROL = round(CONTROL_S / STEP_S)


@dataclass(frozen=True)
class Car:
    """One vehicle with its driver."""

    vehicle: Vehicle
    driver: Driver


@dataclass(frozen=True)
class Contact:
    """First contact of a pair of cars."""

    time_s: float
    touch: Touch


@dataclass(frozen=True)
class Track:
    """What happened: poses [n, cars, 3] and velocities [n, cars, 3] every `RECORD_S`, braking flags, contacts."""

    pose: Floats
    velocity: Floats
    braking: Floats
    contacts: tuple[Contact, ...]

    @property
    def duration_s(self) -> float:
        """Time of the last record."""
        return (len(self.pose) - 1) * RECORD_S

    def pose_at(self, time_s: float) -> Floats:
        """Interpolated poses [cars, 3]; yaw is continuous in the physics, so it is interpolated linearly too."""
        return _between(self.pose, time_s)

    def velocity_at(self, time_s: float) -> Floats:
        """Interpolated velocities [cars, 3]."""
        return _between(self.velocity, time_s)


def _between(rows: Floats, time_s: float) -> Floats:
    place = min(max(time_s / RECORD_S, 0.0), len(rows) - 1.0)
    before = min(int(place), len(rows) - 2)
    share = place - before
    return np.asarray(rows[before] * (1 - share) + rows[before + 1] * share)


class _Wheels:
    """What the drivers ask of their wheels: acceleration (m/s2) and steering angle (rad); the rear tyres' grip left."""

    def __init__(self, count: int) -> None:
        self.accel, self.steer, self.rear_share = np.zeros(count), np.zeros(count), np.ones(count)


class _Tyres:
    """Forces of tyres and engines on all cars at once."""

    def __init__(self, vehicles: Sequence[Vehicle], grip: float) -> None:
        self._mass = np.array([v.mass_kg for v in vehicles])
        self._arm = np.array([v.wheelbase_m / 2 for v in vehicles])
        self._most = grip * GRAVITY_MPS2

    def apply(self, pose: Floats, velocity: Floats, wheels: _Wheels, force: Floats) -> None:
        """Write (fx, fy, torque) per car into `force`."""
        accel, steer = wheels.accel, wheels.steer
        cos, sin = np.cos(pose[:, 2]), np.sin(pose[:, 2])
        forward = cos * velocity[:, 0] + sin * velocity[:, 1]
        sideways = cos * velocity[:, 1] - sin * velocity[:, 0]
        turn = self._arm * velocity[:, 2]
        cos_steer, sin_steer = np.cos(steer), np.sin(steer)
        soft = 0.3 + 0.03 * np.abs(forward)
        # Brakes act against the motion and never push backwards.
        drive = np.where(accel < 0, accel * np.tanh(forward / 0.2), accel)
        drive = np.clip(drive, -self._most, self._most)
        axle = 0.5 * np.sqrt(np.maximum(self._most**2 - drive**2, (0.4 * self._most) ** 2))
        front = -axle * np.tanh(((sideways + turn) * cos_steer - forward * sin_steer) / soft)
        rear = -axle * wheels.rear_share * np.tanh((sideways - turn) / soft)
        along = self._mass * (drive - front * sin_steer)
        across = self._mass * (front * cos_steer + rear)
        force[:, 0] = cos * along - sin * across
        force[:, 1] = sin * along + cos * across
        force[:, 2] = self._mass * self._arm * (front * cos_steer - rear)


def simulate(cars: Sequence[Car], duration_s: float, grip: float) -> Track:
    """Run the traffic for `duration_s`; `grip` is the friction coefficient between tyres and road."""
    vehicles = [car.vehicle for car in cars]
    world = PlanarWorld(vehicles, STEP_S)
    for i, car in enumerate(cars):
        x, y, yaw = car.driver.start_pose()
        world.pose[i] = x, y, yaw
        world.velocity[i] = car.driver.start_mps * math.cos(yaw), car.driver.start_mps * math.sin(yaw), 0.0
    tyres, controls = _Tyres(vehicles, grip), [Controls(car.driver) for car in cars]
    wheels = _Wheels(len(cars))
    poses, velocities, braking = [world.pose.copy()], [world.velocity.copy()], [np.zeros(len(cars))]
    contacts: dict[tuple[int, int], Contact] = {}
    steps = round(duration_s / RECORD_S) * _STEPS_PER_RECORD
    for step in range(steps):
        if step % _STEPS_PER_CONTROL == 0:
            _control(step * STEP_S, cars, controls, world, wheels)
        if step % _STEPS_PER_TYRES == 0:
            tyres.apply(world.pose, world.velocity, wheels, world.force)
        world.step()
        for touch in world.touches():
            contacts.setdefault((touch.first, touch.second), Contact((step + 1) * STEP_S, touch))
            controls[touch.first].crashed = controls[touch.second].crashed = True
        if (step + 1) % _STEPS_PER_RECORD == 0:
            poses.append(world.pose.copy())
            velocities.append(world.velocity.copy())
            braking.append((wheels.accel < -0.7).astype(float))
    ordered = sorted(contacts.values(), key=lambda contact: contact.time_s)
    return Track(np.array(poses), np.array(velocities), np.array(braking), tuple(ordered))


def _control(time_s: float, cars: Sequence[Car], controls: list[Controls], world: PlanarWorld, wheels: _Wheels) -> None:
    ahead = _look_ahead(world.pose, world.velocity, cars)
    for i, control in enumerate(controls):
        x, y, yaw = (float(v) for v in world.pose[i])
        speed = math.cos(yaw) * float(world.velocity[i, 0]) + math.sin(yaw) * float(world.velocity[i, 1])
        control.update(time_s, CONTROL_S, (x, y, yaw), speed, cars[i].vehicle.wheelbase_m, ahead[i])
        wheels.accel[i], wheels.steer[i] = control.accel_mps2, control.steer_rad
        wheels.rear_share[i] = cars[i].driver.rear_share(time_s)


def _look_ahead(pose: Floats, velocity: Floats, cars: Sequence[Car]) -> list[Ahead | None]:
    """For every car, the nearest car in the corridor that its own width sweeps straight ahead."""
    length = np.array([car.vehicle.length_m for car in cars])
    width = np.array([car.vehicle.width_m for car in cars])
    cos, sin = np.cos(pose[:, 2])[:, None], np.sin(pose[:, 2])[:, None]
    dx, dy = pose[None, :, 0] - pose[:, None, 0], pose[None, :, 1] - pose[:, None, 1]
    along, across = cos * dx + sin * dy, cos * dy - sin * dx
    angle = pose[None, :, 2] - pose[:, None, 2]
    cos_angle, sin_angle = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    reach = (cos_angle * length + sin_angle * width) / 2
    spread = (sin_angle * length + cos_angle * width) / 2
    inside = (along > 0) & (np.abs(across) < spread + width[:, None] / 2 + 0.15)
    gap = np.where(inside, along - reach - length[:, None] / 2, np.inf)
    nearest = gap.argmin(axis=1)
    seen: list[Ahead | None] = []
    for i, j in enumerate(nearest):
        if gap[i, j] > 80.0:
            seen.append(None)
        else:
            speed = float(cos[i, 0] * velocity[j, 0] + sin[i, 0] * velocity[j, 1])
            seen.append(Ahead(float(gap[i, j]), speed))
    return seen
