"""Per-frame targets, maps of the grid, and their weights, made from labels.

Crash and pre-crash are true while they last. An instant (start, end) becomes a short Gaussian bump, some frames late:
one picture seldom shows that a crash begins, but the half second after it does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_sdk.clips import LabelledClip
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.recipe import Pictures, Targets

Floats = NDArray[np.float32]
Maps = NDArray[np.int8]
CRASH, PRE_CRASH, START, END = range(4)
MAP_HEIGHT, MAP_WIDTH = 48, 80
# Roles of a box whose vehicle takes part in the incident, and of one that crashes.
ACTOR, CRASHED = 1, 2
# Indices of the map that weighs cells, and of the two maps of motion.
ACTORS, FLOW = 3, slice(4, 6)
# Motion is learnt over the longest lag of the demo student's planes; most vehicles move less than 127 units in it.
FLOW_FRAMES, FLOW_UNIT = 3, 1 / 512
# A bump reaches about this many standard deviations; inside it an unknown label must not be learnt from.
_REACH = 3.0


def frame_targets(
    times_s: NDArray[np.float64], clip: LabelledClip, targets: Targets, pictures: Pictures
) -> tuple[Floats, Floats]:
    """Targets in 0..1 and weights (0 where the label does not say), both float32 `[frames, 4]`.

    `times_s` are the frames' presentation times since the clip's first decoded frame.
    """
    truth, weights = np.zeros((len(times_s), 4), np.float32), np.full((len(times_s), 4), clip.labelled, np.float32)
    if not clip.labelled or not clip.crash or clip.start_s is None:
        return truth, weights
    delay_s = targets.heat_delay_frames / pictures.rate_hz
    truth[:, START] = _bump(times_s, clip.start_s + delay_s, targets.heat_sigma_s)
    _crash(truth, weights, times_s, clip.start_s, clip.end_s, targets.aftermath_s)
    if clip.end_s is None:
        weights[times_s >= clip.start_s, END] = 0
    else:
        truth[:, END] = _bump(times_s, clip.end_s + delay_s, targets.heat_sigma_s)
    if clip.pre_crash_s is None:
        weights[times_s < clip.start_s, PRE_CRASH] = 0
    else:
        truth[:, PRE_CRASH] = (times_s >= clip.pre_crash_s) & (times_s < clip.start_s)
    return truth, weights


def _crash(
    truth: Floats,
    weights: Floats,
    times_s: NDArray[np.float64],
    start_s: float,
    end_s: float | None,
    aftermath_s: float,
) -> None:
    until_s = start_s + aftermath_s
    truth[:, CRASH] = (times_s >= start_s) & (times_s <= max(until_s, end_s or 0.0))
    if end_s is None:
        weights[times_s > until_s, CRASH] = 0


def _bump(times_s: NDArray[np.float64], at_s: float, sigma_s: float) -> Floats:
    distance = (times_s - at_s) / sigma_s
    return np.where(np.abs(distance) < _REACH, np.exp(-0.5 * distance**2), 0.0).astype(np.float32)


def frame_maps(clip: CachedClip, targets: Targets) -> Maps | None:
    """Maps int8 `[frames, 6, MAP_HEIGHT, MAP_WIDTH]`; None without boxes.

    The first three mark where a vehicle is, where one crashes, and where one will crash. The fourth is not a target: it
    marks the vehicles of the incident, crash or near miss, whose cells are most worth learning from. The last two hold
    the vehicle's motion across and down over `FLOW_FRAMES` frames, in units of `FLOW_UNIT` of the picture's width and
    height. All are finer than the grid, so that they can be warped with the picture before they are reduced to cells.
    """
    if clip.boxes is None:
        return None
    maps = np.zeros((len(clip.boxes), FLOW.stop, MAP_HEIGHT, MAP_WIDTH), np.int8)
    states, moved = frame_states(clip, targets.aftermath_s), _moved(clip.boxes)
    corners = clip.boxes[..., :4] * [MAP_WIDTH, MAP_HEIGHT, MAP_WIDTH, MAP_HEIGHT]
    low, high = np.floor(corners[..., :2]).astype(int), np.ceil(corners[..., 2:]).astype(int)
    for t, vehicle in np.argwhere(clip.boxes[..., 4] > 0):
        (x0, y0), (x1, y1) = low[t, vehicle], high[t, vehicle]
        maps[t, 0, y0:y1, x0:x1] = 1
        maps[t, FLOW, y0:y1, x0:x1] = moved[t, vehicle, :, None, None]
        if clip.boxes[t, vehicle, 5] == CRASHED:
            maps[t, 1:ACTORS, y0:y1, x0:x1] |= states[t, :, None, None]
        if clip.boxes[t, vehicle, 5] >= ACTOR:
            maps[t, ACTORS, y0:y1, x0:x1] = 1
    return maps


def known_boxes(clip: CachedClip) -> Floats:
    """1 for frames whose vehicles have boxes, float32 `[frames]`.

    A rendered scene may begin with other footage up to a cut, and boxes exist only for what follows. An incident lists
    its vehicles in every frame, even hidden ones: a frame in which no vehicle has a role lies before the cut.
    """
    known = np.zeros(len(clip.times_s), np.float32)
    if clip.boxes is not None:
        known[(clip.boxes[..., 5] >= ACTOR).any(axis=1)] = 1
    return known


def _moved(boxes: Floats) -> Maps:
    """Displacement of every vehicle's centre over the last `FLOW_FRAMES` frames, int8 `[frames, vehicles, 2]`.

    0 unless the vehicle is visible in both frames.
    """
    middle = (boxes[..., :2] + boxes[..., 2:4]) / 2
    moved = np.zeros((*boxes.shape[:2], 2), np.float32)
    seen = (boxes[FLOW_FRAMES:, :, 4] > 0) & (boxes[:-FLOW_FRAMES, :, 4] > 0)
    moved[FLOW_FRAMES:][seen] = (middle[FLOW_FRAMES:] - middle[:-FLOW_FRAMES])[seen]
    return np.clip(np.round(moved / FLOW_UNIT), -127, 127).astype(np.int8)


def frame_states(clip: CachedClip, aftermath_s: float) -> Maps:
    """Whether a crash is under way, and whether one is foreseeable: int8 `[frames, 2]`."""
    label, times = clip.label, clip.times_s
    states = np.zeros((len(times), 2), np.int8)
    if label.start_s is not None:
        end_s = max(label.start_s + aftermath_s, label.end_s or 0.0)
        states[:, 0] = (times >= label.start_s) & (times <= end_s)
        states[:, 1] = (times >= (label.start_s if label.pre_crash_s is None else label.pre_crash_s)) & (
            times < label.start_s
        )
    return states
