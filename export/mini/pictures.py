"""Clips decoded once: every picture as RGB, in one file of bytes for all clips of a size; and views of them as patches.

The way is the device's own: the capture that `analyze` uses, at the clip's size, then the ground's `VisionInput`. All
pictures are kept, not the sampled ones, because every window of a clip samples others, and whole, because every example
shows another part. A clip is known by the SHA-256 of its bytes, so a cache survives moved folders and changed labels,
and an interrupted build goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_sdk.capture import CaptureSettings, SourceInfo, open_source
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.explaining.sampling import end_of
from edge_sdk.reasoning.grid import Profile
from edge_sdk.reasoning.vision_input import VisionInput
from edge_sdk.types import Value

# (done, total)
Progress = Callable[[int, int], object]
_SMALL = 16

Looks = NDArray[np.uint8]
"""Curves of the channels, `[3, 256]`: which level each level becomes."""


@dataclass(frozen=True, eq=False)
class View:
    """A part of a picture: where it begins, and its width and height, as shares of the whole; then in a mirror."""

    left: float = 0.0
    top: float = 0.0
    share: float = 1.0
    mirror: bool = False
    looks: Looks | None = None


FULL = View()


class Entry(Value, frozen=True, kw_only=True):
    """Where one clip's pictures lie: the first one's number in the file, every one's time, and when the last ends."""

    sha256: str
    first: int
    times_s: tuple[float, ...]
    end_s: float


@dataclass(frozen=True, eq=False)
class Pictures:
    """A clip's pictures: `rgb` uint8 `[n, height, width, 3]`, times float64 `[n]` in seconds from the first one.

    `end_s`: when the last one leaves the screen; `sha256` is that of the clip's file.
    """

    rgb: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    end_s: float
    sha256: str


class Eye:
    """Pictures to patches of one profile, through views. Serves one thread at a time."""

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
    """Every level through the curve of its channel; a patch's values lie channel by channel."""
    split = patches.reshape(*patches.shape[:-1], 3, -1)
    return np.stack([looks[channel][split[..., channel, :]] for channel in range(3)], -2).reshape(patches.shape)


def load_pictures(clips: Sequence[LabelledClip], folder: Path, on_progress: Progress | None = None) -> list[Pictures]:
    """The clips' pictures from the cache in `folder`, decoding what is not there yet.

    Raises `ConfigError` for a clip without a picture or of another size than the first, and what `open_source` raises.
    """
    if not clips:
        return []
    info = _describe(clips[0].path)
    store = _Store(folder, info.width, info.height)
    entries = []
    for done, clip in enumerate(clips, start=1):
        digest = hashlib.sha256(clip.path.read_bytes()).hexdigest()
        entries.append(store.known.get(digest) or store.add(digest, clip.path))
        if on_progress:
            on_progress(done, len(clips))
    every = store.pictures()
    return [_found(entry, every) for entry in entries]


def _found(entry: Entry, every: NDArray[np.uint8]) -> Pictures:
    own = every[entry.first : entry.first + len(entry.times_s)]
    return Pictures(own, np.array(entry.times_s), entry.end_s, entry.sha256)


class _Store:
    """The cache's two files: pictures, and a JSON line a clip. A line is written after its pictures, so it is true."""

    def __init__(self, folder: Path, width: int, height: int) -> None:
        self._shape = (height, width, 3)
        self._bytes = height * width * 3
        name = f"rgb-{width}x{height}"
        folder.mkdir(parents=True, exist_ok=True)
        self._file, self._index = folder / f"{name}.u8", folder / f"{name}.jsonl"
        self.known = {entry.sha256: entry for entry in self._entries()}
        self._count = max((entry.first + len(entry.times_s) for entry in self.known.values()), default=0)
        self._file.touch()
        with self._file.open("r+b") as file:
            file.truncate(self._count * self._bytes)

    def add(self, digest: str, path: Path) -> Entry:
        """Decode one clip and append it."""
        times_s = []
        info = _describe(path)
        height, width = self._shape[:2]
        if (info.width, info.height) != (width, height):
            raise ConfigError(
                f"{path}: expected pictures of {width}x{height} as in the first clip, "
                f"found {info.width}x{info.height}; render all scenes at one size"
            )
        settings = CaptureSettings(width=width, height=height, pixels="rgb")
        with self._file.open("r+b") as file:
            file.seek(self._count * self._bytes)
            with open_source(str(path), settings) as source:
                for frame in source:
                    file.write(np.ascontiguousarray(frame.pixels).data)
                    times_s.append(frame.time_s)
        if not times_s:
            raise ConfigError(f"{path} has no picture; leave it out of the clips")
        entry = Entry(sha256=digest, first=self._count, times_s=tuple(times_s), end_s=end_of(times_s, info))
        with self._index.open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")
        self.known[digest] = entry
        self._count += len(times_s)
        return entry

    def pictures(self) -> NDArray[np.uint8]:
        """All pictures, mapped for reading."""
        return np.memmap(self._file, np.uint8, "r", shape=(self._count, *self._shape))

    def _entries(self) -> list[Entry]:
        """The index up to its last whole line: an interrupted write leaves a part of one."""
        if not self._index.is_file():
            return []
        whole, _, rest = self._index.read_bytes().rpartition(b"\n")
        if rest:
            self._index.write_bytes(whole + b"\n" if whole else b"")
        return [msgspec.json.decode(line, type=Entry) for line in whole.split(b"\n") if line]


def _describe(path: Path) -> SourceInfo:
    """What is known of a clip once its first picture is decoded."""
    with open_source(str(path), CaptureSettings(width=_SMALL, height=_SMALL)) as source:
        for _ in source:
            break
        return source.info
