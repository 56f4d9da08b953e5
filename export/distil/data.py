"""Clips decoded once: every frame at the student's size and rate, as luma, in one memory-mapped file.

Decoding costs more than a training step, and every epoch would repeat it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_sdk.capture import CaptureSettings, open_source
from edge_sdk.clips import LabelledClip, check_within
from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.recipe import Pictures
from edge_sdk.export.picture_store import PictureStore
from edge_sdk.files import sha256_of
from edge_sdk.types import Frame

Luma = NDArray[np.uint8]
Progress = Callable[[int, int], object]
Reader = Callable[[Path, Pictures], Iterable[Frame]]


@dataclass(frozen=True, eq=False)
class CachedClip:
    """A clip's frames uint8 `[n, height, width]`, their times float64 `[n]`, its label, and its boxes where known.

    `boxes` are float32 `[n, vehicles, 6]`: x0, y0, x1, y1 in 0..1 of the picture, 1 where visible, and a role, which is
    2 for a vehicle of the crash.
    """

    luma: Luma
    times_s: NDArray[np.float64]
    label: LabelledClip
    boxes: NDArray[np.float32] | None = None


def read_frames(path: Path, pictures: Pictures) -> Iterator[Frame]:
    """Every frame of a clip, as the device would see it. Raises `SourceError`."""
    settings = CaptureSettings(
        width=pictures.width, height=pictures.height, rate_hz=pictures.rate_hz, pixels="luma", policy="every"
    )
    with open_source(str(path), settings) as source:
        yield from source


def load_clips(
    clips: Sequence[LabelledClip],
    folder: Path,
    pictures: Pictures,
    on_progress: Progress | None = None,
    read: Reader = read_frames,
) -> list[CachedClip]:
    """Load the clips' frames from the cache in `folder`, and decode into it the clips that it lacks.

    Raises `ConfigError` for a clip without a frame or with a crash after its end, and whatever `read` raises.
    """
    tag = hashlib.sha256(msgspec.json.encode(pictures)).hexdigest()[:12]
    store = PictureStore(folder, f"frames-{tag}", (pictures.height, pictures.width))
    entries = []
    for done, clip in enumerate(clips, start=1):
        digest = sha256_of(clip.path)
        frames = ((frame.time_s, frame.pixels) for frame in read(clip.path, pictures))
        entry = store.find(digest) or store.add(digest, frames)
        if entry is None:
            raise ConfigError(f"{clip.path} has no frame; leave it out of the clips")
        check_within(clip, entry.times_s[-1])
        entries.append(entry)
        if on_progress is not None:
            on_progress(done, len(clips))
    every = store.pictures()
    return [
        CachedClip(
            every[entry.first : entry.stop],
            np.array(entry.times_s),
            clip,
            read_boxes(clip.path, len(entry.times_s)) if clip.labelled else None,
        )
        for entry, clip in zip(entries, clips, strict=True)
    ]


def read_boxes(path: Path, frames: int) -> NDArray[np.float32] | None:
    """Read the boxes that a rendered scene has beside its clip, `NAME.boxes.npy`; None without that file.

    Raises `ConfigError` unless they are `[frames, vehicles, 6]`.
    """
    beside = path.with_suffix(".boxes.npy")
    if not beside.is_file():
        return None
    boxes = np.load(beside, allow_pickle=False)
    if boxes.ndim != 3 or boxes.shape[0] != frames or boxes.shape[2] != 6:
        raise ConfigError(f"{beside}: expected boxes [{frames}, vehicles, 6], found {list(boxes.shape)}")
    found: NDArray[np.float32] = boxes.astype(np.float32)
    return found
