"""Which clips activations are taken from: a list that is the same on every machine, balanced, and hashed.

Crashes and clips without one alternate; within each, view, light and weather take turns, so that a folder of a thousand
day-time clips does not drown the few at night. Order follows from hashes of names, never from the file system.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

from edge_sdk.clips import LabelledClip, read_scenes
from edge_sdk.errors import ConfigError
from edge_sdk.types import Value

SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".ts")
_CHUNK_BYTES = 1 << 20


class ChosenClip(Value, frozen=True, kw_only=True):
    """One clip: its file, the SHA-256 of its bytes, and what its label says; `condition` is view, light, weather."""

    path: str
    sha256: str
    crash: bool | None = None
    condition: str = ""


def choose_clips(folder: Path, count: int) -> tuple[ChosenClip, ...]:
    """At most `count` clips of `folder`: rendered scenes with their records, or any clips without labels.

    Raises `ConfigError` for a folder with fewer than two clips, for labels of which none is a crash, and for a record
    that cannot be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: expected a folder of clips, but there is none; check the path")
    labelled = read_scenes(folder) if any(folder.glob("*.json")) else []
    ordered = list(_balanced(labelled)) if labelled else list(_unlabelled(folder))
    _check(folder, len(ordered), labelled)
    if count < 2:
        raise ConfigError(f"a calibration needs at least 2 clips, {count} were asked for; give a larger --count")
    found: dict[str, ChosenClip] = {}
    for path, label in ordered:
        if len(found) < count:
            clip = _chosen(path, label)
            found.setdefault(clip.sha256, clip)  # a copy under another name says nothing new
    return tuple(found.values())


def _check(folder: Path, found: int, labelled: list[LabelledClip]) -> None:
    if not found:
        raise ConfigError(f"{folder}: expected clips ({', '.join(SUFFIXES)}), found none; give a folder with some")
    if found == 1:
        raise ConfigError(f"{folder}: one clip alone says too little of what the camera sees; give at least 2")
    if labelled and not any(clip.crash for clip in labelled):
        raise ConfigError(
            f"{folder}: no crash among {found} labelled clips, and crashes are what the model is asked for; add some"
        )


def _balanced(clips: list[LabelledClip]) -> Iterator[tuple[Path, LabelledClip | None]]:
    sides = [list(_turns([clip for clip in clips if clip.crash is crash])) for crash in (True, False)]
    for clip in chain.from_iterable(zip_longest(*sides)):
        if clip is not None:
            yield clip.path, clip


def _turns(clips: list[LabelledClip]) -> Iterator[LabelledClip]:
    """One clip of each condition, then the next of each."""
    queues: dict[str, list[LabelledClip]] = {}
    for clip in sorted(clips, key=lambda each: _rank(each.path)):
        queues.setdefault(_condition(clip), []).append(clip)
    for row in zip_longest(*(queues[name] for name in sorted(queues))):
        yield from (clip for clip in row if clip is not None)


def _unlabelled(folder: Path) -> Iterator[tuple[Path, LabelledClip | None]]:
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
    yield from ((path, None) for path in sorted(files, key=_rank))


def _rank(path: Path) -> tuple[str, str]:
    return hashlib.sha256(path.name.encode()).hexdigest(), path.name


def _condition(clip: LabelledClip) -> str:
    record = clip.record
    return " ".join((clip.view, record.light, record.weather)) if record else clip.view


def _chosen(path: Path, label: LabelledClip | None) -> ChosenClip:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    crash, condition = (label.crash, _condition(label)) if label else (None, "")
    return ChosenClip(path=str(path), sha256=digest.hexdigest(), crash=crash, condition=condition)
