"""What training knows about one rendered clip: its pictures, its record, its truth and the boxes of its vehicles."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_sdk.clips import LabelledClip, SceneRecord, SceneTruth, read_scenes, read_truths
from edge_sdk.errors import ConfigError
from edge_sdk.export.mini.pictures import FULL, Pictures, View, load_pictures


@dataclass(frozen=True, eq=False)
class Material:
    """One clip. `boxes` float32 `[pictures, vehicles, 6]`: x0, y0, x1, y1 as shares, 1 where visible, role.

    Role 2 marks a vehicle of the crash. Boxes refer to the part of the pictures that `view` shows.
    """

    path: Path
    record: SceneRecord
    truth: SceneTruth
    pictures: Pictures
    boxes: NDArray[np.float32]
    view: View = FULL


def load_material(folder: Path, cache: Path, on_progress: Callable[[int, int], object] | None = None) -> list[Material]:
    """Load every scene of `folder`; pictures are read from `cache`, or decoded into it.

    Raises `ConfigError` for scenes without a record, a truth or boxes.
    """
    clips, truths = read_scenes(folder), read_truths(folder)
    pictures = load_pictures(clips, cache, on_progress)
    return [_material(clip, truths.get(clip.group), seen) for clip, seen in zip(clips, pictures, strict=True)]


def digest(clips: Sequence[Material]) -> str:
    """The SHA-256 of everything that training and answers use of `clips`, in their order."""
    found = hashlib.sha256()
    for clip in clips:
        told = [clip.pictures.sha256, clip.record, clip.truth, clip.boxes.shape]
        found.update(msgspec.json.encode(told) + clip.boxes.tobytes())
    return found.hexdigest()


def _material(clip: LabelledClip, truth: SceneTruth | None, pictures: Pictures) -> Material:
    if clip.record is None or (truth is None and clip.crash):
        raise ConfigError(f"{clip.path}: expected a scene with a record and a truth; run: edge-sdk scenes truth FOLDER")
    boxes = clip.path.with_suffix(".boxes.npy")
    if not boxes.is_file():
        raise ConfigError(f"{clip.path}: expected {boxes.name} beside it; render the scene again")
    found = np.load(boxes).astype(np.float32)
    if found.ndim != 3 or found.shape[0] != len(pictures.times_s) or found.shape[2] != 6:
        raise ConfigError(
            f"{boxes}: expected boxes [{len(pictures.times_s)}, vehicles, 6], found {list(found.shape)}; "
            "render the scene again"
        )
    return Material(clip.path, clip.record, truth or SceneTruth(), pictures, found)
