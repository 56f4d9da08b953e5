"""Events on disk: a folder with `<event id>.mp4` (`.mkv` of MJPEG), which plays, and beside it the event as JSON.

A crash may cut the power. So an event that goes on can be saved as far as it has come, and what is saved of it when it
is closed takes the place of that. It does not where the ring has lost the crash meanwhile, nor where it has lost what
came before and has nothing more behind, as when an event is saved again with its answers.

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
_SAVED_STATES = ("confirmed", "refined", "closed")
# Times of a clip are rounded to this.
_ROUNDING_S = 0.001
# FAT, as of a memory card, keeps the times of files to even seconds.
_FAT_STEP_NS = 2_000_000_000


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
    """Write the clip of `event`, of which `feeder` shows the source, and its JSON, as `Unit.save` says.

    Returns the event with the clip. Of a closed one the post-roll is waited for, while the source shows pictures and it
    is not `stopped`; of others nothing is.
    """
    check_folder(folder)
    _refuse(event)
    feeder.clip(event.began_s, settings.pre_roll_s)  # what cannot be saved is refused before anything is waited for
    end_s = event.time.monotonic_s + settings.post_roll_s if event.state == "closed" else math.inf
    if event.state == "closed":
        while time.monotonic() < end_s + LATE_S and feeder.state == "live" and not stopped():
            time.sleep(_POLL_S)
    clip = feeder.clip(event.began_s, settings.pre_roll_s).until(end_s)
    folder.mkdir(parents=True, exist_ok=True)
    remove_half_written_files(folder)
    earlier = _clip_on_disk(event, folder)
    limit_bytes = None if settings.limit_mb is None else settings.limit_mb * 1e6
    if earlier is not None and _shows_more(earlier, clip):
        saved = msgspec.structs.replace(event, clip=earlier)
        _write_json(saved, folder)
    else:
        if limit_bytes is not None:
            make_room(folder, limit_bytes - sum(len(unit.data) for unit in clip.units), event.id)
        saved = _write(event, clip, folder, earlier)
    if limit_bytes is not None:
        make_room(folder, limit_bytes, event.id)
    return saved


def _refuse(event: Event) -> None:
    """Raises `ConfigError` for what is not saved."""
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
    """Whether the crash or trigger is older than all that is kept."""
    return not clip.units or clip.delivered_s < -_ROUNDING_S


def clip_for(event: Event, earlier: Event) -> EventClip | None:
    """The clip of an `earlier` revision as it is told of `event`, by which the crash may have begun at another time."""
    clip, later_s = earlier.clip, event.began_s - earlier.began_s
    if clip is None:
        return None
    return msgspec.structs.replace(clip, pre_s=round(clip.pre_s + later_s, 3), post_s=round(clip.post_s - later_s, 3))


def shortfall(clip: EventClip | None) -> str:
    """What of it was asked for and is not in it, in words; empty where it has all."""
    if clip is None:
        return "no picture of that time was kept"
    asked_s = clip.asked_pre_s or 0.0
    if clip.pre_s >= asked_s - _ROUNDING_S:
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


def _clip_on_disk(event: Event, folder: Path) -> EventClip | None:
    """What an earlier call has saved of `event`, None where there is no file of it."""
    try:
        clip = clip_for(event, Event.from_json((folder / f"{event.id}.json").read_bytes()))
    except (ConfigError, OSError):
        return None
    names = [f"{event.id}{suffix}" for suffix in _CLIPS if (folder / f"{event.id}{suffix}").is_file()]
    return clip if clip is not None and clip.uri.rpartition("/")[2] in names else None


def _shows_more(earlier: EventClip, clip: CodedClip) -> bool:
    """Whether the earlier clip begins earlier, and `clip` has nothing to set against that.

    Where that has lost the crash or trigger, the earlier one need only have it; else it must end no sooner, but for the
    last units, which may have lain with the network when it was written.
    """
    if not clip.units:
        return True
    more_before_s = earlier.pre_s - (clip.at_s - clip.first_s)
    less_behind_s = clip.end_s - clip.at_s - earlier.post_s
    if lacks_beginning(clip):
        return earlier.post_s >= -_ROUNDING_S and more_before_s > _ROUNDING_S
    return more_before_s > _ROUNDING_S and less_behind_s <= min(more_before_s, LATE_S)


def _write(event: Event, clip: CodedClip, folder: Path, earlier: EventClip | None) -> Event:
    """Both files or, where the clip cannot be written, the JSON alone, before the error.

    The JSON comes first, without the clip: what has none is never found again to make room. Where there is an `earlier`
    clip, the JSON that tells of it stays until there is another, and becomes that of `event` where there is none.
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
    for suffix in _CLIPS:  # of a camera that has changed its codec, the earlier clip has another name
        if made is not None and suffix != clip.suffix:
            with suppress(OSError):
                (folder / f"{event.id}{suffix}").unlink(missing_ok=True)
    return saved


def _write_json(event: Event, folder: Path) -> None:
    """Its time is later than those of all others, where the clock was set back and where FAT keeps it too."""
    path = folder / f"{event.id}.json"
    newest = max((each.written_ns // _FAT_STEP_NS for each in _saved(folder) if each.name != event.id), default=0)
    write_text(path, event.to_json() + "\n")
    if path.stat().st_mtime_ns // _FAT_STEP_NS <= newest:
        later_ns = (newest + 1) * _FAT_STEP_NS
        with suppress(PermissionError):  # a disk that takes times of its owner alone costs the order, and no clip
            os.utime(path, ns=(later_ns, later_ns))
