"""Events on disk: a folder with `<event id>.mp4` (`.mkv` for MJPEG), which plays, and the event beside it as JSON.

A crash may cut the power, so an event can be saved while it goes on, with what has come so far. When it is closed, a
new clip replaces that one, with two exceptions: the ring has meanwhile lost the crash, or it has lost what came before
and holds nothing more after it, as when an event is saved again with its answers.

Names come from the event's id alone, because a device without a network starts with a wrong clock. The files' times
tell which event is the oldest: each JSON file gets a later time than all others in the folder.
"""

from __future__ import annotations

import math
import os
import re
import threading
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

# The last units before the asked end may arrive this much later: they wait in the network and to be collected.
LATE_S = 0.5
_POLL_S = 0.05
_CLIPS = (".mp4", ".mkv")
_NAME = re.compile(r"[0-9a-f]{32}")
_SAVED_STATES = ("confirmed", "refined", "closed")
# Times of a clip are rounded to this.
_ROUNDING_S = 0.001
# By folder: who reads what is there and writes accordingly must be alone.
_LOCKS: dict[str, threading.Lock] = {}
# FAT, the file system of many memory cards, keeps file times in steps of 2 s.
_FAT_STEP_NS = 2_000_000_000


class SaveSettings(Value, frozen=True, kw_only=True):
    """What is saved of an event: from `pre_roll_s` before its crash or trigger to `post_roll_s` after its end.

    `limit_mb` (10^6 bytes) limits the saved events in a folder, None for no limit: the oldest are removed first, but
    never the event being saved. Raises `ConfigError` for a value out of range.
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
    """Write the clip of `event`, whose source `feeder` reads, and its JSON, as `Unit.save` says.

    Returns the event with the clip, or the later revision of it that another call has written meanwhile, which stays.
    Only for a closed event is the post-roll waited for, and only while the source is live and `stopped` returns false.
    """
    check_folder(folder)
    _refuse(event)
    feeder.clip(event.began_s, settings.pre_roll_s)  # refuses an event without units before any wait for its post-roll
    end_s = event.time.monotonic_s + settings.post_roll_s if event.state == "closed" else math.inf
    if event.state == "closed":
        while time.monotonic() < end_s + LATE_S and feeder.state == "live" and not stopped():
            time.sleep(_POLL_S)
    clip = feeder.clip(event.began_s, settings.pre_roll_s).until(end_s)
    folder.mkdir(parents=True, exist_ok=True)
    limit_bytes = math.inf if settings.limit_mb is None else settings.limit_mb * 1e6
    with _lock_of(folder):
        remove_half_written_files(folder)
        on_disk = _on_disk(event.id, folder)
        if on_disk is not None and on_disk.revision > event.revision:
            saved = on_disk
        else:
            saved = _replace(event, clip, folder, _clip_on_disk(event, on_disk, folder), limit_bytes)
        make_room(folder, limit_bytes, event.id)
    return saved


def _lock_of(folder: Path) -> threading.Lock:
    """The lock of whoever writes into `folder`. Each has its own, so that a disk that hangs holds up no other."""
    return _LOCKS.setdefault(os.path.realpath(folder), threading.Lock())


def _replace(event: Event, clip: CodedClip, folder: Path, earlier: EventClip | None, limit_bytes: float) -> Event:
    """Write `event` with `clip`, or with its `earlier` clip if that shows more; returns it as written."""
    if earlier is not None and _shows_more(earlier, clip):
        saved = msgspec.structs.replace(event, clip=earlier)
        _write_json(saved, folder)
        return saved
    make_room(folder, limit_bytes - sum(len(unit.data) for unit in clip.units), event.id)
    return _write(event, clip, folder, earlier)


def _refuse(event: Event) -> None:
    """Raise `ConfigError` for an event with an unusable id, or in a state that is not saved."""
    if not _NAME.fullmatch(event.id):
        raise ConfigError(
            f"expected an event whose id is 32 hexadecimal digits, found {event.id!r}; save it as the unit gave it"
        )
    if event.state not in _SAVED_STATES:
        raise ConfigError(
            f"expected an event that is confirmed, refined or closed, found {event.id}, which is {event.state}; save "
            "its later revisions, or leave it where it is rejected"
        )


def lacks_beginning(clip: CodedClip) -> bool:
    """Whether the crash or trigger is older than every unit kept."""
    return not clip.units or clip.delivered_s < -_ROUNDING_S


def clip_for(event: Event, earlier: Event) -> EventClip | None:
    """The clip of an `earlier` revision, with its times counted from when `event` says that the crash began."""
    clip, later_s = earlier.clip, event.began_s - earlier.began_s
    if clip is None:
        return None
    return msgspec.structs.replace(clip, pre_s=round(clip.pre_s + later_s, 3), post_s=round(clip.post_s - later_s, 3))


def shortfall(clip: EventClip | None) -> str:
    """What was asked for and is missing from the clip, in words; empty if nothing is."""
    if clip is None:
        return "no picture of that time was kept"
    asked_s = clip.asked_pre_s or 0.0
    if clip.pre_s >= asked_s - _ROUNDING_S:
        return ""
    begins = f"{clip.pre_s:.1f} s before" if clip.pre_s >= 0 else f"{-clip.pre_s:.1f} s after"
    return f"its clip begins {begins} the crash or trigger in place of {asked_s:g} s before: nothing older was kept"


def make_room(folder: Path, limit_bytes: float, spared: str) -> None:
    """Remove the oldest saved events of `folder` until the rest is within `limit_bytes`; the event `spared` stays.

    An event is recognised by the name and the content of its JSON; other files are left alone, and do not count.
    """
    if limit_bytes == math.inf:
        return
    named = _saved(folder)
    if sum(each.bytes for each in named) <= limit_bytes:
        return
    kept = sorted(each for each in named if _on_disk(each.name, folder) is not None)
    total = sum(each.bytes for each in kept)
    for each in kept:
        if total <= limit_bytes:
            return
        # A file that cannot be removed costs room, but must not keep a new clip from being saved.
        if each.name != spared and _removed(folder, each.name):
            total -= each.bytes


def _removed(folder: Path, name: str) -> bool:
    try:
        for suffix in (*_CLIPS, ".json"):  # the JSON last: without it the clip would not be recognised as ours
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    except OSError:
        return False
    return True


class _Saved(NamedTuple):
    written_ns: int
    name: str
    bytes: int


def _saved(folder: Path) -> list[_Saved]:
    """The files that are named like saved events."""
    found = []
    for path in folder.glob("*.json"):
        if _NAME.fullmatch(path.stem):
            with suppress(OSError):
                sizes = [path.with_suffix(suffix) for suffix in _CLIPS]
                size = path.stat().st_size + sum(clip.stat().st_size for clip in sizes if clip.exists())
                found.append(_Saved(path.stat().st_mtime_ns, path.stem, size))
    return found


def _on_disk(event_id: str, folder: Path) -> Event | None:
    """The event that an earlier call saved; None if there is none, or none that can be read."""
    with suppress(ConfigError, OSError):
        found = Event.from_json((folder / f"{event_id}.json").read_bytes())
        return found if found.id == event_id else None
    return None


def _clip_on_disk(event: Event, on_disk: Event | None, folder: Path) -> EventClip | None:
    """The clip that an earlier call saved for `event`, as `on_disk` tells; None if there is no such file."""
    clip = None if on_disk is None else clip_for(event, on_disk)
    names = [f"{event.id}{suffix}" for suffix in _CLIPS if (folder / f"{event.id}{suffix}").is_file()]
    return clip if clip is not None and clip.uri.rpartition("/")[2] in names else None


def _shows_more(earlier: EventClip, clip: CodedClip) -> bool:
    """Whether the earlier clip begins earlier, and `clip` does not make up for that.

    If `clip` has lost the crash or trigger, the earlier clip need only contain it. Otherwise the earlier clip must end
    no sooner than `clip`, apart from the last units, which may still have been in the network when it was written.
    """
    if not clip.units:
        return True
    more_before_s = earlier.pre_s - (clip.at_s - clip.first_s)
    less_behind_s = clip.end_s - clip.at_s - earlier.post_s
    if lacks_beginning(clip):
        return earlier.post_s >= -_ROUNDING_S and more_before_s > _ROUNDING_S
    return more_before_s > _ROUNDING_S and less_behind_s <= min(more_before_s, LATE_S)


def _write(event: Event, clip: CodedClip, folder: Path, earlier: EventClip | None) -> Event:
    """Write both files or, if the clip cannot be written, the JSON alone before raising.

    The JSON is written first, without the clip, because a clip that has no JSON is never found again to make room. If
    there is an `earlier` clip, its JSON stays until the new clip is written; if that fails, it is replaced by the JSON
    of `event` with the earlier clip.
    """
    if earlier is None:
        _write_json(event, folder)
    try:
        made = clip.save(folder / f"{event.id}{clip.suffix}") if clip.units else None
    except Exception:
        if earlier is not None:
            with suppress(OSError):
                _write_json(msgspec.structs.replace(event, clip=earlier), folder)
        raise
    saved = msgspec.structs.replace(event, clip=made)
    _write_json(saved, folder)
    for suffix in _CLIPS:  # if the camera has changed its codec, the earlier clip has another suffix
        if made is not None and suffix != clip.suffix:
            with suppress(OSError):
                (folder / f"{event.id}{suffix}").unlink(missing_ok=True)
    return saved


def _write_json(event: Event, folder: Path) -> None:
    """Write the JSON with a later file time than all others, even if the clock was set back or FAT rounds times."""
    path = folder / f"{event.id}.json"
    newest = max((each.written_ns // _FAT_STEP_NS for each in _saved(folder) if each.name != event.id), default=0)
    write_text(path, event.to_json() + "\n")
    if path.stat().st_mtime_ns // _FAT_STEP_NS <= newest:
        later_ns = (newest + 1) * _FAT_STEP_NS
        with suppress(PermissionError):  # a disk on which only the owner may set times costs the order, not the clip
            os.utime(path, ns=(later_ns, later_ns))
