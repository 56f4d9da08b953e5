"""The student's features of single pictures, kept on disk: the late stages train on them instead of on pictures.

The first two thirds of the network see one frame at a time and cost most. Once they are frozen, each clip passes
through them only once per copy; an epoch of the layers after them costs a third. One byte per value is enough: the
values come after a ReLU, and the network computes in bfloat16 in training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edge_sdk.export.distil.augment import Bars, Framing, augment
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.recipe import Recipe
from edge_sdk.export.distil.targets import FLOW, MAP_HEIGHT, MAP_WIDTH, Floats, frame_maps, frame_targets, known_boxes
from edge_sdk.export.distil.workers import WORKERS, single_threaded
from edge_sdk.export.graphs.student import CELL, Student
from edge_sdk.files import atomic_path, half_written_files
from edge_sdk.perception.planes import window_planes

Bytes = NDArray[np.uint8]
Rng = np.random.Generator
# Pictures that go through the network together.
_PICTURES = 16
# Clips in flight.
_CLIPS = 8
# A channel's values are clipped at this quantile, measured over some clips, times the headroom.
_QUANTILE, _HEADROOM = 0.9995, 1.5
# The quantile is measured on this many clips, spread over all, with at most so many values per channel from each.
_SCALE_CLIPS, _SCALE_VALUES = 30, 4096
_AS_IS = Framing(torch.tensor([[1.0, 0, 0], [0, 1, 0]]), Bars(1, 0.0))


@dataclass(frozen=True, eq=False)
class Copy:
    """Every frame of every clip: features uint8 `[frames, width, rows, cols]`, maps uint8 `[frames, 4, rows, cols]`.

    Copy 0 is made from the clips as they are, the others from augmented ones. Features are in units of a scale per
    channel. Maps are the first four of `frame_maps` on the grid, in units of 1 / 255.
    """

    features: Bytes
    maps: Bytes


@dataclass(frozen=True, eq=False)
class LateWindow:
    """One window: features float32 `[frames, rows, cols, width]`, the rest as in `Example` with the first four maps."""

    features: Tensor
    targets: Floats
    weights: Floats
    maps: Tensor
    map_weights: Floats


class Place(NamedTuple):
    """A window of a copy: its frames' numbers, and their targets and weights, both float32 `[frames, 4]`."""

    copy: int
    frames: NDArray[np.int64]
    targets: Floats
    weights: Floats


class LateFeatures:
    """The copies of `clips` that the late stage of `recipe` learns from.

    They are kept in files whose names begin with `stem`; missing files are made. `stem` must identify the model, the
    recipe and the clips: existing files, including the features' scale, are used without a check.
    """

    def __init__(
        self,
        model: Student,
        recipe: Recipe,
        clips: Sequence[CachedClip],
        stem: Path,
        on_progress: Callable[[int, int], object],
    ) -> None:
        self._recipe, self._clips, self.clips = recipe, clips, len(clips)
        self._starts = np.concatenate([[0], np.cumsum([len(clip.times_s) for clip in clips])])
        self._labels = [frame_targets(clip.times_s, clip.label, recipe.targets, recipe.pictures) for clip in clips]
        self._known = np.concatenate([known_boxes(clip) for clip in clips])
        seer = _Seer(model, recipe, clips, stem)
        self._scale = seer.scale
        copies = 0 if recipe.late is None else recipe.late.copies
        self._copies = [self._copy(seer, number, stem, on_progress) for number in range(copies)]

    def pooled(self, model: Student, number: int) -> Floats:
        """Pool every frame of a copy with `model`, each clip from its beginning: float32 `[frames, k]`."""

        def pool(span: tuple[int, int]) -> Floats:
            seen = self._see(self._copies[number].features[slice(*span)]).permute(0, 3, 1, 2)[None]
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._recipe.optimiser.bfloat16):
                found: Floats = model.gather(seen)[0][0].float().numpy()
            return found

        with single_threaded(), ThreadPoolExecutor(WORKERS) as threads:
            return np.concatenate(list(threads.map(pool, pairwise(self._starts))))

    def draw(self, rng: Rng, clip: int) -> LateWindow:
        """Draw a window from one copy of a clip."""
        place = self.place(rng, clip)
        copied = self._copies[place.copy]
        return LateWindow(
            features=self._see(copied.features[place.frames]),
            targets=place.targets,
            weights=place.weights,
            maps=torch.from_numpy(copied.maps[place.frames]).float() / 255,
            map_weights=self._known[place.frames],
        )

    def place(self, rng: Rng, clip: int) -> Place:
        """Draw where a window of a clip lies; a clip that is too short is padded with copies of its first frame."""
        wanted, settings = self._recipe.windows.frames, self._recipe.windows
        number = int(rng.integers(len(self._copies)))
        length = len(self._clips[clip].times_s)
        kept = min(wanted, length)
        first = int(rng.integers(length - kept + 1))
        places = np.concatenate([np.full(wanted - kept, first), np.arange(first, first + kept)])
        targets, weights = (values[places] for values in self._labels[clip])
        warm = wanted - kept + round(settings.warm_up_s * self._recipe.pictures.rate_hz)
        weights[:warm] *= settings.warm_up_weight
        return Place(number, self._starts[clip] + places, targets, weights)

    def _see(self, units: Bytes) -> Tensor:
        """Convert stored features to float32 `[frames, rows, cols, width]`."""
        return torch.from_numpy(np.array(units)).permute(0, 2, 3, 1).float() * self._scale

    def _copy(self, seer: _Seer, number: int, stem: Path, on_progress: Callable[[int, int], object]) -> Copy:
        frames = int(self._starts[-1])
        features = stem.with_name(f"{stem.name}-{number}.u8")
        maps = stem.with_name(f"{stem.name}-{number}-maps.u8")
        if not maps.is_file() or not features.is_file():
            for left in half_written_files(stem.parent):
                left.unlink()
            with atomic_path(features) as features_stage, atomic_path(maps) as maps_stage:
                self._write(seer, number, features_stage, maps_stage, on_progress)
        return Copy(
            np.memmap(features, np.uint8, "r", shape=(frames, *seer.shape)),
            np.memmap(maps, np.uint8, "r", shape=(frames, FLOW.start, *seer.shape[1:])),
        )

    def _write(
        self, seer: _Seer, number: int, features: Path, maps: Path, on_progress: Callable[[int, int], object]
    ) -> None:
        def look(index: int) -> tuple[Bytes, Bytes]:
            return seer.look(
                self._clips[index], np.random.default_rng([self._recipe.seed, number, index]) if number else None
            )

        with (
            single_threaded(),
            ThreadPoolExecutor(WORKERS) as threads,
            features.open("wb") as seen_file,
            maps.open("wb") as maps_file,
        ):
            # Few at a time: a clip's features are some megabytes.
            for first in range(0, len(self._clips), _CLIPS):
                some = range(first, min(first + _CLIPS, len(self._clips)))
                for seen, shown in threads.map(look, some):
                    seen_file.write(seen.data)
                    maps_file.write(shown.data)
                on_progress(some.stop, len(self._clips))


class _Seer:
    """The part of a student that sees single pictures, and the scale `[width]` in which its features are kept."""

    def __init__(self, model: Student, recipe: Recipe, clips: Sequence[CachedClip], stem: Path) -> None:
        self._recipe = recipe
        pictures = recipe.pictures
        self.shape = (model.shape.stages[2], pictures.height // CELL, pictures.width // CELL)
        self._see = copy.deepcopy(model).fuse().picture
        path = stem.with_name(f"{stem.name}-scale.npy")
        if not path.is_file():
            with atomic_path(path) as stage:
                np.save(stage, self._measured(clips).numpy())
        # The stored features use exactly this scale; measured again, it might differ in its last digits.
        self.scale = torch.from_numpy(np.load(path, allow_pickle=False))

    def _measured(self, clips: Sequence[CachedClip]) -> Tensor:
        """Measure the scale on some of `clips`."""
        count = min(len(clips), _SCALE_CLIPS)
        # Only a few positions of each clip: all of them would take hundreds of megabytes.
        some = torch.cat([self._sampled(clips[index * len(clips) // count]) for index in range(count)], 1)
        return (some.quantile(_QUANTILE, dim=1) * _HEADROOM / 255).clamp(min=1e-4)

    def _sampled(self, clip: CachedClip) -> Tensor:
        """Features at random positions of a clip, the same ones each time: float32 `[width, positions]`."""
        found = self._features(np.array(clip.luma)).transpose(0, 1).flatten(1)
        return found[:, torch.randperm(found.shape[1], generator=torch.Generator().manual_seed(0))[:_SCALE_VALUES]]

    def look(self, clip: CachedClip, rng: Rng | None) -> tuple[Bytes, Bytes]:
        """Compute a clip's features and maps, augmented if `rng` is given."""
        luma, framing = np.array(clip.luma), _AS_IS
        if rng is not None:
            luma, framing = augment(luma, rng, *luma.shape[1:])
        units = self._features(luma) / self.scale[:, None, None]
        return _as_bytes(units), self._maps(clip, framing)

    def _features(self, luma: Bytes) -> Tensor:
        planes = torch.from_numpy(window_planes(luma, self._recipe.pictures.lags))
        planes = planes.contiguous(memory_format=torch.channels_last)
        enabled = self._recipe.optimiser.bfloat16
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            return torch.cat([self._see(part) for part in planes.split(_PICTURES)]).float()

    def _maps(self, clip: CachedClip, framing: Framing) -> Bytes:
        found = frame_maps(clip, self._recipe.targets)
        if found is None:
            return np.zeros((len(clip.times_s), FLOW.start, *self.shape[1:]), np.uint8)
        maps = torch.from_numpy(found[:, : FLOW.start]).float()
        moved = framing.move(maps.view(-1, MAP_HEIGHT, MAP_WIDTH)).view(maps.shape)
        return _as_bytes(functional.adaptive_max_pool2d(moved, self.shape[1:]) * 255)


def _as_bytes(values: Tensor) -> Bytes:
    found: Bytes = values.round().clamp(0, 255).to(torch.uint8).contiguous().numpy()
    return found
