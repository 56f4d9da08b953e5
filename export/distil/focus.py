"""Training windows around incidents: more of the kinds of clip that students get wrong, and some enlarged.

A window that begins anywhere shows mostly ordinary traffic, which is learnt first. What remains to be learnt is how
vehicles meet, seen from the roadside and from a car that is not involved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sdk.export.distil.augment import Rng
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.recipe import Focus, Recipe
from edge_sdk.export.distil.targets import ACTOR
from edge_sdk.export.distil.windows import WindowSampler

# Windows are enlarged by a factor within e^-0.1 .. e^0.1 of the recipe's.
_ZOOM_SPREAD = 0.1


class FocusSampler(WindowSampler):
    """A `WindowSampler` whose windows lie around incidents as `focus` says, at the recipe's picture size."""

    def __init__(self, clips: Sequence[CachedClip], recipe: Recipe, focus: Focus) -> None:
        super().__init__(clips, recipe, recipe.pictures.height, recipe.pictures.width)
        self._focus = focus
        self._incidents = [incident_frame(clip) for clip in clips]
        self._lengths = [len(clip.times_s) for clip in clips]

    def enlarged(self, rng: Rng) -> float:
        """Draw a zoom near the recipe's for its share of the windows, and 1 for the others."""
        if rng.random() >= self._focus.zoomed:
            return 1.0
        return self._focus.zoom * math.exp(rng.uniform(-_ZOOM_SPREAD, _ZOOM_SPREAD))

    def first_frame(self, rng: Rng, clip: int, frames: int) -> int:
        """Draw where a piece begins: so that it holds the incident well inside, or anywhere for the other pieces."""
        latest = self._lengths[clip] - frames
        if rng.random() >= self._focus.share:
            return int(rng.integers(latest + 1))
        incident, focus = self._incidents[clip], self._focus
        low = incident - max(frames - focus.after, 0)
        first = int(rng.integers(low, max(incident - focus.before, low) + 1))
        return min(max(first, 0), latest)


def shares(clips: Sequence[CachedClip], focus: Focus) -> NDArray[np.float64]:
    """How often each clip is shown relative to the others; 1 for clips without a record."""
    found = np.ones(len(clips))
    for index, clip in enumerate(clips):
        record = clip.label.record
        if record is not None:
            found[index] = (focus.own_car if record.ego_involved else 1.0) * (
                focus.normal if record.kind == "normal" else 1.0
            )
    return found


def drawn(rng: Rng, weights: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Draw `count` distinct indices in random order, likelier with greater weight (Efraimidis and Spirakis 2006)."""
    return np.argsort(rng.exponential(size=len(weights)) / weights)[:count]


def incident_frame(clip: CachedClip) -> int:
    """The frame at which the crash begins; without a crash, the one at which the incident's vehicles are closest.

    Closeness is relative to their size; a vehicle that meets the camera's own car is closest when it is largest. Where
    neither is known, it is the middle of the clip.
    """
    if clip.label.start_s is not None:
        return int(np.abs(clip.times_s - clip.label.start_s).argmin())
    middle = len(clip.times_s) // 2
    if clip.boxes is None:
        return middle
    boxes, shown = clip.boxes[..., :4], (clip.boxes[..., 4] > 0) & (clip.boxes[..., 5] >= ACTOR)
    record = clip.label.record
    if record is not None and record.ego_involved:
        areas = ((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]) * shown).max(1, initial=0.0)
        return int(areas.argmax()) if areas.any() else middle
    gaps = np.array([_gap(frame[seen]) for frame, seen in zip(boxes, shown, strict=True)])
    return int(gaps.argmin()) if np.isfinite(gaps).any() else middle


def _gap(boxes: NDArray[np.float32]) -> float:
    """Distance between the first two of boxes `[n, 4]`, in units of their mean size; infinite with fewer than two."""
    if len(boxes) < 2:
        return math.inf
    middles, size = (boxes[:, :2] + boxes[:, 2:]) / 2, float((boxes[:, 2:] - boxes[:, :2]).mean())
    return float(np.linalg.norm(middles[0] - middles[1])) / max(size, 1e-6)
