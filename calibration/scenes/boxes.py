"""Boxes of all cars in the finished picture, frame by frame: dense supervision that only rendered scenes can give.

The array is float32 [frames, cars, 6]: x0, y0, x1, y1 as shares of width and height (mirroring and black bars
included), 1 where the car is in the picture, and its role: 0 bystander, 1 one of the two cars of the incident without
contact, 2 a car of the crash. The car that carries the camera has no box.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.scenes.cameras import Shake, box_points, camera_pose, project
from edge_sdk.calibration.scenes.geometry import Floats
from edge_sdk.calibration.scenes.labels import crashed_cars
from edge_sdk.calibration.scenes.lens import Framing
from edge_sdk.calibration.scenes.plan import ScenePlan

BYSTANDER, ACTOR, CRASHED = 0.0, 1.0, 2.0
_NEAREST_M = 0.3
_SMALLEST = 0.005


def frame_boxes(plan: ScenePlan, framing: Framing, shake: Shake, time_s: float) -> NDArray[np.float32]:
    """The boxes [cars, 6] of the moment `time_s`."""
    pose = plan.track.pose_at(time_s)
    camera = camera_pose(plan.mount, pose, shake.at(time_s))
    crashed = crashed_cars(plan.track)
    rows = np.zeros((len(plan.cars), 6), np.float32)
    for i, car in enumerate(plan.cars):
        rows[i, 5] = CRASHED if i in crashed else ACTOR if i in (0, 1) else BYSTANDER
        if i == plan.mount.car:
            continue
        image, depth = project(camera, plan.mount, box_points(pose[i], car))
        if (depth < _NEAREST_M).sum() > 4:
            continue
        box = framing.place(_hull(image[depth >= _NEAREST_M]))
        if (box[2:] - box[:2]).min() > _SMALLEST:
            rows[i, :4], rows[i, 4] = box, 1.0
    return rows


def _hull(points: Floats) -> Floats:
    """The rectangle around points, clipped at the picture's border."""
    return np.concatenate([np.clip(points.min(axis=0), 0, 1), np.clip(points.max(axis=0), 0, 1)])
