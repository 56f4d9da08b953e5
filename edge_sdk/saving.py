"""Events on disk: a folder with `<event id>.mp4` (`.mkv` of MJPEG), which plays, and beside it the event as JSON.

Names come from the event's id alone: a device without a network starts with a clock that is wrong. What is oldest is
told by the times of the files, each of which is made later than all that were there.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge_sdk.errors import ConfigError
from edge_sdk.events import Event, EventClip
from edge_sdk.feeders import CodedClip, Feeder
from edge_sdk.files import check_folder, remove_half_written_files, write_text
from edge_sdk.types import Value

# How long after the end that is asked for its last units are taken: they are collected, and may lie with the network.
LATE_S = 0.5
_POLL_S = 0.05
_CLIPS = (".mp4", ".mkv")
_NAME = re.compile(r"[0-9a-f]{32}")


class SaveSettings(Value, frozen=True, kw_only=True):
    """What is saved of an event: `pre_roll_s` before its crash or trigger, and all to `post_roll_s` after its end.

    `limit_mb` (10^6 bytes) is what a folder may hold of saved events, None for no limit: the oldest are removed first,
    and never the newest. Raises `ConfigError` for what cannot be.
    """

    pre_roll_s: float = 10.0
    post_roll_s: float = 5.0
    limit_mb: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("pre_roll_s", self.pre_roll_s), ("post_roll_s", self.post_roll_s)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} must be 0 s or more, found {value:g}")
        if self.limit_mb is not None and not 0 < self.limit_mb < math.inf:
            raise ConfigError(f"limit_mb must be above 0, found {self.limit_mb:g}; leave it out for no limit")


def save_event(
    event: Event, feeder: Feeder, folder: Path, settings: SaveSettings, stopped: Callable[[], bool]
) -> Event:
    """Write the clip of `event`, which `feeder` has closed, and its JSON, as `Unit.save` says; the event with the clip.

    Waits for the post-roll while the source shows pictures and it is not `stopped`.
    """
    check_folder(folder)
    if event.state != "closed" or not _NAME.fullmatch(event.id):
        raise ConfigError(f"expected a closed event, found {event.id}, which is {event.state}; save its last revision")
    end_s = event.time.monotonic_s + settings.post_roll_s
    feeder.clip(event.began_s, settings.pre_roll_s)  # what cannot be saved is refused before anything is waited for
    while time.monotonic() < end_s + LATE_S and feeder.state == "live" and not stopped():
        time.sleep(_POLL_S)
    clip = feeder.clip(event.began_s, settings.pre_roll_s).until(end_s)
    folder.mkdir(parents=True, exist_ok=True)
    remove_half_written_files(folder)
    limit_bytes = None if settings.limit_mb is None else settings.limit_mb * 1e6
    if limit_bytes is not None:
        make_room(folder, limit_bytes - sum(len(unit.data) for unit in clip.units), event.id)
    saved = _write(event, clip, folder)
    if limit_bytes is not None:
        make_room(folder, limit_bytes, event.id)
    return saved


def shortfall(clip: EventClip | None) -> str:
    """What of it was asked for and is not in it, in words; empty where it has all."""
    if clip is None:
        return "no picture of that time was kept"
    asked_s = clip.asked_pre_s or 0.0
    if clip.pre_s >= asked_s - 0.001:
        return ""
    begins = f"{clip.pre_s:.1f} s before" if clip.pre_s >= 0 else f"{-clip.pre_s:.1f} s after"
    return f"its clip begins {begins} the crash or trigger in place of {asked_s:g} s before: nothing older was kept"


def make_room(folder: Path, limit_bytes: float, spared: str) -> None:
    """Remove the oldest saved events of `folder` until the rest is within `limit_bytes`; the event `spared` stays.

    An event is known by the name of its JSON and by what is in it; anything else is left alone, and does not count.
    """
    named = _saved(folder)
    if sum(each.bytes for each in named) <= limit_bytes:
        return
    kept = sorted(each for each in named if _is_event(folder / f"{each.name}.json", each.name))
    total = sum(each.bytes for each in kept)
    for each in kept:
        if total <= limit_bytes:
            return
        # What cannot be removed costs room, and no new clip.
        if each.name != spared and _removed(folder, each.name):
            total -= each.bytes


def _removed(folder: Path, name: str) -> bool:
    try:
        for suffix in (*_CLIPS, ".json"):  # last what tells that they are ours
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    except OSError:
        return False
    return True


class _Saved(NamedTuple):
    written_ns: int
    name: str
    bytes: int


def _saved(folder: Path) -> list[_Saved]:
    """What has the name of a saved event."""
    found = []
    for path in folder.glob("*.json"):
        if _NAME.fullmatch(path.stem):
            with suppress(OSError):
                sizes = [path.with_suffix(suffix) for suffix in _CLIPS]
                size = path.stat().st_size + sum(clip.stat().st_size for clip in sizes if clip.exists())
                found.append(_Saved(path.stat().st_mtime_ns, path.stem, size))
    return found


def _is_event(path: Path, name: str) -> bool:
    try:
        return Event.from_json(path.read_bytes()).id == name
    except (ConfigError, OSError):
        return False


def _write(event: Event, clip: CodedClip, folder: Path) -> Event:
    """Both files or, where the clip cannot be written, the JSON alone, before the error.

    The JSON comes first, without the clip: what has none is never found again to make room. Where an earlier call has
    written both, its JSON stays until there is another clip.
    """
    path = folder / f"{event.id}{clip.suffix}"
    if not path.exists():
        _write_json(event, folder)
    saved = msgspec.structs.replace(event, clip=clip.save(path) if clip.units else None)
    _write_json(saved, folder)
    return saved


def _write_json(event: Event, folder: Path) -> None:
    """Its time is later than those of all others, also where the clock was set back meanwhile."""
    path = folder / f"{event.id}.json"
    newest_ns = max((each.written_ns for each in _saved(folder)), default=0)
    write_text(path, event.to_json() + "\n")
    if path.stat().st_mtime_ns <= newest_ns:
        os.utime(path, ns=(newest_ns + 1, newest_ns + 1))
