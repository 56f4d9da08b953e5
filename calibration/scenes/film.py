"""Shoots a planned scene: moves everything to its place moment by moment and develops what the camera sees."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.scenes.bodies import BODY_KINDS, WITH_LEGS, light_cars
from edge_sdk.calibration.scenes.boxes import frame_boxes
from edge_sdk.calibration.scenes.cameras import (
    Shake,
    attitude,
    camera_pose,
    dashcam_shake,
    roadside_shake,
    rotation,
)
from edge_sdk.calibration.scenes.engine import Pose3d, Studio
from edge_sdk.calibration.scenes.geometry import Floats
from edge_sdk.calibration.scenes.labels import first_hits
from edge_sdk.calibration.scenes.lens import Framing, Lens
from edge_sdk.calibration.scenes.physics import RECORD_S
from edge_sdk.calibration.scenes.plan import ScenePlan
from edge_sdk.calibration.scenes.scenery import Stage, build_stage
from edge_sdk.calibration.scenes.streams import Rng, chance, stream, uniform
from edge_sdk.calibration.scenes.textures import Image

_UPRIGHT = np.eye(3)
_FALL_S = 0.5
# Distance in metres between two phases of the legs.
_STEP_M = {"pedestrian": 0.7, "cyclist": 1.6}


@dataclass(frozen=True)
class Shot:
    """One finished RGB frame and the boxes of the cars in it."""

    image: Image
    boxes: NDArray[np.float32]


def frame_count(plan: ScenePlan, fps: float) -> int:
    """How many frames a plan has."""
    return round(plan.conditions.duration_s * fps)


def shoot(plan: ScenePlan, fps: float, size: tuple[int, int]) -> Iterator[Shot]:
    """The frames of a plan, in order."""
    frames, cut = frame_count(plan, fps), 0
    if plan.before is not None and plan.tricks is not None and plan.tricks.cut_s is not None:
        cut = min(round(plan.tricks.cut_s * fps), frames)
        nobody = np.zeros((len(plan.cars), 6), np.float32)
        for shot in _shoot(plan.before, fps, size, range(cut)):
            yield Shot(shot.image, nobody)
    yield from _shoot(plan, fps, size, range(cut, frames))


def _shoot(plan: ScenePlan, fps: float, size: tuple[int, int], frames: range) -> Iterator[Shot]:
    stage, shake = build_stage(plan), _shake(plan)
    framing = Framing(stream(plan.seed, "framing"), size)
    studio = Studio(stage.xml, stage.textures, size, shadows=stage.shadows, fog=stage.fog)
    camera = _Camera(plan, stage, studio, Lens(plan, stage, framing, size), shake)
    source_fps = _source_fps(stream(plan.seed, "cadence"), fps)
    held, shot = -1, None
    try:
        for index in frames:
            shown = index if plan.tricks is None else plan.tricks.shown_frame(index, fps)
            source = int(shown * source_fps / fps + 1e-6)
            if shot is None or source != held:
                held, time_s = source, source / source_fps
                shot = Shot(camera.take(time_s), frame_boxes(plan, framing, shake, time_s))
            yield shot
    finally:
        studio.close()


def _source_fps(rng: Rng, fps: float) -> float:
    """Draw the real frame rate of the camera: a tenth of the cameras are slower than their stream."""
    slow, rate = chance(rng, 0.1), uniform(rng, 5.0, 8.0)
    return min(rate, fps) if slow else fps


def _shake(plan: ScenePlan) -> Shake:
    rng = stream(plan.seed, "shake")
    if plan.ego is None:
        shake = roadside_shake(rng, plan.track)
    else:
        shake = dashcam_shake(rng, plan.track, plan.ego, light_cars(plan.cars))
    return shake if plan.tricks is None else plan.tricks.knocked(shake)


class _Camera:
    """Sets the stage for a moment and takes the picture."""

    def __init__(self, plan: ScenePlan, stage: Stage, studio: Studio, lens: Lens, shake: Shake) -> None:
        self._plan, self._stage, self._studio, self._lens, self._shake = plan, stage, studio, lens, shake
        self._attitude = attitude(plan.track)
        self._hits = first_hits(plan.track)

    def take(self, time_s: float) -> Image:
        """The finished frame of a moment."""
        plan, pose = self._plan, self._plan.track.pose_at(time_s)
        index = min(round(time_s / RECORD_S), len(self._attitude) - 1)
        for i, car in enumerate(plan.cars):
            if car.vehicle.kind in BODY_KINDS:
                self._place_body(i, time_s, pose[i])
            elif i != plan.ego:
                self._place_car(i, index, float(pose[i, 0]), float(pose[i, 1]), float(pose[i, 2]))
        self._place_people(time_s)
        self._place_effects(time_s)
        camera = camera_pose(plan.mount, pose, self._shake.at(time_s))
        self._studio.place("camera", camera)
        return self._lens.finish(self._studio.frame(), time_s, camera, pose, plan.track.braking[index])

    def _place_car(self, i: int, index: int, x: float, y: float, yaw: float) -> None:
        pitch, roll = (float(v) for v in self._attitude[index, i])
        self._studio.place(f"car{i}", Pose3d(np.array([x, y, 0.0]), rotation(yaw, pitch, roll)))
        self._studio.tint(f"brake{i}", (1.0, 0.08, 0.06, float(self._plan.track.braking[index, i])))

    def _place_body(self, i: int, time_s: float, pose: Floats) -> None:
        """Place a body: its legs move with the distance it has gone, and it falls when it is hit."""
        hit_s, kind = self._hits.get(i), self._plan.cars[i].vehicle.kind
        fallen = 0.0 if hit_s is None else min(max(time_s - hit_s, 0.0) / _FALL_S, 1.0)
        lean = math.radians(85) * fallen if kind in WITH_LEGS else 0.0
        turned = rotation(float(pose[2]), lean, 0.0) if kind == "pedestrian" else rotation(float(pose[2]), 0.0, lean)
        # Lying, a body is as high as it is thick.
        place = np.array([pose[0], pose[1], 0.12 * fallen])
        self._studio.place(f"car{i}", Pose3d(place, turned))
        if kind in WITH_LEGS:
            gone = math.hypot(*(pose[:2] - self._plan.track.pose[0, i, :2]))
            phase = int(gone / _STEP_M[kind]) % 2
            for leg in (0, 1):
                self._studio.tint(f"legs{i}.{leg}", (1.0, 1.0, 1.0, float(leg == phase)))

    def _place_people(self, time_s: float) -> None:
        for i, walker in enumerate(self._stage.walkers):
            # Walking bobs by a few centimetres at about two steps a second.
            bob = 0.03 * abs(float(np.sin(6 * time_s)))
            place = np.array([walker.x_m + walker.speed_mps * time_s, walker.y_m, bob])
            self._studio.place(f"walker{i}", Pose3d(place, _UPRIGHT))

    def _place_effects(self, time_s: float) -> None:
        for i, part in enumerate(self._stage.parts):
            x, y, z, angle = part.place(time_s)
            self._studio.place(f"part{i}", Pose3d(np.array([x, y, z]), rotation(angle, 0.7 * angle, 0.4 * angle)))
        for i, puff in enumerate(self._stage.puffs):
            centre, radius, opacity = puff.at(time_s)
            self._studio.place(f"puff{i}", Pose3d(np.array(centre), _UPRIGHT))
            self._studio.resize(f"puff{i}", radius)
            self._studio.tint(f"puff{i}", (puff.grey, puff.grey, puff.grey, opacity))
