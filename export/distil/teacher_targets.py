"""A teacher's lessons beside the frames of training windows.

A lesson's times are the teacher's own: it sees fewer frames, and of a crash it knows less surely when it began. So what
it says is laid beside the frames as densities and probabilities, never as instants.
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
from edge_sdk.export.distil.targets import Floats
from edge_sdk.export.distil.teacher_cache import Lesson, TeacherCache, TeacherInfo
from edge_sdk.files import sha256_of

_EPSILON_S = 1e-3


@dataclass(frozen=True, eq=False)
class Laid:
    """A lesson beside a clip's frames.

    `features` float32 `[n, width]` are those of whole pictures; `seen` int64 `[frames]` says which of them each frame
    is to tell, -1 for none. `spans` are the teacher's windows as (first frame, frame behind the last, probability of a
    crash). `heat` and `heat_weights` float32 `[frames, 2]` are the soft start and end heat, weight 0 where a label
    gives the boundary, or says that there is no crash.
    """

    features: Floats
    seen: NDArray[np.int64]
    spans: tuple[tuple[int, int, float], ...]
    heat: Floats
    heat_weights: Floats


class Lessons:
    """The lessons of `clips`. Raises `ConfigError` unless the cache has one for each."""

    def __init__(self, cache: TeacherCache, clips: Sequence[CachedClip], recipe: Recipe, teacher: Teacher) -> None:
        self.width = 0
        self._laid: list[Laid] = []
        known: dict[Path, Lesson] = {}
        for clip in clips:
            path = clip.label.path
            # A clip may be there several times, whole and in pieces.
            lesson = known[path] = known[path] if path in known else _lesson(cache, path)
            self._laid.append(lay(lesson, cache.info, clip, recipe, teacher))
            self.width = lesson.features.shape[2]

    def batch(self, origins: Sequence[NDArray[np.int64]]) -> dict[str, Tensor]:
        """What the teacher says of windows, whose frames' clips and numbers are `origins`, int64 `[frames, 2]` each.

        `taught [n, t, width]` with `taught_known [n, t]`, `spans` bool `[n, w, t]` with `yes [n, w]` and `yes_known
        [n, w]`, `heat` and `heat_weights [n, t, 2]`.
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
            "heat": np.stack([window[2] for window in windows]),
            "heat_weights": np.stack([window[3] for window in windows]),
        }
        return {name: torch.from_numpy(value) for name, value in arrays.items()}

    def _window(self, origins: NDArray[np.int64]) -> tuple[Floats, Floats, Floats, Floats, NDArray[np.bool_], Floats]:
        taught, known = np.zeros((len(origins), self.width), np.float32), np.zeros(len(origins), np.float32)
        heat, weights = np.zeros((2, len(origins), 2), np.float32)
        masks: list[NDArray[np.bool_]] = []
        sure: list[float] = []
        for clip in np.unique(origins[:, 0]):
            laid, here = self._laid[clip], origins[:, 0] == clip
            numbers = origins[here, 1]
            wanted = laid.seen[numbers]
            known[here] = wanted >= 0
            taught[here] = laid.features[np.maximum(wanted, 0)]
            heat[here], weights[here] = laid.heat[numbers], laid.heat_weights[numbers]
            for first, stop, yes in laid.spans:
                mask = here & (origins[:, 1] >= first) & (origins[:, 1] < stop)
                # A window that is cut, or that a clip shows twice, is not what the teacher saw.
                if mask.sum() == stop - first:
                    masks.append(mask)
                    sure.append(yes)
        return (
            taught,
            known,
            heat,
            weights,
            np.array(masks, np.bool_).reshape(-1, len(origins)),
            np.array(sure, np.float32),
        )


def require_lessons(cache: TeacherCache, clips: Iterable[Path]) -> None:
    """Raises `ConfigError` for the first of `clips` that the cache has no lesson of."""
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
    """A clip's lesson beside its frames."""
    heat, weights = _heat(lesson, info, clip, recipe)
    return Laid(
        features=lesson.features[:, -1].astype(np.float32),
        seen=_nearest(clip.times_s + teacher.feature_shift_s, lesson.feature_times_s, 0.5 / info.rate_hz),
        spans=tuple(_spans(lesson, info, clip.times_s, 1 / recipe.pictures.rate_hz)),
        heat=heat,
        heat_weights=weights,
    )


def _nearest(wanted_s: NDArray[np.float64], there_s: NDArray[np.float32], within_s: float) -> NDArray[np.int64]:
    """For each time the number of the nearest of `there_s`, -1 where none is `within_s`."""
    distance = np.abs(wanted_s[:, None] - there_s[None].astype(np.float64))
    found = distance.argmin(1)
    return np.where(distance.min(1) <= within_s + _EPSILON_S, found, -1)


def _spans(
    lesson: Lesson, info: TeacherInfo, times_s: NDArray[np.float64], period_s: float
) -> list[tuple[int, int, float]]:
    found = []
    for end_s, yes in zip(lesson.score_times_s.tolist(), lesson.yes.tolist(), strict=True):
        # Of a piece, which ends before its clip does, the teacher's later windows say nothing.
        if end_s > times_s[-1] + period_s:
            continue
        first = int(np.searchsorted(times_s, max(0.0, end_s - info.window_s) - _EPSILON_S))
        stop = int(np.searchsorted(times_s, end_s + _EPSILON_S))
        if stop > first:
            found.append((first, stop, yes))
    return found


def _heat(lesson: Lesson, info: TeacherInfo, clip: CachedClip, recipe: Recipe) -> tuple[Floats, Floats]:
    """Soft heat float32 `[frames, 2]`, 1 where the teacher is sure of an instant, and what it counts there."""
    heat, weights = np.zeros((2, len(clip.times_s), 2), np.float32)
    label, delay_s = clip.label, recipe.targets.heat_delay_frames / recipe.pictures.rate_hz
    unknown = [not label.labelled or (label.crash and time_s is None) for time_s in (label.start_s, label.end_s)]
    if not len(lesson.boundary_times_s) or not (label.labelled or len(lesson.yes)):
        return heat, weights
    # A teacher tells when a crash would be. Where no label says that there is one, it is as likely as it finds.
    crash = 1.0 if label.labelled else float(lesson.yes.max())
    step_s = float(np.diff(lesson.boundary_times_s).mean()) if len(lesson.boundary_times_s) > 1 else 0.1
    # The highest density of an instant that was smoothed: what the teacher says at its surest.
    peak = step_s / (info.smoothing_s * np.sqrt(2 * np.pi))
    for column, density in enumerate(lesson.densities):
        if unknown[column]:
            said = np.interp(clip.times_s - delay_s, lesson.boundary_times_s, density, left=0.0, right=0.0)
            heat[:, column] = crash * np.minimum(said / peak, 1.0)
            weights[:, column] = crash * sharpness(density, step_s, info.smoothing_s) + (1 - crash)
    return heat, weights


def sharpness(density: Floats, step_s: float, smoothing_s: float) -> float:
    """How sure a density of sum 1 is, in 0..1: the width of a smoothed instant by its own.

    Widths are perplexities, exp(entropy), in steps; that of a Gaussian is sigma * sqrt(2 pi e).
    """
    held = density[density > 0].astype(np.float64)
    width = float(np.exp(-(held * np.log(held)).sum()))
    return min(1.0, smoothing_s / step_s * float(np.sqrt(2 * np.pi * np.e)) / width)
