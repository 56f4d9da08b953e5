"""A teacher's lessons, aligned with the frames of training windows.

A lesson has the teacher's own times: the teacher sees fewer frames, and is less sure when a crash began. So its answers
are aligned with frames as densities and probabilities, never as instants.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.recipe import Recipe, Teacher
from edge_sdk.export.distil.targets import CRASH, END, START, Floats, frame_targets
from edge_sdk.export.distil.teacher_cache import Lesson, TeacherCache, TeacherInfo
from edge_sdk.files import sha256_of

Times = NDArray[np.float64]
# The scores that the teacher's times give targets for.
TIMED = [CRASH, START, END]
_EPSILON_S = 1e-3


@dataclass(frozen=True, eq=False)
class Laid:
    """A lesson aligned with a clip's frames.

    `features` float32 `[n, width]` are those of whole pictures; `seen` int64 `[frames]` says which of them each frame
    predicts, -1 for none. `spans` are the teacher's windows as (first frame, frame after the last, probability of a
    crash). `times` float32 `[frames, 3]` are targets from the teacher's times: the probability that a crash is under
    way, and the soft start and end heat. Their weights, `times_weights` float32 `[frames, 3]`, are 0 where a label
    gives the target, or says that there is no crash.
    """

    features: Floats
    seen: NDArray[np.int64]
    spans: tuple[tuple[int, int, float], ...]
    times: Floats
    times_weights: Floats


class Lessons:
    """The lessons of `clips`. Raises `ConfigError` unless the cache has one for each."""

    def __init__(self, cache: TeacherCache, clips: Sequence[CachedClip], recipe: Recipe, teacher: Teacher) -> None:
        self.width = 0
        self._laid: list[Laid] = []
        known: dict[Path, Lesson] = {}
        for clip in clips:
            path = clip.label.path
            # A clip may appear several times, whole and in pieces.
            lesson = known[path] = known[path] if path in known else _lesson(cache, path)
            self._laid.append(lay(lesson, cache.info, clip, recipe, teacher))
            self.width = lesson.features.shape[2]

    def batch(self, origins: Sequence[NDArray[np.int64]]) -> dict[str, Tensor]:
        """The teacher's targets for windows; `origins` int64 `[frames, 2]` are the clip and number of their frames.

        `taught [n, t, width]` with `taught_known [n, t]`, `spans` bool `[n, w, t]` with `yes [n, w]` and `yes_known
        [n, w]`, `times` and `times_weights [n, t, 3]`.
        """
        windows = [self._window(each) for each in origins]
        most = max(1, *(len(yes) for *_, yes in windows))
        frames = len(origins[0])
        spans = np.zeros((len(windows), most, frames), np.bool_)
        yes, known = np.zeros((2, len(windows), most), np.float32)
        for number, (*_, masks, sure) in enumerate(windows):
            spans[number, : len(sure)] = masks
            yes[number, : len(sure)], known[number, : len(sure)] = sure, 1
        arrays = {
            "taught": np.stack([window[0] for window in windows]),
            "taught_known": np.stack([window[1] for window in windows]),
            "spans": spans,
            "yes": yes,
            "yes_known": known,
            "times": np.stack([window[2] for window in windows]),
            "times_weights": np.stack([window[3] for window in windows]),
        }
        return {name: torch.from_numpy(value) for name, value in arrays.items()}

    def _window(self, origins: NDArray[np.int64]) -> tuple[Floats, Floats, Floats, Floats, NDArray[np.bool_], Floats]:
        taught, known = np.zeros((len(origins), self.width), np.float32), np.zeros(len(origins), np.float32)
        times, weights = np.zeros((2, len(origins), len(TIMED)), np.float32)
        masks: list[NDArray[np.bool_]] = []
        sure: list[float] = []
        for clip in np.unique(origins[:, 0]):
            laid, here = self._laid[clip], origins[:, 0] == clip
            numbers = origins[here, 1]
            wanted = laid.seen[numbers]
            known[here] = wanted >= 0
            taught[here] = laid.features[np.maximum(wanted, 0)]
            times[here], weights[here] = laid.times[numbers], laid.times_weights[numbers]
            for first, stop, yes in laid.spans:
                mask = here & (origins[:, 1] >= first) & (origins[:, 1] < stop)
                # A teacher's window that is cut off, or shown twice, is not what the teacher saw.
                if mask.sum() == stop - first:
                    masks.append(mask)
                    sure.append(yes)
        return (
            taught,
            known,
            times,
            weights,
            np.array(masks, np.bool_).reshape(-1, len(origins)),
            np.array(sure, np.float32),
        )


def require_lessons(cache: TeacherCache, clips: Iterable[Path]) -> None:
    """Raise `ConfigError` for the first of `clips` that the cache has no lesson for."""
    for path in clips:
        if not cache.path(sha256_of(path)).is_file():
            raise _unseen(path)


def _lesson(cache: TeacherCache, path: Path) -> Lesson:
    lesson = cache.read(sha256_of(path))
    if lesson is None:
        raise _unseen(path)
    return lesson


def _unseen(path: Path) -> ConfigError:
    return ConfigError(
        f"the teacher has not seen {path}; run `edge-sdk distil teach` on every folder of clips that is trained on, "
        "with the same --out"
    )


def lay(lesson: Lesson, info: TeacherInfo, clip: CachedClip, recipe: Recipe, teacher: Teacher) -> Laid:
    """Align a clip's lesson with its frames."""
    times, weights = _times(lesson, info, clip, recipe)
    return Laid(
        features=lesson.features[:, -1].astype(np.float32),
        seen=_nearest(clip.times_s + teacher.feature_shift_s, lesson.feature_times_s, 0.5 / info.rate_hz),
        spans=tuple(_spans(lesson, info, clip.times_s, 1 / recipe.pictures.rate_hz)),
        times=times,
        times_weights=weights,
    )


def _nearest(wanted_s: NDArray[np.float64], there_s: NDArray[np.float32], within_s: float) -> NDArray[np.int64]:
    """For each time, the index of the nearest of `there_s`; -1 where none is within `within_s`."""
    distance = np.abs(wanted_s[:, None] - there_s[None].astype(np.float64))
    found = distance.argmin(1)
    return np.where(distance.min(1) <= within_s + _EPSILON_S, found, -1)


def _spans(
    lesson: Lesson, info: TeacherInfo, times_s: NDArray[np.float64], period_s: float
) -> list[tuple[int, int, float]]:
    found = []
    for end_s, yes in zip(lesson.score_times_s.tolist(), lesson.yes.tolist(), strict=True):
        # A piece may end before its clip does; the teacher's later windows do not apply to it.
        if end_s > times_s[-1] + period_s:
            continue
        # A picture exactly `window_s` before the last one of a window is not part of it.
        first = int(np.searchsorted(times_s, end_s - info.window_s + _EPSILON_S))
        stop = int(np.searchsorted(times_s, end_s + _EPSILON_S))
        if stop > first:
            found.append((first, stop, yes))
    return found


def _times(lesson: Lesson, info: TeacherInfo, clip: CachedClip, recipe: Recipe) -> tuple[Floats, Floats]:
    """Targets for `TIMED` from the teacher's times, and their weights, both float32 `[frames, 3]`."""
    label, targets = clip.label, recipe.targets
    if not len(lesson.boundary_times_s) or not (label.labelled or len(lesson.yes)):
        empty = np.zeros((len(clip.times_s), len(TIMED)), np.float32)
        return empty, empty
    # The teacher's times assume a crash. Where no label confirms one, they are scaled by its probability of a crash.
    crash = 1.0 if label.labelled else float(lesson.yes.max())
    told, weights = np.ones((2, len(clip.times_s), len(TIMED)), np.float32)
    # A probability already expresses how sure it is, so its weight is 1.
    told[:, 0] = _lasting(lesson, clip.times_s, label.start_s if label.labelled else None, targets.aftermath_s)
    shown_s = clip.times_s - targets.heat_delay_frames / recipe.pictures.rate_hz
    for column, density in enumerate(lesson.densities, start=1):
        told[:, column], sure = _heat(lesson.boundary_times_s, density, shown_s, info.smoothing_s)
        weights[:, column] = crash * sure + (1 - crash)
    return crash * told, weights * _unsaid(clip, recipe)


def _unsaid(clip: CachedClip, recipe: Recipe) -> NDArray[np.bool_]:
    """Where no label gives a target for `TIMED`, bool `[frames, 3]`."""
    unsaid: NDArray[np.bool_] = (
        frame_targets(clip.times_s, clip.label, recipe.targets, recipe.pictures)[1][:, TIMED] == 0
    )
    return unsaid


def _lasting(lesson: Lesson, times_s: Times, start_s: float | None, aftermath_s: float) -> Times:
    """The probability at `times_s [frames]` that a crash has begun and is not over; a label's `start_s` is certain.

    As with labels, it lasts until its end, and at least for `aftermath_s`. An early start is paired with an early end,
    because the teacher gives only the separate probabilities of each.
    """

    def begun(by_s: Times) -> Times:
        told: Times = np.interp(by_s, lesson.boundary_times_s, lesson.densities[0].cumsum(), left=0.0, right=1.0)
        return told if start_s is None else (by_s >= start_s).astype(np.float64)

    ended: Times = np.interp(times_s, lesson.boundary_times_s, lesson.densities[1].cumsum(), left=0.0, right=1.0)
    lasts: Times = np.maximum(begun(times_s) - np.minimum(begun(times_s - aftermath_s), ended), 0.0)
    return lasts


def _heat(there_s: NDArray[np.float32], density: Floats, times_s: Times, smoothing_s: float) -> tuple[Times, float]:
    """Soft heat `[frames]`, 1 where the teacher is sure of an instant; and how sure the teacher is, in 0..1."""
    step_s = float(np.diff(there_s).mean()) if len(there_s) > 1 else 0.1
    # The highest density of a smoothed instant: the surest answer that a teacher can give.
    peak = step_s / (smoothing_s * np.sqrt(2 * np.pi))
    said = np.interp(times_s, there_s, density, left=0.0, right=0.0)
    return np.minimum(said / peak, 1.0), sharpness(density, step_s, smoothing_s)


def sharpness(density: Floats, step_s: float, smoothing_s: float) -> float:
    """How sure a density of sum 1 is, in 0..1: the width of a smoothed instant divided by the width of the density.

    Widths are perplexities, exp(entropy), in steps; that of a Gaussian is sigma * sqrt(2 pi e).
    """
    held = density[density > 0].astype(np.float64)
    width = float(np.exp(-(held * np.log(held)).sum()))
    return min(1.0, smoothing_s / step_s * float(np.sqrt(2 * np.pi * np.e)) / width)
