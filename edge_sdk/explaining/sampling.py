"""Sample a whole file as the reference does: which pictures the model sees, and the times in its prompts.

The reference lets FFmpeg convert a file to a fixed rate (`fps=fps=10:round=down`), takes every frame of a short clip,
and spreads its frames over a long one. The choice depends on where the file ends. So a file is read twice: once for the
times of its pictures, at a tiny size so that decoding is the only cost, and once for the chosen pictures.

Rule: `mm_utils.py` of VideoLLaMA3, `load_video`; `libavfilter/vf_fps.c` of FFmpeg. This module differs from the
reference in three ways. A clip whose only slot FFmpeg would drop gives its first picture. Non-square pixels are made
square, and rotated pictures are turned upright. The time offset of an MPEG-TS file is that of GStreamer's clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle.manifest_language import VisionProfile
from edge_sdk.capture import CaptureSettings, SourceInfo, open_source
from edge_sdk.errors import SourceError

# Presentation times are truncated to nanoseconds, so their difference may be 1 ns too small. The clocks of containers
# are coarser than a microsecond, so no true time lies this close below a slot.
_CLOCK_S = 1e-6
# Containers give their duration to the millisecond.
_DURATION_S = 1e-3
# The smallest possible picture, because the first reading only needs times.
_SMALL = 16
# Slots fill the whole time between the first and last picture, and a single wrong time stamp may lie years ahead.
MAX_CLIP_S = 86_400.0


class Shown(NamedTuple):
    """One frame of a clip: RGB pixels, uint8 `[height, width, 3]`, and its time in the prompt, in seconds."""

    pixels: NDArray[np.uint8]
    time_s: float


class ClipPlan(NamedTuple):
    """The pictures of a file that make up a clip.

    `pictures` are their numbers in order of presentation, from 0; a number may occur several times. `times_s` are their
    times in the prompt, which start at the container's time of the first picture, `info.start_time_s`. `seen_s` are the
    times at which the pictures appear, counted from the first picture of the file.
    """

    info: SourceInfo
    pictures: tuple[int, ...]
    times_s: tuple[float, ...]
    seen_s: tuple[float, ...]


def plan_clip(clip: str | Path, profile: VisionProfile, *, until_s: float | None = None) -> ClipPlan:
    """Read the times of a file's pictures and choose up to `profile.frames` of them at `profile.rate_hz`.

    At `until_s` on the monotonic clock reading stops, and the plan covers only the pictures before; no time to show
    others is left then. Raises `SourceError` for a clip of more than 24 hours, and what `open_source` raises.
    """
    times_s: list[float] = []
    whole = True
    with open_source(str(clip), CaptureSettings(width=_SMALL, height=_SMALL)) as source:
        for frame in source:
            times_s.append(frame.time_s)
            _check_length(source.info.uri, frame.time_s)
            if over(until_s):
                whole = False
                break
        info = source.info
    lost_s = info.start_time_s if _is_mp4(info.uri) else 0.0
    end_s = end_of(times_s, info, lost_s) if whole else times_s[-1]
    _check_length(info.uri, end_s)
    slots = slots_of(times_s, end_s, profile.rate_hz)
    chosen = spread(len(slots), profile.frames)
    stamps = stamps_s(info.start_time_s, len(slots), profile.rate_hz)
    pictures = tuple(slots[n] for n in chosen)
    seen_s = tuple(times_s[number] for number in pictures)
    return ClipPlan(info, pictures, tuple(float(stamps[n]) for n in chosen), seen_s)


def read_clip(clip: str | Path, plan: ClipPlan, *, until_s: float | None = None) -> Iterator[Shown]:
    """Yield the frames of `plan` at the file's own size as they are decoded; the rest of the file is not read.

    After `until_s` on the monotonic clock no further frame is yielded, except the first.
    """
    settings = CaptureSettings(width=plan.info.width, height=plan.info.height, pixels="rgb")
    left = list(zip(plan.pictures, plan.times_s, strict=True))[::-1]
    with open_source(str(clip), settings) as source:
        for number, frame in enumerate(source):
            while left and left[-1][0] == number:
                yield Shown(frame.pixels, left.pop()[1])
            if not left or (number >= plan.pictures[0] and over(until_s)):
                return


def _check_length(uri: str, end_s: float) -> None:
    if end_s > MAX_CLIP_S:
        raise SourceError(
            f"{uri}: expected a clip of at most {MAX_CLIP_S / 3600:g} hours, found time stamps that make it "
            f"{end_s / 3600:.1f} hours long; cut out the part to ask about, or correct its time stamps"
        )


def over(until_s: float | None) -> bool:
    """Whether the moment `until_s` of `time.monotonic()` has passed; None never does."""
    return until_s is not None and time.monotonic() >= until_s


def slots_of(times_s: Sequence[float], end_s: float, rate_hz: float) -> list[int]:
    """Return, for each slot of the rate, the number of the last picture that began in or before it; at least one slot.

    `times_s` ascend from 0; the slots end at the slot of `end_s`.
    """
    begins = _slot(np.asarray(times_s), rate_hz)
    stop = max(int(_slot(np.asarray(end_s), rate_hz)), int(begins[0]) + 1)
    wanted = np.arange(int(begins[0]), stop)
    return [int(number) for number in np.searchsorted(begins, wanted, side="right") - 1]


def end_of(times_s: Sequence[float], info: SourceInfo, lost_s: float = 0.0) -> float:
    """Return when the last picture leaves the screen: one period after it appeared, by the declared rate or last gap.

    The container's own end is used instead if it is slightly later: at a variable rate by up to two of the widest gaps,
    else by up to `lost_s`, the time that may be missing at the end.
    """
    last_s, declared_s = times_s[-1], info.duration_s or 0.0
    gaps_s = np.diff(times_s)
    if info.rate_hz:
        end_s, more_s = last_s + 1 / info.rate_hz, lost_s
    elif len(gaps_s):
        end_s, more_s = last_s + float(gaps_s[-1]), 2 * float(gaps_s.max())
    else:
        return max(last_s, declared_s)
    return declared_s if end_s < declared_s <= end_s + more_s + _DURATION_S else end_s


def spread(count: int, most: int) -> list[int]:
    """Return up to `most` of `count` slots, spread evenly and rounded down as in the reference."""
    if count <= most:
        return list(range(count))
    return [int(slot) for slot in np.linspace(0, count - 1, most, dtype=int)]


def stamps_s(start_s: float, count: int, rate_hz: float) -> NDArray[np.float64]:
    """Return the times of `count` slots, float64 `[count]`, by `np.arange` from the start in FFprobe's six digits."""
    start_s, step_s = round(start_s, 6), 1 / rate_hz
    return np.arange(start_s, start_s + (count + 1) * step_s, step_s)[:count]


def _is_mp4(uri: str) -> bool:
    """Return whether the file is MP4 or QuickTime, which GStreamer plays only up to the duration counted from time 0.

    If the file has no edit list, its pictures begin later and the last ones are lost.
    """
    path = Path(unquote(urlsplit(uri).path, errors="surrogateescape"))
    if not uri.startswith("file:") or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8)[4:] == b"ftyp"


def _slot(times_s: NDArray[np.float64], rate_hz: float) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.floor((times_s + _CLOCK_S) * rate_hz).astype(np.int64)
    return found
