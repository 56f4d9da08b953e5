"""Clips decoded once: every picture as the vision tower's patches, in one file of bytes for all clips of a profile.

The way is the device's own: the capture that `analyze` uses, at the clip's size, then the ground's `VisionInput`. All
pictures are kept, not the sampled ones, because every window of a clip samples others. A clip is known by the SHA-256
of its bytes, so a cache survives moved folders and changed labels, and an interrupted build goes on where it stopped.
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


class Entry(Value, frozen=True, kw_only=True):
    """Where one clip's pictures lie: the first one's number in the file, every one's time, and when the last ends."""

    sha256: str
    first: int
    times_s: tuple[float, ...]
    end_s: float


@dataclass(frozen=True, eq=False)
class Pictures:
    """A clip's pictures: `patches` uint8 `[n, patches, 588]`, times float64 `[n]` in seconds from the first one.

    `first` is the number of the first one in `cache`, the patches of all; `end_s`: when the last leaves the screen.
    """

    cache: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    first: int
    end_s: float

    @property
    def patches(self) -> NDArray[np.uint8]:
        """The clip's own part of the cache."""
        return self.cache[self.first : self.first + len(self.times_s)]


def load_pictures(
    clips: Sequence[LabelledClip], folder: Path, profile: Profile, on_progress: Progress | None = None
) -> list[Pictures]:
    """The clips' pictures from the cache in `folder`, decoding what is not there yet.

    Raises `ConfigError` for a clip without a picture, and what `open_source` raises.
    """
    store = _Store(folder, profile)
    entries = []
    for done, clip in enumerate(clips, start=1):
        digest = hashlib.sha256(clip.path.read_bytes()).hexdigest()
        entries.append(store.known.get(digest) or store.add(digest, clip.path))
        if on_progress:
            on_progress(done, len(clips))
    every = store.patches()
    return [Pictures(every, np.array(entry.times_s), entry.first, entry.end_s) for entry in entries]


class _Store:
    """The cache's two files: patches, and a JSON line a clip. A line is written after its patches, so it is true."""

    def __init__(self, folder: Path, profile: Profile) -> None:
        self._input = VisionInput(profile.size, dtype="uint8")
        self._shape = (profile.size.tokens * 4, 588)
        name = f"patches-{profile.size.width}x{profile.size.height}"
        folder.mkdir(parents=True, exist_ok=True)
        self._file, self._index = folder / f"{name}.u8", folder / f"{name}.jsonl"
        self.known = {entry.sha256: entry for entry in self._entries()}
        self._count = max((entry.first + len(entry.times_s) for entry in self.known.values()), default=0)
        self._file.touch()
        with self._file.open("r+b") as file:
            file.truncate(self._count * self._shape[0] * self._shape[1])

    def add(self, digest: str, path: Path) -> Entry:
        """Decode one clip and append it."""
        times_s = []
        info = _describe(path)
        settings = CaptureSettings(width=info.width, height=info.height, pixels="rgb")
        with self._file.open("r+b") as file:
            file.seek(self._count * self._shape[0] * self._shape[1])
            with open_source(str(path), settings) as source:
                for frame in source:
                    file.write(self._input.from_rgb(frame.pixels).data)
                    times_s.append(frame.time_s)
        if not times_s:
            raise ConfigError(f"{path} has no picture; leave it out of the clips")
        entry = Entry(sha256=digest, first=self._count, times_s=tuple(times_s), end_s=end_of(times_s, info))
        with self._index.open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")
        self.known[digest] = entry
        self._count += len(times_s)
        return entry

    def patches(self) -> NDArray[np.uint8]:
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
