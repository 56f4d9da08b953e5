"""What an example shows of a clip's pictures: a part of them, mirrored, in another light.

A thousand scenes are few, and their pictures share their backgrounds; a tower that always sees whole pictures memorises
the scenes. Parts make vehicles larger and put them elsewhere, so that only what is seen tells where they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_sdk.export.mini.material import Material
from edge_sdk.export.mini.pictures import FULL, Looks, View
from edge_sdk.export.mini.recipe import Views

# A vehicle counts as seen in a part only if at least this share of it lies inside.
_LEAST_LEFT = 0.25
# Parts have only a few widths, because the resizing weights are computed for each width.
_WIDTHS = 9
_MIRRORED = 0.5
_TRIES = 8
# Roles of boxes: 1 and 2 for vehicles that come close to each other and that touch.
_PARTY = 1


def draw_view(clip: Material, views: Views, at: int | None, random: np.random.Generator) -> View:
    """Draw a part of the pictures of `clip`, or the whole of them with probability `views.whole`.

    A part holds the middles of all parties that are visible in picture `at`; if a few draws give none, the whole is
    shown. With None a part lies anywhere.
    """
    looks = _draw_looks(views.light, random)
    mirror = bool(random.random() < _MIRRORED)
    if random.random() < views.whole:
        return replace(FULL, mirror=mirror, looks=looks)
    middles = np.zeros((0, 2)) if at is None else _middles(clip, at)
    for _ in range(_TRIES):
        share = 1 - (1 - views.least) * int(random.integers(_WIDTHS)) / (_WIDTHS - 1)
        left, top = random.uniform(0, 1 - share + 1e-9, 2)
        if ((middles >= (left, top)) & (middles <= (left + share, top + share))).all():
            return View(left=float(left), top=float(top), share=share, mirror=mirror, looks=looks)
    return replace(FULL, mirror=mirror, looks=looks)


def closest(clip: Material) -> int:
    """The picture in which the crash begins, or that shows the parties largest; the middle one if there are none."""
    if clip.record.crash_start_s is not None:
        return min(int(np.searchsorted(clip.pictures.times_s, clip.record.crash_start_s)), len(clip.boxes) - 1)
    covered = (_area(clip.boxes) * (clip.boxes[..., 4] > 0) * (clip.boxes[..., 5] >= _PARTY)).sum(1)
    return int(covered.argmax()) if covered.any() else len(clip.boxes) // 2


def seen_through(clip: Material, view: View) -> Material:
    """The clip as `view` shows it: its boxes are cropped to the part, and mirrored with it."""
    boxes = clip.boxes.copy()
    corner = np.array([view.left, view.top] * 2, np.float32)
    boxes[..., :4] = np.clip((clip.boxes[..., :4] - corner) / view.share, 0, 1)
    if view.mirror:
        boxes[..., 0], boxes[..., 2] = 1 - boxes[..., 2], 1 - boxes[..., 0]
    left = _area(boxes) * view.share**2 >= _LEAST_LEFT * _area(clip.boxes)
    boxes[..., 4] = clip.boxes[..., 4] * left * (_area(boxes) > 0)
    return replace(clip, boxes=boxes, view=view)


def _middles(clip: Material, at: int) -> NDArray[np.float64]:
    boxes = clip.boxes[at]
    parties = boxes[(boxes[:, 4] > 0) & (boxes[:, 5] >= _PARTY)].astype(np.float64)
    found: NDArray[np.float64] = (parties[:, :2] + parties[:, 2:4]) / 2
    return found


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return found


def _draw_looks(strength: float, random: np.random.Generator) -> Looks | None:
    """Draw a curve for each channel: gain, gamma and tint, by factors of about `1 + strength` at one deviation."""
    if strength == 0:
        return None
    gain, tint = random.normal(0, strength), random.normal(0, strength / 3, 3)
    levels = np.linspace(0, 1, 256) ** np.exp(random.normal(0, strength))
    curves = levels * np.exp(gain + tint)[:, None] + random.normal(0, strength / 4)
    found: Looks = np.clip(np.round(255 * curves), 0, 255).astype(np.uint8)
    return found
