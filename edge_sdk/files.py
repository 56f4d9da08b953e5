"""Files and folders that appear whole or not at all.

Power fails on a vehicle without notice. So what is written goes to a temporary name beside its target, reaches the
disk (`fsync`), takes its name by one rename, and the folder that holds the name is synchronised too. An exception or
Ctrl-C removes the temporary name and leaves what stood there before. A killed process leaves its temporary name, which
tells the process, so that others can remove it; the next writer of a folder does.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_sdk.errors import ConfigError

# Errors of a disk, or of a share of it, that is full: they name no file, or one that the caller did not.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CHUNK_BYTES = 1 << 20
_POSIX = os.name == "posix"
# Without POSIX, asking whether a process runs would end it: there, a writer that has not written for so long is gone.
_QUIET_S = 300
_HALF_FILE = re.compile(r"\..+\.tmp-(?P<tag>\d+-[0-9a-f]{8})(?:\.[^.]+)?")
_HALF_FOLDER = re.compile(r"(?P<target>.+)\.(?P<kind>tmp|old)-(?P<tag>\d+-[0-9a-f]{8})")
# The tags of what this process is writing.
_LIVE: set[str] = set()
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path in the target's folder; on leaving, what was written there becomes `target`.

    The temporary name keeps the suffix, by which many writers choose their format. Missing parents are made. An
    existing file is replaced. Raises `FileNotFoundError` when the body wrote nothing.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _tagged() as tag:
        stage = target.with_name(f".{target.stem}.tmp-{tag}{target.suffix}")
        try:
            yield stage
            sync(stage)
            stage.replace(target)
        except BaseException as error:
            stage.unlink(missing_ok=True)
            _name_full(error, target)
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

    Begins with `recover`. Raises `ConfigError` when `target` exists and `overwrite` is false: at once, and again at the
    end should it have appeared meanwhile. Once the new folder has the name, nothing but a disk that cannot keep it is
    an error: what could not be removed of the old one, or was not for Ctrl-C, is left for the next `recover`. Where
    `target` is a link, the folder that it leads to is replaced, and the link stays.
    """
    if target.is_symlink():
        target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    recover(target)
    _refuse_existing(target, overwrite)
    with _tagged() as tag:
        stage, old = (target.with_name(f"{target.name}.{kind}-{tag}") for kind in ("tmp", "old"))
        stage.mkdir()
        made = stage.lstat()
        try:
            yield stage
            _sync_tree(stage)
            _refuse_existing(target, overwrite)
            _swap_in(stage, target, old)
        except BaseException as error:
            if not _stands(target, made):
                shutil.rmtree(stage, ignore_errors=True)
                _name_full(error, target)
                raise
        with suppress(KeyboardInterrupt):
            sync(target.parent)
            with suppress(OSError):
                _remove(stage)
                _remove(old)


def _name_full(error: BaseException, target: Path) -> None:
    """Tell the reader of `error` what could not be written, where there is no room for it or it grew too large."""
    if isinstance(error, OSError) and error.errno in (*FULL, errno.EFBIG):
        error.filename = str(target)
        if error.filename2 is not None:
            # Not set to None, which would be printed.
            del error.filename2


def recover(target: Path) -> None:
    """Mend what killed writers of `atomic_folder(target)` left, as `remove_half_written`; what cannot be is left."""
    with suppress(OSError):
        remove_half_written(target.parent, target.name)


def half_written_files(folder: Path) -> Iterator[Path]:
    """What killed writers of `atomic_path` left in `folder`."""
    for path in folder.iterdir():
        found = _HALF_FILE.fullmatch(path.name)
        if found and path.is_file() and not _alive(found["tag"], path):
            yield path


def remove_half_written_files(folder: Path) -> None:
    """Remove what killed writers of `atomic_path` left in `folder` and nobody has written to for five minutes.

    A writer in another container or on another machine has a process number that says nothing here.
    """
    for path in half_written_files(folder):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _QUIET_S:
                path.unlink()


def remove_half_written(folder: Path, target: str | None = None) -> None:
    """Remove what killed writers of `atomic_folder(folder / target)` left in `folder`; of any target if it is None.

    A folder that was put aside for one that never came has its name back.
    """
    for path in list(folder.iterdir()):
        found = _HALF_FOLDER.fullmatch(path.name)
        if not found or target not in (None, found["target"]) or not path.is_dir() or _alive(found["tag"], path):
            continue
        if found["kind"] == "old" and not os.path.lexists(folder / found["target"]):
            path.rename(folder / found["target"])
        else:
            _remove(path)


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


@contextmanager
def _tagged() -> Iterator[str]:
    """The end of a temporary name: it tells this process, and that it is still at it as long as the body runs."""
    tag = f"{os.getpid()}-{secrets.token_hex(4)}"
    _LIVE.add(tag)
    try:
        yield tag
    finally:
        _LIVE.discard(tag)


def _alive(tag: str, path: Path) -> bool:
    """Whether the writer of `path` is at it.

    What bears the own number and is not written by this process was left by one that had the number before.
    """
    if tag in _LIVE:
        return True
    if not _POSIX:
        return time.time() - _written_s(path) <= _QUIET_S
    process = int(tag.partition("-")[0])
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # a number that no process can have
        return False
    except PermissionError:
        return True
    return True


def _written_s(path: Path) -> float:
    """When `path`, or what lies in it, was last written to, seconds since 1970."""
    return max(each.lstat().st_mtime for each in (path, *path.rglob("*")))


def _stands(target: Path, made: os.stat_result) -> bool:
    """Whether `target` is the folder of which `made` was told."""
    try:
        return os.path.samestat(target.lstat(), made)
    except OSError:
        return False


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if os.path.lexists(target) and not overwrite:
        raise ConfigError(f"{target} exists already; choose another folder, or allow it to be overwritten")


def _sync_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))


def _swap_in(stage: Path, target: Path, old: Path) -> None:
    """Rename `stage` to `target`; what stood there is `stage` or `old` then.

    Two names that change places leave no moment in which `target` is nothing. Where that cannot be had, the old folder
    is kept aside until the new one is in its place.
    """
    if not os.path.lexists(target):
        stage.rename(target)
        return
    if _exchange(stage, target):
        return
    try:
        target.rename(old)
        stage.rename(target)
    except BaseException:
        if not os.path.lexists(target):
            old.rename(target)
        raise


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
        path.unlink(missing_ok=True)
