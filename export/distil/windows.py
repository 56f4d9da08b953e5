"""Training windows: pieces of clips that begin anywhere, some joined from two clips by a hard cut.

Every clip of a rendered set has its crash at about the same second. A window that begins at a random frame, and may
follow other footage, leaves a network no clock to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from edge_sdk.export.distil.augment import Luma, Rng, augment, resize, warp
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.recipe import Recipe, Stage
from edge_sdk.export.distil.targets import ACTORS, MAP_HEIGHT, MAP_WIDTH, Floats, frame_maps, frame_targets
from edge_sdk.export.graphs.student import CELL
from edge_sdk.perception.planes import Planes, window_planes

_SHORTEST_PIECE = 8


@dataclass(frozen=True, eq=False)
class Example:
    """One window: planes float32 `[frames, planes, h, w]`, targets and loss weights float32 `[frames, 4]`.

    `maps` float32 `[frames, 4, h / 16, w / 16]` are `frame_maps` by each cell's best-covered spot, in 0..1;
    `map_weights` float32 `[frames]` are 0 where a clip has no boxes.
    """

    planes: Planes
    targets: Floats
    weights: Floats
    maps: Floats
    map_weights: Floats


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive frames of one clip, named as in `Example`."""

    luma: Luma
    targets: Floats
    weights: Floats
    maps: NDArray[np.uint8]
    map_weights: Floats


class WindowSampler:
    """Draws windows for one stage; everything random comes from the generator it is given.

    Clips of another size are resized once and kept in memory: 1.2 GB for 80,000 frames at 96 x 160.
    """

    def __init__(self, clips: Sequence[CachedClip], recipe: Recipe, stage: Stage) -> None:
        self._recipe, self._height, self._width, self._crop = recipe, stage.height, stage.width, stage.crop
        size = (stage.height, stage.width)
        self._luma = [
            clip.luma if stage.crop or clip.luma.shape[1:] == size else _resized(clip, *size) for clip in clips
        ]
        self.clips = len(clips)
        self._labels = [frame_targets(clip.times_s, clip.label, recipe.targets, recipe.pictures) for clip in clips]
        self._maps = [frame_maps(clip) for clip in clips]

    def draw(self, rng: Rng, clip: int) -> Example:
        """One augmented window that ends in clip number `clip`."""
        height, width = self._height, self._width
        pieces = [self._piece(rng, *piece) for piece in self._plan(rng, clip)]
        luma, matrix = augment(np.concatenate([piece.luma for piece in pieces]), rng, height, width)
        weights = np.concatenate([piece.weights for piece in pieces])
        settings, pictures = self._recipe.windows, self._recipe.pictures
        weights[: round(settings.warm_up_s * pictures.rate_hz)] *= settings.warm_up_weight
        maps = torch.from_numpy(np.concatenate([piece.maps for piece in pieces])).float()
        moved = warp(maps.flatten(0, 1), matrix).unflatten(0, maps.shape[:2])
        return Example(
            planes=window_planes(luma, pictures.lags),
            targets=np.concatenate([piece.targets for piece in pieces]),
            weights=weights,
            maps=functional.adaptive_max_pool2d(moved, (height // CELL, width // CELL)).numpy(),
            map_weights=np.concatenate([piece.map_weights for piece in pieces]),
        )

    def _plan(self, rng: Rng, clip: int) -> list[tuple[int, int]]:
        """Pairs of clip and number of frames that make a window."""
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

    def _piece(self, rng: Rng, clip: int, frames: int) -> Piece:
        luma, (targets, weights), maps = self._luma[clip], self._labels[clip], self._maps[clip]
        first = int(rng.integers(len(luma) - frames + 1))
        at = slice(first, first + frames)
        piece = Piece(
            luma=np.asarray(luma[at]),
            targets=targets[at],
            weights=weights[at],
            maps=np.zeros((frames, 4, MAP_HEIGHT, MAP_WIDTH), np.uint8) if maps is None else maps[at],
            map_weights=np.full(frames, 0.0 if maps is None else 1.0, np.float32),
        )
        return cut(piece, rng, self._height, self._width) if self._crop else piece


def cut(piece: Piece, rng: Rng, height: int, width: int) -> Piece:
    """A part of the pictures, `height` x `width`, around the crash or else the vehicles of the incident.

    Frames whose crash lies mostly outside lose their weight: nothing in the part shows what they are labelled with.
    """
    down, across = piece.luma.shape[1] // MAP_HEIGHT, piece.luma.shape[2] // MAP_WIDTH
    rows, columns = height // down, width // across
    crash: NDArray[np.bool_] = np.asarray(piece.maps[:, 1:ACTORS].any(1))
    wanted = crash if crash.any() else piece.maps[:, ACTORS] > 0
    top = _offset(wanted.sum((0, 2)), rng, rows)
    left = _offset(wanted.sum((0, 1)), rng, columns)
    inside = (..., slice(top, top + rows), slice(left, left + columns))
    seen, all_ = crash[inside].sum((1, 2)), crash.sum((1, 2))
    pixels = piece.luma[:, top * down : top * down + height, left * across : left * across + width]
    return replace(
        piece,
        luma=pixels,
        maps=piece.maps[inside],
        weights=piece.weights * (2 * seen >= all_)[:, None].astype(np.float32),
    )


def _offset(mass: NDArray[np.int_], rng: Rng, size: int) -> int:
    """Where a stretch of `size` cells begins whose middle is near the middle of `mass`; anywhere without mass."""
    last = len(mass) - size
    if not mass.any():
        return int(rng.integers(last + 1))
    middle = float(np.average(np.arange(len(mass)), weights=mass))
    return int(np.clip(round(middle - size / 2 + rng.uniform(-0.3, 0.3) * size), 0, last))


def _resized(clip: CachedClip, height: int, width: int) -> Luma:
    return resize(np.array(clip.luma), height, width)
