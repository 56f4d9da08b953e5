"""Files and folders that appear whole or not at all.

Power fails on a vehicle without notice. So what is written goes to a temporary name beside its target, reaches the
disk (`fsync`), takes its name by one rename, and the folder that holds the name is synchronised too. An exception or
Ctrl-C removes the temporary name and leaves what stood there before. A killed process leaves its temporary name, which
tells the process, so that others can remove it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_sdk.errors import ConfigError

_CHUNK_BYTES = 1 << 20
_HALF_FILE = re.compile(r"\..+\.tmp-(\d+)-[0-9a-f]{8}(?:\.[^.]+)?")
_HALF_FOLDER = re.compile(r"(.+)\.(tmp|old)-(\d+)-[0-9a-f]{8}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path in the target's folder; on leaving, what was written there becomes `target`.

    The temporary name keeps the suffix, by which many writers choose their format. Missing parents are made. An
    existing file is replaced. Raises `FileNotFoundError` when the body wrote nothing.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    stage = target.with_name(f".{target.stem}.{_tag()}{target.suffix}")
    try:
        yield stage
        sync(stage)
        stage.replace(target)
    except BaseException:
        stage.unlink(missing_ok=True)
        raise
    sync(target.parent)


def check_folder(target: Path) -> None:
    """Raises `ConfigError` unless `target` is a folder that takes files, or could be made one. Nothing is made."""
    place = target
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise ConfigError(f"{target} cannot be a folder: {place} is a file; choose another")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"{target} cannot be written to: {place} allows no new files; choose another")


def write_bytes(target: Path, data: bytes) -> None:
    """Write `data` to `target`, replacing it whole."""
    with atomic_path(target) as stage:
        stage.write_bytes(data)


def write_text(target: Path, text: str) -> None:
    """Write `text` as UTF-8 to `target`, replacing it whole."""
    write_bytes(target, text.encode())


@contextmanager
def atomic_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty folder beside `target`; on leaving, it becomes `target` with all that was written into it.

    Raises `ConfigError` when `target` exists and `overwrite` is false: at once, and again at the end should it have
    appeared meanwhile.
    """
    _refuse_existing(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    stage = target.with_name(f"{target.name}.{_tag()}")
    stage.mkdir()
    try:
        yield stage
        _sync_tree(stage)
        _refuse_existing(target, overwrite)
        _swap_in(stage, target)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    sync(target.parent)


def half_written_files(folder: Path) -> Iterator[Path]:
    """What killed writers of `atomic_path` left in `folder`."""
    for path in folder.iterdir():
        found = _HALF_FILE.fullmatch(path.name)
        if found and path.is_file() and not _alive(int(found[1])):
            yield path


def remove_half_written(folder: Path, target: str | None = None) -> None:
    """Remove what killed writers of `atomic_folder(folder / target)` left in `folder`; of any target if it is None.

    A folder that was put aside for one that never came has its name back.
    """
    for path in folder.iterdir():
        found = _HALF_FOLDER.fullmatch(path.name)
        if not found or target not in (None, found[1]) or not path.is_dir() or _alive(int(found[3])):
            continue
        if found[2] == "old" and not os.path.lexists(folder / found[1]):
            path.rename(folder / found[1])
        else:
            shutil.rmtree(path)


def is_plain_name(name: str) -> bool:
    """Whether `name` is one of letters, digits and `._-` behind a first letter or digit: a file's name anywhere."""
    return _PLAIN_NAME.fullmatch(name) is not None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal, read a piece at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, reach the disk. Folders are left alone where that is not possible."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tag(kind: str = "tmp") -> str:
    return f"{kind}-{os.getpid()}-{secrets.token_hex(4)}"


def _alive(process: int) -> bool:
    """Whether another process of this number runs: what bears the own number was left by one that had it before."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if os.path.lexists(target) and not overwrite:
        raise ConfigError(f"{target} exists already; choose another folder, or allow it to be overwritten")


def _sync_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))


def _swap_in(stage: Path, target: Path) -> None:
    """Rename `stage` to `target`, and remove what stood there.

    Two names that change places leave no moment in which `target` is nothing. Where that cannot be had, the old folder
    is kept aside until the new one is in its place.
    """
    if not os.path.lexists(target):
        stage.rename(target)
        return
    if _exchange(stage, target):
        sync(target.parent)
        _remove(stage)
        return
    old = target.with_name(f"{target.name}.{_tag('old')}")
    target.rename(old)
    try:
        stage.rename(target)
    except BaseException:
        old.rename(target)
        raise
    _remove(old)


if sys.platform == "linux":
    _AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # fcntl.h, stdio.h

    def _exchange(a: Path, b: Path) -> bool:
        """Let two names change places in one step; whether the C library, the kernel and the file system could."""
        renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
        if renameat2 is None:
            return False
        return bool(renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0)

else:

    def _exchange(a: Path, b: Path) -> bool:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
