"""Files and folders that appear whole or not at all.

On a vehicle, power fails without notice. So data is written under a temporary name beside its target, flushed to the
disk (`fsync`) and renamed to the target in one step; then the folder that holds the name is synchronised too. An
exception or Ctrl-C removes the temporary name and leaves the earlier target in place. A killed process leaves its
temporary name behind. That name contains the process's number, so the next writer of a folder can remove it.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from edge_sdk.errors import ConfigError

# A full disk or quota: such errors name no file, or one that the caller did not name.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CHUNK_BYTES = 1 << 20
# A file that is larger does not stay in the page cache of a board whose GPU shares the memory, see `_forget`.
_LARGE_BYTES = 64 << 20
_MEMORY_MAY_BE_SHARED = platform.machine() == "aarch64"
_POSIX = os.name == "posix"
# Without POSIX, `os.kill(pid, 0)` would end the process: there, a writer that was silent for this long counts as dead.
_QUIET_S = 300
_HALF_FILE = re.compile(r"\..+\.tmp-(?P<tag>\d+-[0-9a-f]{8})(?:\.[^.]+)?")
_HALF_FOLDER = re.compile(r"(?P<target>.+)\.(?P<kind>tmp|old)-(?P<tag>\d+-[0-9a-f]{8})")
# The tags of what this process is writing.
_LIVE: set[str] = set()
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; on leaving, the file written there becomes `target`.

    The temporary name keeps the suffix, by which many writers choose their format. Missing parent folders are created.
    An existing file is replaced. Raises `FileNotFoundError` if the body wrote nothing.
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
    """Raise `ConfigError` unless `target` is a writable folder, or one could be created there. Creates nothing."""
    place = target
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise ConfigError(f"{target} cannot be a folder: {place} is a file; choose another")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"{target} cannot be written to: {place} allows no new files; choose another")


def check_new(target: Path) -> None:
    """Raise `ConfigError` if `target` exists."""
    if target.exists():
        raise ConfigError(f"{target} exists already; choose another folder or remove it")


def write_bytes(target: Path, data: bytes) -> None:
    """Write `data` to `target`, replacing it whole."""
    with atomic_path(target) as stage:
        stage.write_bytes(data)


def write_text(target: Path, text: str) -> None:
    """Write `text` as UTF-8 to `target`, replacing it whole."""
    write_bytes(target, text.encode())


def write_json(target: Path, value: object, *, indent: int = 2) -> None:
    """Write `value` as indented JSON, with a newline at the end, to `target`, replacing it whole."""
    write_bytes(target, msgspec.json.format(msgspec.json.encode(value), indent=indent) + b"\n")


@contextmanager
def atomic_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `target`; on leaving, it becomes `target` with all that was written into it.

    Calls `recover` first. Raises `ConfigError` if `target` exists and `overwrite` is false: at once, and at the end if
    it has appeared meanwhile. Once the new folder has its name, only a failure to sync it is an error: whatever could
    not be removed of the old folder, or was left by Ctrl-C, is left to the next `recover`. If `target` is a link, the
    folder that it points to is replaced, and the link stays.
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
    """Set the file name of `error` to `target` if there was no room for it, or it grew too large."""
    if isinstance(error, OSError) and error.errno in (*FULL, errno.EFBIG):
        error.filename = str(target)
        if error.filename2 is not None:
            # Deleted, because a value of None would be printed.
            del error.filename2


def recover(target: Path) -> None:
    """Clean up after killed writers of `atomic_folder(target)`, as `remove_half_written` does; ignores `OSError`."""
    with suppress(OSError):
        remove_half_written(target.parent, target.name)


def half_written_files(folder: Path) -> Iterator[Path]:
    """The temporary files that killed writers of `atomic_path` left in `folder`."""
    for path in folder.iterdir():
        found = _HALF_FILE.fullmatch(path.name)
        if found and path.is_file() and not _alive(found["tag"], path):
            yield path


def remove_half_written_files(folder: Path) -> None:
    """Remove temporary files that killed writers of `atomic_path` left in `folder`, if unchanged for five minutes.

    The wait protects writers in other containers or on other machines, whose process numbers mean nothing here.
    """
    for path in half_written_files(folder):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _QUIET_S:
                path.unlink()


def remove_half_written(folder: Path, target: str | None = None) -> None:
    """Remove what killed writers of `atomic_folder(folder / target)` left in `folder`; for any target if it is None.

    A folder that was moved aside for a new one that never came gets its name back.
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
    """Whether `name` is a letter or digit followed by letters, digits and `._-`: a valid file name on any system."""
    return _PLAIN_NAME.fullmatch(name) is not None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content in hexadecimal; the file is read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
        _forget(file.fileno())
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's names, to the disk; skips folders without POSIX, where it is impossible."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
        _forget(descriptor)
    finally:
        os.close(descriptor)


def _forget(descriptor: int) -> None:
    """Take the content of a large file out of the page cache where a GPU may share the machine's memory.

    There CUDA counts cached pages as used (MemFree, not MemAvailable): a bundle of gigabytes, hashed before its engines
    are loaded, would leave them no memory. Elsewhere the cache saves reading the file from the disk a second time.
    """
    if _MEMORY_MAY_BE_SHARED and hasattr(os, "posix_fadvise") and os.fstat(descriptor).st_size > _LARGE_BYTES:
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def _tagged() -> Iterator[str]:
    """Yield the tag of a temporary name, which identifies this process and counts as live while the body runs."""
    tag = f"{os.getpid()}-{secrets.token_hex(4)}"
    _LIVE.add(tag)
    try:
        yield tag
    finally:
        _LIVE.discard(tag)


def _alive(tag: str, path: Path) -> bool:
    """Whether the writer of `path` is still at work.

    A tag that has this process's number but is not in `_LIVE` was left by an earlier process with the same number.
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
    """When `path` or anything in it was last written, in seconds since 1970."""
    return max(each.lstat().st_mtime for each in (path, *path.rglob("*")))


def _stands(target: Path, made: os.stat_result) -> bool:
    """Whether `target` is the same folder that `made` describes."""
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
    """Rename `stage` to `target`; an earlier `target` ends up as `stage` or `old`.

    An atomic exchange of the two names leaves no moment without a `target`. If the system has none, the old folder is
    moved aside until the new one is in place.
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
        """Exchange two names in one step; returns whether the C library, the kernel and the file system could."""
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
