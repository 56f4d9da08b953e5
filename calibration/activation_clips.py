"""The clips that activations are taken from: a list that is the same on every machine, balanced, and hashed.

Crashes and clips without one alternate. The next clip is always one whose view, light and weather have been used least
so far. So a thousand daytime clips do not outweigh a few at night, and every beginning of the list is as balanced as
the whole. The order follows from hashes of names, never from the file system.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePath

from edge_sdk.balance import Balance
from edge_sdk.clips import LABELS_NAME, LabelledClip, read_folder
from edge_sdk.errors import ConfigError
from edge_sdk.files import sha256_of
from edge_sdk.types import Value

SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".ts")
# Clips that can replace each other: of the same label, view, light and weather.
_Cell = tuple[bool | None, str, str, str]
_NO_LABEL: _Cell = (None, "", "", "")


class ChosenClip(Value, frozen=True, kw_only=True):
    """One clip: its file, the SHA-256 of its bytes, and what its label says; `condition` is view, light, weather.

    A table of labels says nothing about light and weather; `condition` is then only the view.
    """

    path: str
    sha256: str
    crash: bool | None = None
    condition: str = ""


def choose_clips(folder: Path, count: int) -> tuple[ChosenClip, ...]:
    """Choose at most `count` clips of `folder`: those of its `labels.csv`, rendered scenes, or clips without labels.

    A copy of a clip under another name is left out. Raises `ConfigError` for a folder with fewer than two clips, for
    labels without a crash, for copies with different labels, and for a table or record that cannot be read.
    """
    if count < 2:
        raise ConfigError(f"a calibration needs at least 2 clips, found --count {count}; give a larger one")
    if not folder.is_dir():
        raise ConfigError(f"{folder}: expected a folder of clips, but there is none; check the path")
    clips = _labelled(folder) or [(path, _NO_LABEL) for path in _videos(folder)]
    if not clips:
        raise ConfigError(f"{folder}: expected clips ({', '.join(SUFFIXES)}), found none; give a folder with some")
    chosen = tuple(islice(_balanced(folder, clips), count))
    if len(chosen) < 2:
        raise ConfigError(f"{folder}: expected at least 2 clips, found 1; give more clips")
    if all(clip.crash is False for clip in chosen):
        raise ConfigError(
            f"{folder}: expected at least 1 crash, found none among {len(chosen)} labelled clips; "
            "add clips with a crash"
        )
    return chosen


def _labelled(folder: Path) -> list[tuple[Path, _Cell]]:
    """The labelled clips of a folder; empty for a folder without labels."""
    table = folder / LABELS_NAME
    if not table.is_file() and not any(folder.glob("[!.]*.json")):
        return []
    return [(clip.path, _cell(clip)) for clip in read_folder(folder)]


def _balanced(folder: Path, clips: list[tuple[Path, _Cell]]) -> Iterator[ChosenClip]:
    """Yield every clip once, the least used condition first; after as many crashes as other clips, a crash."""
    queues: dict[_Cell, deque[tuple[str, str, Path]]] = {}
    for path, cell in sorted(clips, key=lambda clip: _rank(folder, clip[0])):
        queues.setdefault(cell, deque()).append((*_rank(folder, path), path))
    balance, seen = Balance(), dict[str, tuple[Path, _Cell]]()

    def turn(cell: _Cell) -> tuple[object, ...]:
        crashes, *others = balance.used(cell)
        return crashes, not cell[0], *others, queues[cell][0]

    while queues:
        cell = min(queues, key=turn)
        *_, path = queues[cell].popleft()
        if not queues[cell]:
            del queues[cell]
        sha256 = sha256_of(path)
        if sha256 in seen:  # a copy under another name adds nothing
            _check_copy(path, cell, *seen[sha256])
            continue
        seen[sha256] = path, cell
        balance.choose(cell)
        yield ChosenClip(path=str(path), sha256=sha256, crash=cell[0], condition=" ".join(cell[1:]).strip())


def _check_copy(path: Path, cell: _Cell, other: Path, other_cell: _Cell) -> None:
    if cell[0] is not other_cell[0]:
        crash, none = (path, other) if cell[0] else (other, path)
        raise ConfigError(
            f"{crash} and {none.name} are copies of one clip, the first labelled as a crash and the second as none; "
            "correct the label that is wrong"
        )


def _videos(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    return [path for path in found if not path.name.startswith(".")]


def _rank(folder: Path, path: Path) -> tuple[str, str]:
    name = PurePath(os.path.relpath(path, folder)).as_posix()
    return hashlib.sha256(name.encode()).hexdigest(), name


def _cell(clip: LabelledClip) -> _Cell:
    record = clip.record
    return clip.crash, clip.view, record.light if record else "", record.weather if record else ""
