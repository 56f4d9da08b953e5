"""Clips decoded once: every picture as RGB, in one file of bytes for all clips of a size; and views of them as patches.

Pictures go the same way as on a device: through the capture that `analyze` uses, at the clip's size, then through
`VisionInput`. All pictures are kept, because every window of a clip samples others, and each is kept whole, because
every example shows another part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.capture import CaptureSettings, SourceInfo, open_source
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.explaining.sampling import end_of
from edge_sdk.export.picture_store import Entry, PictureStore
from edge_sdk.files import sha256_of
from edge_sdk.reasoning.grid import Profile
from edge_sdk.reasoning.vision_input import VisionInput

# (done, total)
Progress = Callable[[int, int], object]
_SMALL = 16

Looks = NDArray[np.uint8]
"""Curves of the channels, `[3, 256]`: which level each level becomes."""


@dataclass(frozen=True, eq=False)
class View:
    """A part of a picture: where it begins and its size, as shares of the whole; it may be mirrored and recoloured."""

    left: float = 0.0
    top: float = 0.0
    share: float = 1.0
    mirror: bool = False
    looks: Looks | None = None


FULL = View()


@dataclass(frozen=True, eq=False)
class Pictures:
    """A clip's pictures: `rgb` uint8 `[n, height, width, 3]`, times float64 `[n]` in seconds from the first one.

    `end_s`: when the last picture stops being shown; `sha256` is that of the clip's file.
    """

    rgb: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    end_s: float
    sha256: str


class Eye:
    """Turns pictures into patches of one profile, through views. Serves one thread at a time."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._inputs: dict[tuple[int, int], VisionInput] = {}

    def patches(self, pictures: Pictures, numbers: Sequence[int], view: View = FULL) -> NDArray[np.uint8]:
        """Patches uint8 `[len(numbers), patches, 588]` of what `view` shows of the pictures `numbers` of a clip."""
        height, width = pictures.rgb.shape[1:3]
        high, wide = round(view.share * height), round(view.share * width)
        top, left = (round(begin * side) for begin, side in ((view.top, height), (view.left, width)))
        if (wide, high) not in self._inputs:
            self._inputs[wide, high] = VisionInput(self._profile.size, dtype="uint8")
        vision = self._inputs[wide, high]
        seen = pictures.rgb[list(numbers), min(top, height - high) :, min(left, width - wide) :][:, :high, :wide]
        if view.mirror:
            seen = seen[:, :, ::-1]
        found = np.stack([vision.from_rgb(np.ascontiguousarray(each)) for each in seen])
        return found if view.looks is None else _look(found, view.looks)


def _look(patches: NDArray[np.uint8], looks: Looks) -> NDArray[np.uint8]:
    """Map every level by the curve of its channel; the values of a patch are ordered channel by channel."""
    split = patches.reshape(*patches.shape[:-1], 3, -1)
    return np.stack([looks[channel][split[..., channel, :]] for channel in range(3)], -2).reshape(patches.shape)


def load_pictures(clips: Sequence[LabelledClip], folder: Path, on_progress: Progress | None = None) -> list[Pictures]:
    """Load the clips' pictures from the cache in `folder`, and decode into it the clips that it lacks.

    Raises `ConfigError` for a clip without a picture or of another size than the first, and what `open_source` raises.
    """
    if not clips:
        return []
    info = _describe(clips[0].path)
    height, width = size = info.height, info.width
    store = PictureStore(folder, f"rgb-{width}x{height}", (*size, 3))
    entries = []
    for done, clip in enumerate(clips, start=1):
        digest = sha256_of(clip.path)
        entries.append(store.find(digest) or _add(store, digest, clip.path, size))
        if on_progress:
            on_progress(done, len(clips))
    every = store.pictures()
    return [_found(entry, every) for entry in entries]


def _found(entry: Entry, every: NDArray[np.uint8]) -> Pictures:
    assert entry.end_s is not None
    return Pictures(every[entry.first : entry.stop], np.array(entry.times_s), entry.end_s, entry.sha256)


def _add(store: PictureStore, digest: str, path: Path, size: tuple[int, int]) -> Entry:
    """Decode one clip of `size`, height and width, into the store."""
    info = _describe(path)
    height, width = size
    if (info.height, info.width) != size:
        raise ConfigError(
            f"{path}: expected pictures of {width}x{height} as in the first clip, "
            f"found {info.width}x{info.height}; render all scenes at one size"
        )
    with open_source(str(path), CaptureSettings(width=width, height=height, pixels="rgb")) as source:
        pictures = ((frame.time_s, frame.pixels) for frame in source)
        entry = store.add(digest, pictures, lambda times_s: end_of(times_s, info))
    if entry is None:
        raise ConfigError(f"{path} has no picture; leave it out of the clips")
    return entry


def _describe(path: Path) -> SourceInfo:
    """What is known of a clip once its first picture is decoded."""
    with open_source(str(path), CaptureSettings(width=_SMALL, height=_SMALL)) as source:
        for _ in source:
            break
        return source.info
