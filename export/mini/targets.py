"""Dense targets from a scene's boxes, for heads that are dropped later: what every frame and every token shows.

A word or two per clip is little to learn from; these are hundreds of numbers per frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.export.graphs.vision import MERGE, Grid
from edge_sdk.export.mini.material import Material
from edge_sdk.export.mini.windows import Shot

VIEWS, LIGHTS, WEATHERS = ("dashcam", "roadside"), ("day", "dusk", "night"), ("clear", "rain", "fog")
# Roles of boxes: 2 for a party of the crash.
_CRASHED = 2
# A vehicle that covers less of a token's place than this is ignored for the token.
_LEAST_COVER = 0.02
# From one shown frame to the next, a move by a twentieth of the picture counts as much as a growth by a fifth.
_MOTION_SCALE = np.array([20.0, 20.0, 5.0], np.float32)
_MOST_MOTION = 4.0

Floats = NDArray[np.float32]


def patch_corners(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left and top edge of each patch `[patches]` in 0..1, in the model's order: window by window."""
    rows, columns = np.meshgrid(np.arange(grid.rows), np.arange(grid.columns), indexing="ij")
    split = (grid.rows // MERGE, MERGE, grid.columns // MERGE, MERGE)
    ordered = (places.reshape(split).transpose(0, 2, 1, 3).ravel() for places in (columns, rows))
    column, row = ordered
    return column / grid.columns, row / grid.rows


# Any: arrays of several element types.
def frame_targets(clip: Material, pictures: Sequence[int], grid: Grid) -> dict[str, NDArray[Any]]:
    """What the tower must see in each of `pictures`, numbers within the clip.

    `cover [frames, patches]` in 0..1: how much vehicles cover; `ends [frames, patches, 4]`: how far left, up, right and
    down of the patch's middle the nearest vehicle there ends, the one whose box ends lowest, as shares of the picture;
    `inside [frames, patches]`: whether there is one; `scene [frames, 3]`: numbers of view, light and weather. `ends`
    are distances, because the tower's rotary embedding knows only differences of places.
    """
    boxes = _boxes(clip, pictures)
    left, top = (places.astype(np.float32) for places in patch_corners(grid))
    shares = _shares(boxes, left, top, 1 / grid.columns, 1 / grid.rows)
    x, y = left + 0.5 / grid.columns, top + 0.5 / grid.rows
    seen = boxes[:, :, None]
    within = (seen[..., 0] <= x) & (x <= seen[..., 2]) & (seen[..., 1] <= y) & (y <= seen[..., 3]) & (seen[..., 4] > 0)
    box, inside = _nearest(np.where(within, boxes[:, :, None, 3], -1.0))
    record = clip.record
    scene = (VIEWS.index(record.view), LIGHTS.index(record.light), WEATHERS.index(record.weather))
    return {
        "cover": np.clip(shares.sum(1), 0, 1).astype(np.float32),
        "ends": _ends(boxes[np.arange(len(boxes))[:, None], box], x, y) * inside[..., None],
        "inside": inside,
        "scene": np.tile(np.array(scene, np.int64), (len(boxes), 1)),
    }


def moments(clip: Material, shot: Shot) -> Floats:
    """Whether the crash is under way, has begun, is foreseeable by each picture's own time: `[frames, 3]`.

    All are 0 where the window ends before the crash.
    """
    times_s = clip.pictures.times_s[list(shot.pictures)]
    start_s, end_s = clip.record.crash_start_s, clip.record.crash_end_s
    found = np.zeros((len(times_s), 3), np.float32)
    if start_s is not None and start_s < shot.window.end_s:
        foreseen_s = start_s if clip.record.pre_crash_start_s is None else clip.record.pre_crash_start_s
        begun = times_s >= start_s
        found[:, 0] = begun & (times_s <= (end_s or shot.window.end_s))
        found[:, 1] = begun
        found[:, 2] = times_s >= foreseen_s
    return found


def token_targets(clip: Material, shot: Shot, grid: Grid) -> dict[str, Floats]:
    """What the decoder must know at each image token, about the vehicle that covers most of the token's place.

    `places [frames * tokens, 2]`: how much of the place parties of the crash cover, once the crash has begun and once
    it is foreseeable; `edges [..., 4]`: how far from the token's middle the vehicle ends; `motion [..., 3]`: how the
    vehicle's own middle has moved since the previous frame, across and down, and the logarithm of its growth, scaled;
    `shown`, `moved [...]`: whether `edges` and `motion` are known.
    """
    boxes = _boxes(clip, shot.pictures)
    left, top = (places[:: MERGE**2].astype(np.float32) for places in patch_corners(grid))
    shares = _shares(boxes, left, top, MERGE / grid.columns, MERGE / grid.rows)
    crashed = np.clip((shares * (boxes[:, :, None, 5] == _CRASHED)).sum(1), 0, 1)
    said = moments(clip, shot)
    vehicle, shown = _nearest(np.where(shares > _LEAST_COVER, shares, -1.0))
    frames = np.arange(len(boxes))[:, None]
    now, before = boxes[frames, vehicle], boxes[np.maximum(frames - 1, 0), vehicle]
    motion = np.concatenate([_middle(now) - _middle(before), np.log(_side(now) / _side(before))[..., None]], -1)
    moved = shown * (before[..., 4] > 0) * (frames > 0)
    found = {
        "places": np.stack([crashed * said[:, 1:2], crashed * said[:, 2:3]], -1),
        "edges": _ends(now, left + MERGE / 2 / grid.columns, top + MERGE / 2 / grid.rows) * shown[..., None],
        "motion": np.clip(motion * _MOTION_SCALE, -_MOST_MOTION, _MOST_MOTION) * moved[..., None],
        "shown": shown,
        "moved": moved,
    }
    return {name: value.reshape(-1, *value.shape[2:]).astype(np.float32) for name, value in found.items()}


def _boxes(clip: Material, pictures: Sequence[int]) -> Floats:
    """Boxes `[frames, vehicles, 6]`, with one that is never visible where a scene has none."""
    found: Floats = clip.boxes[list(pictures)]
    return found if found.shape[1] else np.zeros((len(found), 1, 6), np.float32)


def _shares(boxes: Floats, left: Floats, top: Floats, width: float, height: float) -> Floats:
    """How much of each place each visible vehicle covers, `[frames, vehicles, places]`."""
    seen = boxes[:, :, None]
    across = np.minimum(left + width, seen[..., 2]) - np.maximum(left, seen[..., 0])
    down = np.minimum(top + height, seen[..., 3]) - np.maximum(top, seen[..., 1])
    found: Floats = np.clip(across, 0, None) * np.clip(down, 0, None) * (seen[..., 4] > 0) / (width * height)
    return found


def _nearest(score: Floats) -> tuple[NDArray[np.intp], Floats]:
    """For each place, both `[frames, places]`: the vehicle of the highest `score`, and 1 where that is above zero."""
    return score.argmax(1), (score.max(1) > 0).astype(np.float32)


def _ends(boxes: Floats, x: Floats, y: Floats) -> Floats:
    """How far left, up, right and down of each place `[places]` its box of `[frames, places, 6]` ends."""
    return np.stack([x - boxes[..., 0], y - boxes[..., 1], boxes[..., 2] - x, boxes[..., 3] - y], -1)


def _middle(boxes: Floats) -> Floats:
    found: Floats = ((boxes[..., :2] + boxes[..., 2:4]) / 2).astype(np.float32)
    return found


def _side(boxes: Floats) -> Floats:
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    found: Floats = np.sqrt(np.clip(area, 1e-6, None)).astype(np.float32)
    return found
