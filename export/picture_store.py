"""Keep decoded pictures of many clips, end to end in one memory-mapped file, with an index of the clips beside it.

A clip is identified by the SHA-256 of its bytes, so a store survives moved folders and changed labels. An index line
is written only after its pictures have reached the disk, so an interrupted build resumes where it stopped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_sdk.files import write_bytes
from edge_sdk.types import Value

Picture = NDArray[np.uint8]


class Entry(Value, frozen=True, kw_only=True):
    """Where one clip's pictures lie: the first picture's number in the file, and the time of each picture.

    `end_s` is when the last picture leaves the screen, None where it was not requested.
    """

    sha256: str
    first: int
    times_s: tuple[float, ...]
    end_s: float | None = None

    @property
    def stop(self) -> int:
        """The number after the last picture's."""
        return self.first + len(self.times_s)


class PictureStore:
    """The files `NAME.u8` and `NAME.jsonl` of a folder, whose pictures all have one `shape`, and a lock.

    Several processes may fill a store. Only one adds a clip at a time, after reading what the others have added.
    """

    def __init__(self, folder: Path, name: str, shape: tuple[int, ...]) -> None:
        self._shape, self._picture_bytes = shape, int(np.prod(shape))
        folder.mkdir(parents=True, exist_ok=True)
        self._file, self._index, self._lock = (folder / f"{name}{suffix}" for suffix in (".u8", ".jsonl", ".lock"))
        self._known: dict[str, Entry] = {}
        self._index_bytes, self._count = -1, 0
        with self._alone():
            pass

    def find(self, sha256: str) -> Entry | None:
        """The clip with that digest; None where the store does not have it yet."""
        return self._known.get(sha256)

    def add(
        self,
        sha256: str,
        pictures: Iterable[tuple[float, Picture]],
        ends_s: Callable[[Sequence[float]], float] | None = None,
    ) -> Entry | None:
        """Append a clip's pictures, each with its time in seconds; return None and store nothing if there are none.

        `ends_s` computes from all times when the last picture leaves the screen.
        """
        with self._alone():
            if (found := self._known.get(sha256)) is not None:
                return found
            times_s = []
            with self._file.open("r+b") as file:
                file.seek(self._count * self._picture_bytes)
                for time_s, picture in pictures:
                    file.write(np.ascontiguousarray(picture).data)
                    times_s.append(time_s)
                file.flush()
                os.fsync(file.fileno())
            if not times_s:
                return None
            end_s = None if ends_s is None else ends_s(times_s)
            entry = Entry(sha256=sha256, first=self._count, times_s=tuple(times_s), end_s=end_s)
            with self._index.open("ab") as index:
                index.write(msgspec.json.encode(entry) + b"\n")
                self._index_bytes = index.tell()
            self._know(entry)
            return entry

    def pictures(self) -> Picture:
        """All pictures `[n, *shape]`, memory-mapped for reading."""
        return np.memmap(self._file, np.uint8, "r", shape=(self._count, *self._shape))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from adding while the context is open, and read what they have added before."""
        with self._lock.open("ab") as lock:
            _wait_for(lock.fileno())
            self._file.touch()
            if self._index_bytes != (self._index.stat().st_size if self._index.is_file() else 0):
                self._read()
            # An interrupted run may have left pictures after the last indexed clip.
            if self._file.stat().st_size > self._count * self._picture_bytes:
                os.truncate(self._file, self._count * self._picture_bytes)
            yield

    def _read(self) -> None:
        """Read the index as far as its lines and their pictures are complete; a full disk may have cut either short.

        The incomplete rest is removed from the index, because other pictures will be written in its place.
        """
        text = self._index.read_bytes() if self._index.is_file() else b""
        whole = [line for line in text.split(b"\n")[:-1] if line]
        entries = [(line, msgspec.json.decode(line, type=Entry)) for line in whole]
        there = self._file.stat().st_size // self._picture_bytes
        kept = [(line, entry) for line, entry in entries if entry.stop <= there]
        self._known, self._count = {}, 0
        for _, entry in kept:
            self._know(entry)
        lines = b"".join(line + b"\n" for line, _ in kept)
        if lines != text:
            write_bytes(self._index, lines)
        self._index_bytes = len(lines)

    def _know(self, entry: Entry) -> None:
        self._known[entry.sha256] = entry
        self._count = max(self._count, entry.stop)


if sys.platform == "win32":

    def _wait_for(descriptor: int) -> None:
        """Do nothing: Windows has no such lock, so the user must avoid two runs at once there."""

else:
    import fcntl

    def _wait_for(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
