"""Training of the tower to see vehicles, from rendered scenes whose boxes are known.

Heads predict how much of each patch vehicles cover and where the nearest vehicle's box ends, and for each frame view,
light and weather. The heads are dropped when pre-training ends; what they taught stays in the tower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_sdk.export.mini.material import Material
from edge_sdk.export.mini.model import Tower
from edge_sdk.export.mini.recipe import Views
from edge_sdk.export.mini.targets import LIGHTS, VIEWS, WEATHERS, frame_targets
from edge_sdk.export.mini.training import Batch
from edge_sdk.export.mini.views import draw_view, seen_through

# Scales a distance of a quarter of the picture to one, so that an edge matters as much as whether there is a vehicle at
# all.
SCALE = 4.0
_SCENE_WEIGHT = 0.2


def blank_head(hidden: int, answers: int) -> nn.Linear:
    """A head of zeros, so that its first gradients do not disturb what a trained model already knows."""
    head = nn.Linear(hidden, answers)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


class TowerHeads(nn.Module):
    """The heads on the tower's states."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.patch_head = blank_head(hidden, 5)
        self.scene_head = blank_head(hidden, len(VIEWS) + len(LIGHTS) + len(WEATHERS))

    def forward(self, states: Tensor, batch: Batch) -> Tensor:
        """The loss of `states [..., patches, hidden]` of frames `[...]` with the targets of `frame_targets`."""
        said = self.patch_head(states).float()
        loss: Tensor = functional.binary_cross_entropy_with_logits(said[..., 0], batch["cover"])
        apart = (said[..., 1:] - SCALE * batch["ends"]).abs().mean(-1) * batch["inside"]
        loss = loss + apart.sum() / batch["inside"].sum().clamp(min=1)
        scene = self.scene_head(states.mean(-2)).float().split((len(VIEWS), len(LIGHTS), len(WEATHERS)), -1)
        for logits, truth in zip(scene, batch["scene"].unbind(-1), strict=True):
            loss = loss + _SCENE_WEIGHT * functional.cross_entropy(logits.flatten(0, -2), truth.flatten())
        return loss


class TowerLearner(nn.Module):
    """A tower with its heads, for the stage that shows it single frames."""

    # Any: a transformers model.
    def __init__(self, model: Any, tower: Tower, hidden: int) -> None:
        super().__init__()
        self.vision, self._tower, self.heads = model.model.vision_model, tower, TowerHeads(hidden)

    def forward(self, batch: Batch) -> Tensor:
        """The loss of frames: uint8 `patches [n, patches, 588]` and the targets of `frame_targets`."""
        loss: Tensor = self.heads(self._tower.patches_to_states(self.vision, batch["patches"]), batch)
        return loss


def draw_frames(
    clips: Sequence[Material], tower: Tower, views: Views, seed: int, step: int, numbers: Sequence[int]
) -> Batch:
    """Draw frames of random clips with their targets, one for each of `numbers`."""
    rows = []
    for number in numbers:
        random = np.random.default_rng([seed, 1, step, number])
        clip = clips[int(random.integers(len(clips)))]
        frame = int(random.integers(len(clip.pictures.times_s)))
        seen = seen_through(clip, draw_view(clip, views, None, random))
        patches = tower.eye.patches(clip.pictures, [frame], seen.view)
        rows.append({"patches": patches, **frame_targets(seen, [frame], tower.grid)})
    return {name: torch.from_numpy(np.concatenate([row[name] for row in rows])) for name in rows[0]}
