"""Labels from physics: contact, gaps, foreseeability, last relevant motion.

Let o be the outlines of the two cars that touch first, at time c.

- crash start: c, the first contact of any two cars.
- pre-crash start: the earliest t such that for every sample s in [t, c) constant turn rate and velocity from the state
  at s makes the outlines overlap within `HORIZON_S`: exists h in [0, HORIZON_S] with o_a(s + h) and o_b(s + h)
  intersecting. The yaw rate is averaged over `SMOOTH_S` so that one steering correction does not break the chain.
- crash end: the last record at which a car of the crash (touching, directly or through others) still moves faster
  than `REST_MPS` or turns faster than `REST_RADPS`; the clip's end where they are still moving then.
- gap: smallest distance of two outlines of which at least one moves faster than `REST_MPS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from edge_sdk.calibration.scenes.geometry import Floats, Outline, extrapolate, gap_m
from edge_sdk.calibration.scenes.physics import RECORD_S, Contact, Track

HORIZON_S = 2.0
SMOOTH_S = 0.2
REST_MPS = 0.7
REST_RADPS = 0.15
_SAMPLE_S = 0.1


@dataclass(frozen=True)
class Gap:
    """The smallest gap, when and between which cars."""

    gap_m: float
    time_s: float
    pair: tuple[int, int]


@dataclass(frozen=True)
class CrashTimes:
    """The three times of a crash."""

    pre_crash_start_s: float
    crash_start_s: float
    crash_end_s: float


def smallest_gap(track: Track, outlines: list[Outline], near_m: float = 12.0) -> Gap | None:
    """The smallest gap of the clip; None when no two cars, one moving, come within `near_m` of centre distance."""
    best: Gap | None = None
    speed = np.hypot(track.velocity[..., 0], track.velocity[..., 1])
    for a, b in combinations(range(len(outlines)), 2):
        apart = np.hypot(*(track.pose[:, a, :2] - track.pose[:, b, :2]).T)
        limit = max(near_m, (outlines[a][0] + outlines[b][0]) / 2 + 3.0)
        close = np.flatnonzero((apart < limit) & (np.maximum(speed[:, a], speed[:, b]) > REST_MPS))
        if not len(close):
            continue
        gaps = gap_m(track.pose[close, a], outlines[a], track.pose[close, b], outlines[b])
        least = int(gaps.argmin())
        if best is None or gaps[least] < best.gap_m:
            best = Gap(float(gaps[least]), float(close[least] * RECORD_S), (a, b))
    return best


def crash_times(track: Track, outlines: list[Outline]) -> CrashTimes | None:
    """The times of the first crash; None when nothing touched."""
    if not track.contacts:
        return None
    first = track.contacts[0]
    return CrashTimes(_foreseeable_s(track, outlines, first), first.time_s, _rest_s(track))


def crashed_cars(track: Track) -> set[int]:
    """The cars of the first contact and all that touch one of them, directly or through others."""
    involved: set[int] = set()
    if track.contacts:
        involved = {track.contacts[0].touch.first, track.contacts[0].touch.second}
    grown = True
    while grown:
        before = len(involved)
        for contact in track.contacts:
            pair = {contact.touch.first, contact.touch.second}
            if pair & involved:
                involved |= pair
        grown = len(involved) > before
    return involved


def first_hits(track: Track) -> dict[int, float]:
    """The time of the first contact of each car that touches another one."""
    found: dict[int, float] = {}
    for contact in track.contacts:
        for car in (contact.touch.first, contact.touch.second):
            found.setdefault(car, contact.time_s)
    return found


def impact_mps(track: Track, contact: Contact) -> float:
    """Relative speed of the two cars' centres just before their contact."""
    velocity = track.velocity_at(contact.time_s - RECORD_S)
    difference = velocity[contact.touch.first, :2] - velocity[contact.touch.second, :2]
    return float(np.hypot(*difference))


def _rest_s(track: Track) -> float:
    cars = sorted(crashed_cars(track))
    speed = np.hypot(track.velocity[:, cars, 0], track.velocity[:, cars, 1])
    moving = ((speed > REST_MPS) | (np.abs(track.velocity[:, cars, 2]) > REST_RADPS)).any(axis=1)
    last = int(np.flatnonzero(moving).max(initial=0))
    return min(max(last * RECORD_S, track.contacts[0].time_s + RECORD_S), track.duration_s)


def _smoothed(velocity: Floats) -> Floats:
    """Velocities with the yaw rate averaged over the past `SMOOTH_S`."""
    count = max(round(SMOOTH_S / RECORD_S), 1)
    sums = np.cumsum(np.concatenate([np.repeat(velocity[:1, 2], count), velocity[:, 2]]))
    smooth: Floats = velocity.copy()
    smooth[:, 2] = (sums[count:] - sums[:-count]) / count
    return smooth


def _foreseeable_s(track: Track, outlines: list[Outline], contact: Contact) -> float:
    a, b = contact.touch.first, contact.touch.second
    stride = round(_SAMPLE_S / RECORD_S)
    # A record at the contact already shows overlap or its force; samples end before it.
    last = max(int((contact.time_s - 1e-9) / RECORD_S), 0)
    samples = np.arange(last, -1, -stride)
    ahead = np.arange(0.0, HORIZON_S + 1e-9, 0.05)
    paths = [extrapolate(track.pose[samples, i], _smoothed(track.velocity[:, i])[samples], ahead) for i in (a, b)]
    meets = (gap_m(paths[0], outlines[a], paths[1], outlines[b]) <= 0.0).any(axis=1)
    run = len(samples) if meets.all() else int(np.argmin(meets))
    earliest = samples[max(run - 1, 0)] * RECORD_S
    return float(min(earliest, contact.time_s))
