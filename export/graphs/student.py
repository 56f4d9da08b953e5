"""The student as a torch module: the network that is trained, and the eager reference of the ONNX graph.

Plain convolutions with ReLU, and batch normalisation that folds into them, quantise well and run at full speed on a CPU
and on TensorRT. Memory is finite by construction (causal convolutions, no recurrence), so a score cannot depend on how
long a stream has run: once the receptive field is full, the stream's start does not matter. Two convolutions over time
see the grid before it is pooled, because only where things move distinguishes cars that meet from cars that pass.

Every temporal layer runs in two ways that agree: over a whole window (training), and one frame at a time with an
explicit state (the graph).

Three maps on the grid (a vehicle is here; it crashes; its crash is foreseeable) are trained from the boxes of rendered
scenes, where a frame's boxes tell much more than its four scores. The maps' peaks join the features of the frame; an
attentive student adds the grid's features where the maps are high. How far each vehicle has moved is also trained, but
left out of the graph: a network that has learnt to see motion also sees it stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edge_sdk.export.graphs.masks import Dropout
from edge_sdk.export.graphs.views import View, look
from edge_sdk.types import Value

SCORES = ("crash", "pre_crash", "start", "end")
MAPS = ("vehicle", "crash", "pre_crash")
# Side of a cell of the grid, pixels.
CELL = 16
TAPS = 3
# The motion planes of rendered and real clips spread a third to a half as far as luma.
MOTION_START = 3.0
# About one frame in ten is positive.
RARE_LOGIT = -2.0


class StudentShape(Value, frozen=True, kw_only=True):
    """Widths of the network: the four stages of the picture, the features of a frame, and the temporal dilations.

    With `attentive`, features of the grid where the crash and pre-crash maps are high join those of the whole grid.
    `views` are the ways in which the graph looks at each frame; see the module `views`.
    """

    planes: int = 3
    stages: tuple[int, int, int, int] = (32, 48, 72, 96)
    grid_dilations: tuple[int, ...] = (1, 2)
    features: int = 96
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    attentive: bool = False
    views: tuple[View, ...] = (View(),)

    @property
    def memory_frames(self) -> int:
        """Number of frames before the newest that can still affect a score, beside those in the motion planes."""
        return (TAPS - 1) * (sum(self.grid_dilations) + sum(self.dilations))


class ConvNorm(nn.Module):
    """Convolution and batch normalisation, which become one convolution at export."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int | None = None) -> None:
        super().__init__()
        pad = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, pad, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`[n, inputs, h, w]` to `[n, outputs, h / stride, w / stride]`."""
        y: Tensor = self.norm(self.conv(x))
        return y

    def fuse(self) -> None:
        """Fold the normalisation into the convolution's weights; only for a module in evaluation mode."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()
            # torch makes the new bias of a bias-free convolution a constant, but training may continue from here.
            if self.conv.bias is not None:
                self.conv.bias.requires_grad_(self.conv.weight.requires_grad)


class Residual(nn.Module):
    """Two convolutions with a skip connection."""

    def __init__(self, width: int, second_kernel: int = 3) -> None:
        super().__init__()
        self.first = ConvNorm(width, width, 3)
        self.second = ConvNorm(width, width, second_kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        return functional.relu(x + self.second(functional.relu(self.first(x))))


class GridMemory(nn.Module):
    """A residual block that sees the grid of the newest frame, and those `dilation` and `2 * dilation` frames ago.

    State: the grids of the last `2 * dilation` frames side by side, oldest first, `[n, 2 * dilation * width, h, w]`
    (four dimensions, because every runtime accepts those).
    """

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.width, self.dilation = width, dilation
        self.first = ConvNorm(TAPS * width, width, 1)
        self.second = ConvNorm(width, width, 3)

    @property
    def state_channels(self) -> int:
        """Channels of the state."""
        return (TAPS - 1) * self.dilation * self.width

    def forward(self, x: Tensor) -> Tensor:
        """A window `[n, time, width, h, w]` whose past is zero."""
        past = x.new_zeros(x.shape[0], (TAPS - 1) * self.dilation, *x.shape[2:])
        padded = torch.cat([past, x], 1)
        taps = [padded[:, i * self.dilation : i * self.dilation + x.shape[1]] for i in range(TAPS)]
        mixed: Tensor = self._mix(torch.cat(taps, 2).flatten(0, 1), x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return mixed

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One frame `[n, width, h, w]` and the state; returns the result and the next state."""
        kept, middle = self.width, self.dilation * self.width
        taps = torch.cat([state[:, :kept], state[:, middle : middle + kept], x], 1)
        return self._mix(taps, x), torch.cat([state[:, kept:], x], 1)

    def _mix(self, taps: Tensor, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(functional.relu(self.first(taps))))


class FeatureMemory(nn.Module):
    """A residual causal convolution over the features of frames. State: `[n, width, 2 * dilation]`, oldest first."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.width, self.dilation = width, dilation
        self.conv = nn.Conv1d(width, width, TAPS, dilation=dilation)
        self.dropout = Dropout()

    @property
    def state_frames(self) -> int:
        """Frames in the state."""
        return (TAPS - 1) * self.dilation

    def forward(self, x: Tensor) -> Tensor:
        """A window `[n, width, time]` whose past is zero."""
        found = functional.relu(self.conv(functional.pad(x, (self.state_frames, 0))))
        dropped: Tensor = self.dropout(found)
        return x + dropped

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One frame `[n, width, 1]` and the state; returns the result and the next state."""
        window = torch.cat([state, x], 2)
        return x + functional.relu(self.conv(window)), window[:, :, 1:]


class Student(nn.Module):
    """Map planes to one logit per frame for each of `SCORES`. The sides of pictures must be multiples of 32."""

    def __init__(self, shape: StudentShape) -> None:
        super().__init__()
        self.shape = shape
        a, b, c, d = shape.stages
        stem = ConvNorm(shape.planes, a, 6, stride=4, padding=1)
        self.picture = nn.Sequential(
            stem,
            nn.ReLU(),
            Residual(a, second_kernel=1),
            ConvNorm(a, b, 3, stride=2),
            nn.ReLU(),
            Residual(b),
            ConvNorm(b, c, 3, stride=2),
            nn.ReLU(),
            Residual(c),
        )
        self.grid = nn.ModuleList(GridMemory(c, dilation) for dilation in shape.grid_dilations)
        self.maps = nn.Conv2d(c, len(MAPS), 1)
        self.flow = nn.Conv2d(c, 2, 1)
        self.wide = nn.Sequential(ConvNorm(c, d, 3, stride=2), nn.ReLU())
        pooled = 2 * d + len(MAPS) + (2 * c if shape.attentive else 0)
        self.level: nn.Module = nn.BatchNorm1d(pooled) if shape.attentive else nn.Identity()
        self.pooled = nn.Linear(pooled, shape.features)
        self.memory = nn.ModuleList(FeatureMemory(shape.features, dilation) for dilation in shape.dilations)
        self.head = nn.Linear(shape.features, len(SCORES))
        self.dropout = Dropout()
        self._begin(stem)

    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `[n, time, 4]` of windows `[n, time, planes, height, width]`, and outputs that only training uses.

        The latter are on the grid, `[n, time, 5, rows, cols]`: the logits of the maps, and how far vehicles have moved.
        """
        return self.read(self.picture(planes.flatten(0, 1)).unflatten(0, planes.shape[:2]))

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The results of `forward`, from those of `picture` `[n, time, width, rows, cols]`."""
        pooled, dense = self.gather(x)
        return self.judge(pooled), dense

    def gather(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The pooled features of frames `[n, time, k]`, and the second result of `forward`."""
        size = x.shape[:2]
        for block in self._grids:
            x = block(x)
        flat = x.flatten(0, 1)
        maps = self.maps(flat)
        dense = torch.cat([maps, self.flow(flat)], 1)
        return self._pool(flat, maps).unflatten(0, size), dense.unflatten(0, size)

    def survey(self, planes: Tensor) -> Tensor:
        """Logits `[n, time, 4]` of windows as the graph computes them: the mean over the shape's views."""
        size = planes.shape[:2]
        seen = [look(planes.flatten(0, 1), view).unflatten(0, size) for view in self.shape.views]
        return torch.stack([self(view)[0] for view in seen]).mean(0)

    def judge(self, pooled: Tensor) -> Tensor:
        """Logits `[n, time, 4]` from pooled features `[n, time, k]`."""
        features = self._compress(pooled.flatten(0, 1)).unflatten(0, pooled.shape[:2]).transpose(1, 2)
        for layer in self._memories:
            features = layer(features)
        logits: Tensor = self.head(features.transpose(1, 2))
        return logits

    def step(self, frames: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Scores `[streams, 4]` in 0..1 of one frame per stream, and the next states, ordered as `state_shapes`."""
        count = len(self.shape.views)
        if count == 1:
            logits, following = self._step(look(frames, self.shape.views[0]), states)
            return torch.sigmoid(logits), following
        seen = torch.stack([look(frames, view) for view in self.shape.views], 1)
        apart = [state.reshape(-1, state.shape[1] // count, *state.shape[2:]) for state in states]
        logits, following = self._step(seen.reshape(-1, *frames.shape[1:]), apart)
        together = [kept.reshape(-1, *state.shape[1:]) for kept, state in zip(following, states, strict=True)]
        return torch.sigmoid(logits.reshape(-1, count, len(SCORES)).mean(1)), together

    def state_shapes(self, height: int, width: int) -> list[tuple[int, ...]]:
        """Shape of each state without its first dimension, `streams`, for pictures of that size."""
        count = len(self.shape.views)
        grids = [(count * block.state_channels, height // CELL, width // CELL) for block in self._grids]
        return [*grids, *((count * layer.width, layer.state_frames) for layer in self._memories)]

    def _step(self, seen: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Logits `[n, 4]` of one view each, and the next states."""
        x, following = self.picture(seen), []
        for block, state in zip(self._grids, states, strict=False):
            x, kept = block.step(x, state)
            following.append(kept)
        features = self._compress(self._pool(x, self.maps(x))).unsqueeze(2)
        for layer, state in zip(self._memories, states[len(self.grid) :], strict=True):
            features, kept = layer.step(features, state)
            following.append(kept)
        return self.head(features.squeeze(2)), following

    @property
    def _grids(self) -> list[GridMemory]:
        return [cast(GridMemory, block) for block in self.grid]

    @property
    def _memories(self) -> list[FeatureMemory]:
        return [cast(FeatureMemory, layer) for layer in self.memory]

    def fuse(self) -> Student:
        """Fold every normalisation into its convolution, in place; sets evaluation mode."""
        self.eval()
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fuse()
        self._fuse_level()
        return self

    def drop(self, features: float, memory: float) -> Student:
        """Set the dropout shares for training: of a frame's features, and of what the memory adds to them."""
        self.dropout.share = features
        for layer in self._memories:
            layer.dropout.share = memory
        return self

    def _fuse_level(self) -> None:
        """Fold the normalisation of pooled features, x * scale + shift, into the next layer, W x + b."""
        norm = self.level
        if not isinstance(norm, nn.BatchNorm1d) or norm.running_mean is None or norm.running_var is None:
            return
        with torch.no_grad():
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            shift = norm.bias - norm.running_mean * scale
            self.pooled.bias.add_(self.pooled.weight @ shift)
            self.pooled.weight.mul_(scale)
        self.level = nn.Identity()

    def _begin(self, stem: ConvNorm) -> None:
        """Set starting weights that save the first epochs: motion weighs as much as luma, and scores start low."""
        with torch.no_grad():
            stem.conv.weight[:, 1:] *= MOTION_START
            self.head.bias.fill_(RARE_LOGIT)
            self.maps.bias.fill_(RARE_LOGIT)  # type: ignore[union-attr]  # made with a bias

    def _pool(self, x: Tensor, maps: Tensor) -> Tensor:
        wide = self.wide(x)
        parts = [wide.mean((2, 3)), wide.amax((2, 3)), maps.amax((2, 3))]
        if self.shape.attentive:
            shares = torch.softmax(maps[:, 1:].flatten(2), 2)
            parts.append((shares @ x.flatten(2).transpose(1, 2)).flatten(1))
        return torch.cat(parts, 1)

    def _compress(self, pooled: Tensor) -> Tensor:
        return functional.relu(self.pooled(self.dropout(self.level(pooled))))
