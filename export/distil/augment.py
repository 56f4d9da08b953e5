"""Augmentation that makes one window of luma look as if another camera had filmed it.

Random settings apply to the whole window, as they would for a real camera; only shake and noise change from frame to
frame. Luma is changed before the motion planes are computed, so a held frame or a shake affects them as it would live.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Luma = NDArray[np.uint8]
Rng = np.random.Generator
_NOISE = torch.from_numpy(np.random.default_rng(0).standard_normal(1 << 20, np.float32))


class Bars(NamedTuple):
    """Black bars at both ends of an axis of `[frames, h, w]`; each covers `share` of its length, 0 for no bars."""

    axis: int
    share: float

    def cover(self, x: Tensor) -> Tensor:
        """Set pictures or maps `[n, h, w]` to 0 under the bars, in place; returns them."""
        length = x.shape[self.axis]
        size = round(length * self.share)
        x.narrow(self.axis, 0, size).fill_(0)
        x.narrow(self.axis, length - size, size).fill_(0)
        return x


class Framing(NamedTuple):
    """How the content of a window was moved and covered: the warp float32 `[2, 3]`, and the bars."""

    matrix: Tensor
    bars: Bars

    def move(self, maps: Tensor) -> Tensor:
        """Move maps float32 `[n, h, w]` of the original window with its pictures; 0 off the source and under bars."""
        moved = warp(maps, self.matrix)
        return self.bars.cover(moved.clone()) if self.bars.share else moved


def augment(luma: Luma, rng: Rng, height: int, width: int, enlarged: float = 1.0) -> tuple[Luma, Framing]:
    """Change a window uint8 `[frames, h, w]` at random, enlarge it, and resize it to `[frames, height, width]`.

    Returns the new window, uint8, and its `Framing`, by which maps follow it.
    """
    luma = _hold(_shade(luma, rng), rng)
    matrix = _enlarge(_draw_warp(rng), enlarged)
    x = warp(_resize(torch.from_numpy(luma).float(), height, width), matrix)
    x = _noise(_blur(_shake(x, rng), rng), rng)
    bars = _draw_bars(rng)
    return _to_luma(bars.cover(x)), Framing(matrix, bars)


def resize(luma: Luma, height: int, width: int) -> Luma:
    """Resize a window without augmenting it, for validation at a training stage's size."""
    if luma.shape[1:] == (height, width):
        return luma
    return _to_luma(_resize(torch.from_numpy(luma).float(), height, width))


def _to_luma(x: Tensor) -> Luma:
    pictures: Luma = x.round_().clamp_(0, 255).to(torch.uint8).contiguous().numpy()
    return pictures


def _resize(x: Tensor, height: int, width: int) -> Tensor:
    across, down = x.shape[2] // width, x.shape[1] // height
    if x.shape[1:] == (height * down, width * across):
        # The same area mean as below, several times faster.
        return x if down == across == 1 else functional.avg_pool2d(x[None], (down, across))[0]
    return functional.interpolate(x[None], (height, width), mode="area")[0]


def _shade(luma: Luma, rng: Rng) -> Luma:
    """Change exposure, contrast and gamma through a table of 256 entries."""
    level = np.linspace(0, 1, 256) ** math.exp(rng.uniform(-0.5, 0.5))
    level = 0.5 + (level - 0.5) * rng.uniform(0.6, 1.3) + rng.uniform(-0.15, 0.15)
    table = (level.clip(0, 1) * 255).round().astype(np.uint8)
    shaded: Luma = table[luma]
    return shaded


def _hold(luma: Luma, rng: Rng) -> Luma:
    """Imitate a source with a lower frame rate: each frame repeats until the next one arrives."""
    if rng.random() >= 0.15:
        return luma
    share = rng.uniform(0.5, 0.85)
    shown = np.floor(np.arange(len(luma)) * share) / share
    held: Luma = luma[np.ceil(shown).astype(np.int64).clip(0, len(luma) - 1)]
    return held


def _draw_warp(rng: Rng) -> Tensor:
    """Draw mirroring, zoom, stretch, shift and a slight roll, as a map from result to source coordinates."""
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    if rng.random() < 0.3:
        return torch.tensor([[mirror, 0, 0], [0, 1, 0]])
    zoom, stretch = math.exp(rng.uniform(-0.25, 0.2)), math.exp(rng.uniform(-0.1, 0.1))
    shift_x, shift_y, roll = rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.15), rng.uniform(-0.05, 0.05)
    return torch.tensor([[mirror * zoom * stretch, roll * zoom, shift_x], [-roll * zoom, zoom / stretch, shift_y]])


def _enlarge(matrix: Tensor, zoom: float) -> Tensor:
    """Enlarge a warp's picture by `zoom`, and halve its shift, so that it shows more of the source's middle."""
    if zoom == 1.0:
        return matrix
    return matrix * torch.tensor([1 / zoom, 1 / zoom, 0.5])


def warp(x: Tensor, matrix: Tensor) -> Tensor:
    """Warp pictures or maps float32 `[n, h, w]`; pixels from outside the source are 0."""
    if matrix[1].tolist() == [0, 1, 0]:
        return x.flip(2) if matrix[0, 0] < 0 else x
    grid = functional.affine_grid(matrix[None], [1, *x.shape], align_corners=False)
    return functional.grid_sample(x[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]


def _shake(x: Tensor, rng: Rng) -> Tensor:
    """Imitate a trembling camera: shift each frame by whole pixels, independently of the frame before it."""
    if rng.random() >= 0.2:
        return x
    reach = rng.uniform(0.3, 2.0)
    steps = np.rint(rng.normal(0, reach, (len(x), 2))).astype(int)
    shaken = [torch.roll(frame, tuple(step.tolist()), (0, 1)) for frame, step in zip(x, steps, strict=True)]
    return torch.stack(shaken)


def _blur(x: Tensor, rng: Rng) -> Tensor:
    if rng.random() >= 0.2:
        return x
    return functional.avg_pool2d(x[None], 3, 1, 1, count_include_pad=False)[0]


def _noise(x: Tensor, rng: Rng) -> Tensor:
    """Add sensor noise: each frame takes another stretch of one table of normally distributed numbers."""
    if rng.random() >= 0.4:
        return x
    sigma, size = rng.uniform(1, 10), x[0].numel()
    for frame in x:
        start = int(rng.integers(0, len(_NOISE) - size))
        frame.add_(_NOISE[start : start + size].view_as(frame), alpha=sigma)
    return x


def _draw_bars(rng: Rng) -> Bars:
    """Draw letterbox or pillarbox bars, as in files padded to another aspect ratio."""
    if rng.random() >= 0.12:
        return Bars(1, 0.0)
    return Bars(int(rng.integers(1, 3)), rng.uniform(0.04, 0.22))
