"""The first stage: the tower learns to see vehicles, from rendered scenes whose boxes are known.

Each patch says how much of it a vehicle covers and where that vehicle's box ends; the frame says view, light and
weather. The heads that say so are dropped afterwards; what they taught stays in the tower, which sees one frame at a
time here as it does on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edge_sdk.export.graphs.vision import MERGE, Grid
from edge_sdk.export.mini.material import Material
from edge_sdk.export.mini.model import Tower
from edge_sdk.export.mini.training import Batch

VIEWS, LIGHTS, WEATHERS = ("dashcam", "roadside"), ("day", "dusk", "night"), ("clear", "rain", "fog")
# A box edge matters about as much as whether there is a vehicle at all.
_BOX_WEIGHT = 4.0
_SCENE_WEIGHT = 0.2


class TowerLearner(nn.Module):
    """A tower with its heads for this stage."""

    # Any: a transformers model.
    def __init__(self, model: Any, tower: Tower, hidden: int) -> None:
        super().__init__()
        self.vision, self._tower = model.model.vision_model, tower
        self.patch_head = nn.Linear(hidden, 5)
        self.scene_head = nn.Linear(hidden, len(VIEWS) + len(LIGHTS) + len(WEATHERS))

    def forward(self, batch: Batch) -> Tensor:
        """The loss of frames: uint8 `patches [n, patches, 588]` and the targets of `frame_targets`."""
        states = self._tower.patches_to_states(self.vision, batch["patches"])
        said = self.patch_head(states)
        loss: Tensor = functional.binary_cross_entropy_with_logits(said[..., 0], batch["cover"])
        apart = (said[..., 1:].sigmoid() - batch["box"]).abs().sum(-1) * batch["inside"]
        loss = loss + _BOX_WEIGHT * apart.sum() / (4 * batch["inside"].sum().clamp(min=1))
        scene = self.scene_head(states.mean(1)).split((len(VIEWS), len(LIGHTS), len(WEATHERS)), -1)
        for logits, truth in zip(scene, batch["scene"].unbind(-1), strict=True):
            loss = loss + _SCENE_WEIGHT * functional.cross_entropy(logits, truth)
        return loss


def draw_frames(clips: Sequence[Material], tower: Tower, seed: int, step: int, numbers: Sequence[int]) -> Batch:
    """Frames of random clips with their targets, one for each of `numbers`."""
    rows = []
    for number in numbers:
        random = np.random.default_rng([seed, 1, step, number])
        clip = clips[int(random.integers(len(clips)))]
        frame = int(random.integers(len(clip.pictures.times_s)))
        rows.append(frame_targets(clip, frame, tower.grid))
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}


# Any: arrays of several element types.
def frame_targets(clip: Material, frame: int, grid: Grid) -> dict[str, NDArray[Any]]:
    """`patches`; `cover [n]` in 0..1; `box [n, 4]` of the nearest vehicle over the patch's middle; `inside [n]`.

    Boxes are shares of the picture; the nearest vehicle is the one whose box ends lowest.
    """
    seen = clip.boxes[frame][clip.boxes[frame][:, 4] > 0]
    left, top = (places.astype(np.float32) for places in patch_corners(grid))
    right, bottom = left + 1 / grid.columns, top + 1 / grid.rows
    across = np.minimum(right, seen[:, 2:3]) - np.maximum(left, seen[:, 0:1])
    down = np.minimum(bottom, seen[:, 3:4]) - np.maximum(top, seen[:, 1:2])
    shares = np.clip(across, 0, None) * np.clip(down, 0, None) * grid.rows * grid.columns
    x, y = (left + right) / 2, (top + bottom) / 2
    within = (seen[:, 0:1] <= x) & (x <= seen[:, 2:3]) & (seen[:, 1:2] <= y) & (y <= seen[:, 3:4])
    box = np.zeros((grid.patches, 4), np.float32)
    for vehicle in np.argsort(seen[:, 3]):
        box[within[vehicle]] = seen[vehicle, :4]
    record = clip.record
    scene = (VIEWS.index(record.view), LIGHTS.index(record.light), WEATHERS.index(record.weather))
    return {
        "patches": clip.pictures.patches[frame],
        "cover": np.clip(shares.sum(0), 0, 1).astype(np.float32),
        "box": box,
        "inside": within.any(0).astype(np.float32),
        "scene": np.array(scene, np.int64),
    }


def patch_corners(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left and top edge of each patch `[patches]` in 0..1, in the model's order: window by window."""
    rows, columns = np.meshgrid(np.arange(grid.rows), np.arange(grid.columns), indexing="ij")
    split = (grid.rows // MERGE, MERGE, grid.columns // MERGE, MERGE)
    ordered = (places.reshape(split).transpose(0, 2, 1, 3).ravel() for places in (columns, rows))
    column, row = ordered
    return column / grid.columns, row / grid.rows
