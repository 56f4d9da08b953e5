"""Samples that a scorer sees, with their truth: a whole clip, a piece of a clip, or a stream that contains a clip."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.clips import LabelledClip, View
from edge_sdk.evaluation.detail import Bytes, Detail

# A time that differs from a whole frame by at most this fraction of a frame counts as that frame.
SLACK = 1e-6

Track = Literal["whole", "windows", "streams"]
Kind = Literal["crash", "normal", "pre_crash"]

TRACKS: dict[Track, str] = {
    "whole": "clips as they are, seen whole",
    "windows": "equal detail, codec and lengths; negatives are normal clips and pre-crash pieces of the crash clips",
    "streams": "equal detail and codec; clips spliced at a random offset into normal footage of the same view, which "
    "they share: their minutes hold the same footage many times, and shares and rates are less sure than they look",
}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One video file and its truth; times in seconds since its first decoded frame.

    Frames count for frame metrics inside `scored_s` (None: all frames) and outside `shadows_s`, the spans after a
    splice, where alarms are ignored as well.
    """

    path: Path
    track: Track
    kind: Kind
    set: str
    view: View
    group: str
    duration_s: float
    start_s: float | None = None
    end_s: float | None = None
    warning_s: float | None = None
    scored_s: tuple[float, float] | None = None
    shadows_s: tuple[tuple[float, float], ...] = ()

    @property
    def crash(self) -> bool:
        """Whether the sample shows a crash."""
        return self.kind == "crash"

    def counted(self, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Mark the `times_s` that count for frame metrics."""
        begin, end = self.scored_s or (-np.inf, np.inf)
        return (times_s >= begin) & (times_s < end) & ~self.shaded(times_s)

    def shaded(self, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Mark the `times_s` that lie in a splice's shadow."""
        shaded = np.zeros(times_s.shape, np.bool_)
        for begin, end in self.shadows_s:
            shaded |= (times_s >= begin) & (times_s < end)
        return shaded

    def crashing(self, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Mark the `times_s` inside the labelled crash; without a labelled end it lasts to the sample's end."""
        if not self.crash or self.start_s is None:
            return np.zeros(times_s.shape, np.bool_)
        end_s = np.inf if self.end_s is None else self.end_s
        crashing: NDArray[np.bool_] = (times_s >= self.start_s) & (times_s <= end_s)
        return crashing


@dataclass(frozen=True, kw_only=True, eq=False)
class Footage:
    """A labelled clip in the common form: of its `decoded` frames, those up to the last that shows anything."""

    clip: LabelledClip
    set: str
    frames: Bytes
    decoded: int
    detail: Detail

    @property
    def content_s(self) -> float:
        """Length of the frames that show something, in seconds."""
        return len(self.frames) / self.detail.rate_hz

    @property
    def shows_start(self) -> bool:
        """Whether the crash's start is labelled, and at least one frame is at or after it."""
        start_s = self.clip.start_s
        return start_s is not None and math.ceil(start_s * self.detail.rate_hz - SLACK) < len(self.frames)

    def cut(self, begin_s: float, end_s: float) -> Bytes:
        """Return the frames from `begin_s` to `end_s`, rounded to whole frames."""
        rate_hz = self.detail.rate_hz
        return self.frames[round(begin_s * rate_hz) : round(end_s * rate_hz)]


def generator_for(seed: int, *names: str) -> np.random.Generator:
    """Make a generator that depends only on the seed and the names, so that adding a clip changes no other's draw."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])
