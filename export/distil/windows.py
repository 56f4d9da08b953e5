"""Training windows: pieces of clips that begin anywhere, some joined from two clips by a hard cut.

Every clip of a rendered set has its crash at about the same second. A window that begins at a random frame, and may
follow other footage, gives a network no clue to the time since the clip began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edge_sdk.export.distil.augment import Luma, Rng, augment, resize
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.recipe import Recipe
from edge_sdk.export.distil.targets import (
    FLOW,
    MAP_HEIGHT,
    MAP_WIDTH,
    Floats,
    Maps,
    frame_maps,
    frame_targets,
    known_boxes,
)
from edge_sdk.export.graphs.student import CELL
from edge_sdk.perception.planes import Planes, window_planes

_SHORTEST_PIECE = 8


@dataclass(frozen=True, eq=False)
class Example:
    """One window: planes float32 `[frames, planes, h, w]`, targets and loss weights float32 `[frames, 4]`.

    `maps` float32 `[frames, 6, h / 16, w / 16]` are `frame_maps` on the grid: the maximum in each cell, in 0..1,
    and the mean motion of the vehicles in it. `map_weights` float32 `[frames]` are 0 where boxes are not known.
    `origins` int64 `[frames, 2]` are the numbers of each frame's clip, and of the frame in that clip.
    """

    planes: Planes
    targets: Floats
    weights: Floats
    maps: Floats
    map_weights: Floats
    origins: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Piece:
    luma: Luma
    targets: Floats
    weights: Floats
    maps: Maps
    map_weights: Floats
    origins: NDArray[np.int64]


class WindowSampler:
    """A source of windows of one picture size; all randomness comes from the generator that it is given.

    Clips of another size are resized once and kept in memory: 1.2 GB for 80,000 frames at 96 x 160.
    """

    def __init__(self, clips: Sequence[CachedClip], recipe: Recipe, height: int, width: int) -> None:
        self._recipe, self._height, self._width = recipe, height, width
        self._luma = [
            clip.luma if clip.luma.shape[1:] == (height, width) else _resized(clip, height, width) for clip in clips
        ]
        self.clips = len(clips)
        self._labels = [frame_targets(clip.times_s, clip.label, recipe.targets, recipe.pictures) for clip in clips]
        self._known = [known_boxes(clip) for clip in clips]
        self._cached = clips

    def draw(self, rng: Rng, clip: int) -> Example:
        """Draw one augmented window that ends in clip number `clip`."""
        height, width = self._height, self._width
        pieces = [self._piece(rng, *piece) for piece in self._plan(rng, clip)]
        shown = np.concatenate([piece.luma for piece in pieces])
        luma, framing = augment(shown, rng, height, width, self.enlarged(rng))
        weights = np.concatenate([piece.weights for piece in pieces])
        settings, pictures = self._recipe.windows, self._recipe.pictures
        weights[: round(settings.warm_up_s * pictures.rate_hz)] *= settings.warm_up_weight
        maps = torch.from_numpy(np.concatenate([piece.maps for piece in pieces])).float()
        moved = framing.move(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        return Example(
            planes=window_planes(luma, pictures.lags),
            targets=np.concatenate([piece.targets for piece in pieces]),
            weights=weights,
            maps=grid_maps(moved, framing.matrix, height // CELL, width // CELL).numpy(),
            map_weights=np.concatenate([piece.map_weights for piece in pieces]),
            origins=np.concatenate([piece.origins for piece in pieces]),
        )

    def enlarged(self, rng: Rng) -> float:
        """The window's zoom in addition to what `augment` draws."""
        return 1.0

    def first_frame(self, rng: Rng, clip: int, frames: int) -> int:
        """Draw where a piece of a clip begins: anywhere."""
        return int(rng.integers(len(self._luma[clip]) - frames + 1))

    def _plan(self, rng: Rng, clip: int) -> list[tuple[int, int]]:
        """Draw the pieces of a window, as pairs of clip and number of frames."""
        wanted = self._recipe.windows.frames
        longest = min(wanted, len(self._luma[clip]))
        if longest == wanted and rng.random() >= self._recipe.windows.splice_share:
            return [(clip, wanted)]
        shortest = min(2 * _SHORTEST_PIECE, longest)
        last = int(rng.integers(shortest, max(min(longest, wanted - _SHORTEST_PIECE), shortest) + 1))
        plan, missing = [(clip, last)], wanted - last
        while missing > 0:
            other = int(rng.integers(self.clips))
            taken = min(missing, len(self._luma[other]))
            plan.insert(0, (other, taken))
            missing -= taken
        return plan

    def _piece(self, rng: Rng, clip: int, frames: int) -> _Piece:
        luma, (targets, weights) = self._luma[clip], self._labels[clip]
        maps = frame_maps(self._cached[clip], self._recipe.targets)
        first = self.first_frame(rng, clip, frames)
        piece = slice(first, first + frames)
        return _Piece(
            luma=np.asarray(luma[piece]),
            targets=targets[piece],
            weights=weights[piece],
            maps=np.zeros((frames, FLOW.stop, MAP_HEIGHT, MAP_WIDTH), np.int8) if maps is None else maps[piece],
            map_weights=self._known[clip][piece],
            origins=np.stack([np.full(frames, clip), np.arange(first, first + frames)], 1),
        )


def grid_maps(maps: Tensor, matrix: Tensor, rows: int, columns: int) -> Tensor:
    """Reduce warped maps `[frames, 6, h, w]` to the grid; motion is warped too, by the inverse of `matrix`."""
    covered = functional.adaptive_max_pool2d(maps[:, : FLOW.start], (rows, columns))
    moved = functional.adaptive_avg_pool2d(maps[:, FLOW], (rows, columns))
    share = functional.adaptive_avg_pool2d(maps[:, :1], (rows, columns)).clamp(min=1 / 64)
    turned = torch.einsum("ij,fjhw->fihw", torch.linalg.inv(matrix[:, :2]), moved / share)
    return torch.cat([covered, turned], 1)


def _resized(clip: CachedClip, height: int, width: int) -> Luma:
    return resize(np.array(clip.luma), height, width)
