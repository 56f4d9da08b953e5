"""A whole file as the reference samples it: which pictures the model sees, and the times that its prompts say.

The reference lets FFmpeg bring a file to a fixed rate (`fps=fps=10:round=down`), takes every frame of a short clip, and
spreads its frames over a long one. Which they are depends on where the file ends, so a file is read twice: once for the
times of its pictures, at a size that costs decoding alone, and once for the pictures that are wanted.

Rule: `mm_utils.py` of VideoLLaMA3, `load_video`; `libavfilter/vf_fps.c` of FFmpeg. It differs from the reference in
three ways. A clip whose only slot FFmpeg would drop gives its first picture. Pixels that are not square are made
square, and a rotated picture is turned. The offset of an MPEG-TS file is what GStreamer makes of its clock.
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

# Two presentation times, each cut to a nanosecond, may say 1 ns less than their difference. Clocks of containers are
# coarser than a microsecond, so that no true time lies this close below a slot.
_CLOCK_S = 1e-6
# Containers give their duration to the millisecond.
_DURATION_S = 1e-3
# As small as a picture gets: the first reading is for times.
_SMALL = 16
# Slots fill all the time between the first picture and the last, and a time stamp of a few bytes may lie years ahead.
MAX_CLIP_S = 86_400.0


class Shown(NamedTuple):
    """One frame of a clip: uint8 `[height, width, 3]` RGB, and the time in seconds that the prompt says."""

    pixels: NDArray[np.uint8]
    time_s: float


class ClipPlan(NamedTuple):
    """Which pictures of a file a clip is made of.

    `pictures` are their numbers in order of presentation, from 0; one number may stand several times. `times_s` are
    those of the prompt, which begin at the container's time of the first picture, `info.start_time_s`. `seen_s` are
    those at which the pictures appear, from 0 for the first picture of the file.
    """

    info: SourceInfo
    pictures: tuple[int, ...]
    times_s: tuple[float, ...]
    seen_s: tuple[float, ...]


def plan_clip(clip: str | Path, profile: VisionProfile, *, until_s: float | None = None) -> ClipPlan:
    """Read the times of a file's pictures and choose `profile.frames` of them at `profile.rate_hz`, or fewer.

    At `until_s` on the monotonic clock no further picture is looked at, and the plan is of those before: there is no
    time to show any then. Raises `SourceError` for a clip of more than 24 hours, and what `open_source` raises.
    """
    times_s: list[float] = []
    whole = True
    with open_source(str(clip), CaptureSettings(width=_SMALL, height=_SMALL)) as source:
        for frame in source:
            times_s.append(frame.time_s)
            _check_length(source.info.uri, frame.time_s)
            if _over(until_s):
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
    """The frames of `plan` at the file's own size, as they are decoded; the rest of the file is left unread.

    At `until_s` on the monotonic clock no further one is given, but for the first.
    """
    settings = CaptureSettings(width=plan.info.width, height=plan.info.height, pixels="rgb")
    left = list(zip(plan.pictures, plan.times_s, strict=True))[::-1]
    with open_source(str(clip), settings) as source:
        for number, frame in enumerate(source):
            while left and left[-1][0] == number:
                yield Shown(frame.pixels, left.pop()[1])
            if not left or (number >= plan.pictures[0] and _over(until_s)):
                return


def _check_length(uri: str, end_s: float) -> None:
    if end_s > MAX_CLIP_S:
        raise SourceError(
            f"{uri}: expected a clip of at most {MAX_CLIP_S / 3600:g} hours, found time stamps that make it "
            f"{end_s / 3600:.1f} hours long; cut out what is asked about, or mend its time stamps"
        )


def _over(until_s: float | None) -> bool:
    return until_s is not None and time.monotonic() >= until_s


def slots_of(times_s: Sequence[float], end_s: float, rate_hz: float) -> list[int]:
    """The number of the picture that each slot of the rate shows: the last that began in it or before, at least one.

    `times_s` rise from 0; slots end where `end_s` lies.
    """
    begins = _slot(np.asarray(times_s), rate_hz)
    stop = max(int(_slot(np.asarray(end_s), rate_hz)), int(begins[0]) + 1)
    wanted = np.arange(int(begins[0]), stop)
    return [int(number) for number in np.searchsorted(begins, wanted, side="right") - 1]


def end_of(times_s: Sequence[float], info: SourceInfo, lost_s: float = 0.0) -> float:
    """When the last picture leaves the screen: a period after it appeared, by the declared rate or the last gap.

    The container's own end is taken where it says a little more: at a variable rate up to two of the widest gaps, else
    up to `lost_s`, what may be missing at the end.
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
    """Up to `most` of `count` slots, spread over them all and rounded down as the reference does."""
    if count <= most:
        return list(range(count))
    return [int(slot) for slot in np.linspace(0, count - 1, most, dtype=int)]


def stamps_s(start_s: float, count: int, rate_hz: float) -> NDArray[np.float64]:
    """Times of `count` slots, float64 `[count]`: numpy's own steps from the start as FFprobe prints it, six digits."""
    start_s, step_s = round(start_s, 6), 1 / rate_hz
    return np.arange(start_s, start_s + (count + 1) * step_s, step_s)[:count]


def _is_mp4(uri: str) -> bool:
    """Whether the file is MP4 or QuickTime, of which GStreamer plays no more than the duration from time 0 on.

    Without an edit list pictures begin later, and the last ones are not given.
    """
    path = Path(unquote(urlsplit(uri).path, errors="surrogateescape"))
    if not uri.startswith("file:") or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8)[4:] == b"ftyp"


def _slot(times_s: NDArray[np.float64], rate_hz: float) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.floor((times_s + _CLOCK_S) * rate_hz).astype(np.int64)
    return found
