"""Store the stages of long work, each in a folder that appears whole or not at all, so that a broken run can resume.

A stage's folder holds files under their paths in the bundle, and a receipt: what the stage was made from, and each
file's size with its SHA-256, or for large files with its modification time. A stage is made once for one set of
inputs. If an input has changed, or a file does not match the receipt, the folder is removed and the stage made again.

One run at a time works in a folder. The kernel holds the lock, so a killed run leaves none behind.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_sdk.errors import ConfigError
from edge_sdk.files import atomic_folder, remove_half_written, write_bytes
from edge_sdk.types import Value

RECEIPT, LOCK = "receipt.json", ".lock"
# Hashing larger files would take longer than it is worth: for them, size and modification time must do.
HASHED_BYTES = 64 * 2**20
_MB = 1e6

OnBytes = Callable[[int], None]


class Output(Value, frozen=True, kw_only=True):
    """One file of a finished stage; `sha256` is None for a file above `HASHED_BYTES`."""

    size_bytes: int
    changed_ns: int
    sha256: str | None


class Receipt(Value, frozen=True, kw_only=True):
    """What a finished stage was made from, and its files by their paths in the bundle."""

    # Any: a stage's settings as JSON, compared and shown, never interpreted.
    inputs: dict[str, Any]
    outputs: dict[str, Output]
    seconds: float


@dataclass(frozen=True)
class Stage:
    """One step. `inputs` are JSON values; `make` writes files below a folder and reports how many bytes it has written.

    `effort_bytes` is how many bytes could be written in the time that the stage takes; None: the bytes that it writes.
    """

    name: str
    inputs: Mapping[str, Any]
    size_bytes: int
    make: Callable[[Path, OnBytes], None]
    effort_bytes: int | None = None

    @property
    def effort(self) -> int:
        """The stage's weight in a time estimate, in bytes."""
        return self.size_bytes if self.effort_bytes is None else self.effort_bytes


class StageStore:
    """The folder in which stages are kept. To be used inside `locked`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    @contextmanager
    def locked(cls, folder: Path) -> Iterator[StageStore]:
        """Open and lock the store in `folder`, which is made if needed and cleared of a killed run's partial files.

        Raises `ConfigError` when another run works in the folder.
        """
        with disk_errors("work folder", folder, 0):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            with disk_errors("work folder", folder, 0):
                _take(descriptor, folder)
                remove_half_written(folder)
            try:
                yield cls(folder)
            finally:
                _remove_empty(folder)
        finally:
            os.close(descriptor)

    def place(self, stage: Stage) -> Path:
        """The folder of a stage, which may not exist."""
        return self.folder / stage.name

    def receipt(self, stage: Stage) -> Receipt | None:
        """The receipt of a stage that is finished, made from the same inputs, and intact; else None."""
        try:
            receipt = msgspec.json.decode((self.place(stage) / RECEIPT).read_bytes(), type=Receipt)
        except (OSError, msgspec.DecodeError):
            return None
        same = receipt.inputs == msgspec.json.decode(msgspec.json.encode(stage.inputs))
        return receipt if same and _whole(self.place(stage), receipt) else None

    def reclaimable(self, stage: Stage) -> int:
        """Bytes that removing a stage's folder frees: the size of its files that no bundle has hard-linked."""
        found = [path.stat() for path in self.place(stage).rglob("*") if path.is_file()]
        return sum(status.st_size for status in found if status.st_nlink == 1)

    def make(self, stage: Stage, on_bytes: OnBytes) -> Receipt:
        """Make a stage afresh. An exception or Ctrl-C leaves nothing of it. Raises `ConfigError` for a full disk."""
        place, began_s = self.place(stage), time.monotonic()
        with disk_errors(f"stage {stage.name}", place, stage.size_bytes):
            _discard(place)
            with atomic_folder(place) as draft:
                stage.make(draft, on_bytes)
                files = sorted(path for path in draft.rglob("*") if path.is_file())
                outputs = {path.relative_to(draft).as_posix(): _output(path) for path in files}
                receipt = Receipt(inputs=dict(stage.inputs), outputs=outputs, seconds=time.monotonic() - began_s)
                write_bytes(draft / RECEIPT, msgspec.json.encode(receipt))
        return receipt

    def clear(self) -> None:
        """Remove every stage's folder."""
        for path in self.folder.iterdir():
            if (path / RECEIPT).is_file():
                _discard(path)


@contextmanager
def disk_errors(what: str, path: Path, needed_bytes: int) -> Iterator[None]:
    """Turn an `OSError` into a `ConfigError` that states the task, the path, the bytes needed and the bytes free."""
    free = free_bytes(path)
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ConfigError(
                f"{what}: the disk of {path} is full: {needed_bytes / _MB:,.1f} MB are needed there, "
                f"{free / _MB:,.1f} MB were free before; free space and run the command again, which goes on where "
                "it stopped, or choose another --work or --out"
            ) from error
        raise ConfigError(f"{what}: {path} cannot be used: {error}; correct this, or choose another folder") from error


def free_bytes(path: Path) -> int:
    """Free bytes on the disk of `path`, which need not exist yet."""
    return shutil.disk_usage(existing(path)).free


def existing(path: Path) -> Path:
    """`path`, or its nearest parent that exists."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


if sys.platform == "win32":

    def _take(descriptor: int, folder: Path) -> None:
        """Do nothing: Windows has no such lock, so the user must avoid two runs at once there."""

else:
    import fcntl

    def _take(descriptor: int, folder: Path) -> None:
        busy = f"{folder} is in use by another export; wait until it ends, or choose another --work"
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(descriptor), (folder / LOCK).stat())
        except (BlockingIOError, FileNotFoundError) as error:
            raise ConfigError(busy) from error
        if not ours:  # another run has ended meanwhile and removed the file that is locked here
            raise ConfigError(busy)


def _whole(place: Path, receipt: Receipt) -> bool:
    try:
        return all(_unchanged(place / path, expected) for path, expected in receipt.outputs.items())
    except OSError:
        return False


def _unchanged(path: Path, expected: Output) -> bool:
    status = path.stat()
    if (status.st_size, status.st_mtime_ns) != (expected.size_bytes, expected.changed_ns):
        return False
    return expected.sha256 is None or _sha256(path) == expected.sha256


def _output(path: Path) -> Output:
    status = path.stat()
    hashed = _sha256(path) if status.st_size <= HASHED_BYTES else None
    return Output(size_bytes=status.st_size, changed_ns=status.st_mtime_ns, sha256=hashed)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _remove_empty(folder: Path) -> None:
    """Remove the store's folder if it contains only its lock."""
    if [path.name for path in folder.iterdir()] == [LOCK]:
        (folder / LOCK).unlink()
        folder.rmdir()


def _discard(place: Path) -> None:
    """Remove a stage's folder, renaming it first, so that the rest of an interrupted removal is not a stage."""
    if not place.exists():
        return
    if not (place / RECEIPT).is_file():
        raise ConfigError(f"{place} exists already and is not a stage of an export; choose another --work")
    doomed = place.with_name(f"{place.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    place.rename(doomed)
    shutil.rmtree(doomed)
