"""Clips decoded once: every frame at the student's size and rate, as luma, in one memory-mapped file.

Decoding costs more than a training step, and epochs repeat it. A clip is known by the SHA-256 of its bytes, so a
cache survives moved folders and changed labels, and an interrupted build goes on where it stopped.
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
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.recipe import Pictures
from edge_sdk.types import Frame, Value

Luma = NDArray[np.uint8]
Progress = Callable[[int, int], object]
Reader = Callable[[Path, Pictures], Iterable[Frame]]


class Entry(Value, frozen=True, kw_only=True):
    """Where one clip's frames lie: the first frame's number in the file, and every frame's time."""

    sha256: str
    first: int
    times_s: tuple[float, ...]


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
    """The clips' frames from the cache in `folder`, decoding what is not there yet.

    Raises `ConfigError` for a clip without a frame, and what `read` raises.
    """
    store = _Store(folder, pictures)
    entries = []
    for done, clip in enumerate(clips, start=1):
        digest = hashlib.sha256(clip.path.read_bytes()).hexdigest()
        entries.append(store.known.get(digest) or store.add(digest, clip.path, read))
        if on_progress is not None:
            on_progress(done, len(clips))
    frames = store.frames()
    return [
        CachedClip(
            frames[entry.first : entry.first + len(entry.times_s)],
            np.array(entry.times_s),
            clip,
            read_boxes(clip.path, len(entry.times_s)) if clip.labelled else None,
        )
        for entry, clip in zip(entries, clips, strict=True)
    ]


def read_boxes(path: Path, frames: int) -> NDArray[np.float32] | None:
    """The boxes that a rendered scene has beside its clip, `NAME.boxes.npy`; None where there are none.

    Raises `ConfigError` when they are not boxes of that many frames.
    """
    beside = path.with_suffix(".boxes.npy")
    if not beside.is_file():
        return None
    boxes = np.load(beside, allow_pickle=False)
    if boxes.ndim != 3 or boxes.shape[0] != frames or boxes.shape[2] != 6:
        raise ConfigError(f"{beside}: expected boxes [{frames}, vehicles, 6], found {list(boxes.shape)}")
    found: NDArray[np.float32] = boxes.astype(np.float32)
    return found


class _Store:
    """The two files of a cache: frames end to end, and one JSON line a clip, written after its frames."""

    def __init__(self, folder: Path, pictures: Pictures) -> None:
        tag = hashlib.sha256(msgspec.json.encode(pictures)).hexdigest()[:12]
        folder.mkdir(parents=True, exist_ok=True)
        self._frames, self._index = folder / f"frames-{tag}.u8", folder / f"frames-{tag}.jsonl"
        self._pictures, self._picture_bytes = pictures, pictures.height * pictures.width
        self.known = {entry.sha256: entry for entry in self._entries()}
        self._count = max((entry.first + len(entry.times_s) for entry in self.known.values()), default=0)
        self._frames.touch()
        with self._frames.open("r+b") as file:
            file.truncate(self._count * self._picture_bytes)

    def add(self, digest: str, path: Path, read: Reader) -> Entry:
        """Decode one clip and append it."""
        times = []
        with self._frames.open("r+b") as file:
            file.seek(self._count * self._picture_bytes)
            for frame in read(path, self._pictures):
                file.write(np.ascontiguousarray(frame.pixels).data)
                times.append(frame.time_s)
        if not times:
            raise ConfigError(f"{path} has no frame; leave it out of the clips")
        entry = Entry(sha256=digest, first=self._count, times_s=tuple(times))
        with self._index.open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")
        self.known[digest] = entry
        self._count += len(times)
        return entry

    def frames(self) -> Luma:
        """All frames, mapped for reading."""
        shape = (self._count, self._pictures.height, self._pictures.width)
        return np.memmap(self._frames, np.uint8, "r", shape=shape)

    def _entries(self) -> list[Entry]:
        """The index up to its last whole line: an interrupted write leaves a part of one."""
        if not self._index.is_file():
            return []
        whole, _, rest = self._index.read_bytes().rpartition(b"\n")
        if rest:
            self._index.write_bytes(whole + b"\n" if whole else b"")
        return [msgspec.json.decode(line, type=Entry) for line in whole.split(b"\n") if line]
