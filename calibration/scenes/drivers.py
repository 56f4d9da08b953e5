"""Drivers: what each car wants to do, and the longitudinal and steering law that does it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from edge_sdk.calibration.scenes.geometry import Path

# Intelligent driver model (Treiber, Hennecke and Helbing, 2000): comfortable acceleration and braking.
IDM_ACCEL_MPS2 = 1.6
IDM_BRAKE_MPS2 = 2.5
HARDEST_BRAKE_MPS2 = 8.5
ACCEL_LAG_S = 0.12
STEER_LIMIT_RAD = 0.6
STEER_RATE_RADPS = 0.9


@dataclass(frozen=True, kw_only=True)
class Brake:
    """Brake at `decel_mps2` from `at_s` until the speed is `to_mps`; let go at `until_s`."""

    at_s: float
    decel_mps2: float
    to_mps: float = 0.0
    until_s: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Move to `left_m` left of the path, over `over_s` from `at_s`."""

    at_s: float
    left_m: float
    over_s: float


@dataclass(frozen=True, kw_only=True)
class Slip:
    """From `at_s` to `until_s` the rear tyres keep `rear_share` of their grip; it begins with a jerk of the wheel."""

    at_s: float
    until_s: float
    rear_share: float
    jerk_rad: float
    jerk_s: float = 0.35


@dataclass(frozen=True, kw_only=True)
class Habits:
    """Small things in which drivers differ, and what is left of their controls after a contact."""

    sway_m: float = 0.0
    sway_period_s: float = 6.0
    crash_brake_mps2: float = 5.0
    crash_steer_rad: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Driver:
    """One driver: a path, a desired speed and timed actions.

    In the `blind` window the driver looks at nobody; outside it follows the car ahead. `hold_until_s` keeps the car
    standing.
    """

    path: Path
    start_m: float
    start_mps: float
    wish_mps: float
    left_m: float = 0.0
    hold_until_s: float = 0.0
    blind: tuple[float, float] = (0.0, 0.0)
    brakes: tuple[Brake, ...] = ()
    shifts: tuple[Shift, ...] = ()
    slips: tuple[Slip, ...] = ()
    headway_s: float = 1.2
    standstill_m: float = 2.2
    habits: Habits = Habits()

    def rear_share(self, time_s: float) -> float:
        """The share of the rear tyres' grip that is left; 1 except during slips."""
        return min((slip.rear_share for slip in self.slips if slip.at_s <= time_s < slip.until_s), default=1.0)

    def start_pose(self) -> tuple[float, float, float]:
        """Pose at time 0."""
        return self.path.at(self.start_m, self.left_m)

    def offset_m(self, time_s: float) -> float:
        """Desired offset to the left of the path."""
        offset = self.left_m
        for shift in self.shifts:
            share = min(max((time_s - shift.at_s) / shift.over_s, 0.0), 1.0)
            offset += (shift.left_m - offset) * share * share * (3 - 2 * share)
        return offset + self.habits.sway_m * math.sin(2 * math.pi * time_s / self.habits.sway_period_s)


@dataclass(frozen=True)
class Ahead:
    """The car ahead as a driver sees it: bumper to bumper gap and its speed along the own heading."""

    gap_m: float
    speed_mps: float


@dataclass
class Controls:
    """State of one driver's hands and feet."""

    driver: Driver
    along_m: float = field(init=False)
    accel_mps2: float = 0.0
    steer_rad: float = 0.0
    crashed: bool = False

    def __post_init__(self) -> None:
        self.along_m = self.driver.start_m

    def update(
        self,
        time_s: float,
        step_s: float,
        pose: tuple[float, float, float],
        speed_mps: float,
        wheelbase_m: float,
        ahead: Ahead | None,
    ) -> None:
        """Advance by one control step."""
        if self.crashed:
            habits = self.driver.habits
            self.accel_mps2, self.steer_rad = -habits.crash_brake_mps2, habits.crash_steer_rad
            return
        wish = self._wish_mps2(time_s, speed_mps, ahead)
        self.accel_mps2 += (wish - self.accel_mps2) * min(step_s / ACCEL_LAG_S, 1.0)
        steer = self._pursuit_rad(time_s, pose, speed_mps, wheelbase_m)
        for slip in self.driver.slips:
            if slip.at_s <= time_s < slip.at_s + slip.jerk_s:
                steer = slip.jerk_rad
        most = STEER_RATE_RADPS * step_s
        self.steer_rad += min(max(steer - self.steer_rad, -most), most)

    def _wish_mps2(self, time_s: float, speed_mps: float, ahead: Ahead | None) -> float:
        driver = self.driver
        if time_s < driver.hold_until_s:
            return -4.0
        looking = not driver.blind[0] <= time_s < driver.blind[1]
        wish = follow_mps2(driver, speed_mps, ahead if looking else None)
        for brake in driver.brakes:
            if brake.at_s <= time_s < brake.until_s:
                wish = min(wish, -brake.decel_mps2 if speed_mps > brake.to_mps else min(wish, 0.0))
        return wish

    def _pursuit_rad(
        self, time_s: float, pose: tuple[float, float, float], speed_mps: float, wheelbase_m: float
    ) -> float:
        """Pure pursuit: the steering angle of the circle through a point ahead on the path."""
        x, y, yaw = pose
        self.along_m = self.driver.path.locate(x, y, self.along_m)
        look_m = max(4.0, 0.6 * speed_mps)
        preview_s = look_m / max(speed_mps, 4.0)
        tx, ty, _ = self.driver.path.at(self.along_m + look_m, self.driver.offset_m(time_s + preview_s))
        bearing = math.atan2(ty - y, tx - x) - yaw
        steer = math.atan2(2 * wheelbase_m * math.sin(bearing), math.hypot(tx - x, ty - y))
        return min(max(steer, -STEER_LIMIT_RAD), STEER_LIMIT_RAD)


def follow_mps2(driver: Driver, speed_mps: float, ahead: Ahead | None) -> float:
    """Acceleration of the intelligent driver model: a * (1 - (v/v0)^4 - (s*/s)^2)."""
    accel = IDM_ACCEL_MPS2 * (1 - (speed_mps / max(driver.wish_mps, 0.1)) ** 4)
    if ahead is not None:
        closing = speed_mps * (speed_mps - ahead.speed_mps) / (2 * math.sqrt(IDM_ACCEL_MPS2 * IDM_BRAKE_MPS2))
        wished_gap = driver.standstill_m + max(speed_mps * driver.headway_s + closing, 0.0)
        accel -= IDM_ACCEL_MPS2 * (wished_gap / max(ahead.gap_m, 0.1)) ** 2
    return max(accel, -HARDEST_BRAKE_MPS2)
