"""Metrics of a student on labelled clips, from its raw scores, for training curves.

They use no timeline and no operating point: a clip's score is its highest smoothed crash score, and its start is the
peak of the start heat.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from edge_sdk.evaluation.metrics import average_precision, best_f1, roc_auc
from edge_sdk.export.distil.augment import resize
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.recipe import Recipe
from edge_sdk.export.distil.targets import CRASH, START, Floats
from edge_sdk.export.graphs.student import Student
from edge_sdk.perception.planes import window_planes
from edge_sdk.types import Value

SMOOTHING_FRAMES = 3
# Longer than any rendered scene, so that a scene is scored in one piece.
PIECE_FRAMES = 300


class Metrics(Value, frozen=True, kw_only=True):
    """Raw-score metrics; `best_f1` picks its threshold on the same clips, so it is an upper bound.

    `start_mae_s` is the mean absolute error of the start heat's peak over crash clips.
    """

    clips: int
    clip_ap: float
    clip_auc: float
    best_f1: float
    frame_auc: float
    start_mae_s: float


def score_clip(model: Student, clip: CachedClip, recipe: Recipe, height: int, width: int) -> Floats:
    """Score a whole clip from its first frame at `height` x `width`: float32 `[frames, 4]` in 0..1."""
    count, parts = len(clip.luma), list[Floats]()
    # Each piece is preceded by the frames that its first frame remembers; a whole hour would take a hundred GB.
    before = model.shape.memory_frames + max(recipe.pictures.lags)
    for first in range(0, count, PIECE_FRAMES):
        begin = max(0, first - before)
        luma = np.array(clip.luma[begin : first + PIECE_FRAMES])
        planes = torch.from_numpy(window_planes(resize(luma, height, width), recipe.pictures.lags))
        with torch.inference_mode():
            parts.append(torch.sigmoid(model.survey(planes[None])[0, first - begin :]).numpy())
    return np.concatenate(parts)


def measure(scores: Sequence[Floats], clips: Sequence[CachedClip], recipe: Recipe) -> Metrics:
    """Compute the metrics of `score_clip` results."""
    truth = [clip.label.crash for clip in clips]
    clip_scores = [clip_score(score) for score in scores]
    frames = np.concatenate([score[:, CRASH] for score in scores])
    crashing = np.concatenate([_crashing(clip) for clip in clips])
    delay_s = recipe.targets.heat_delay_frames / recipe.pictures.rate_hz
    errors = [
        abs(float(clip.times_s[np.argmax(score[:, START])]) - delay_s - clip.label.start_s)
        for score, clip in zip(scores, clips, strict=True)
        if clip.label.start_s is not None
    ]
    return Metrics(
        clips=len(clips),
        clip_ap=average_precision(truth, clip_scores),
        clip_auc=roc_auc(truth, clip_scores),
        best_f1=best_f1(truth, clip_scores).f1,
        frame_auc=roc_auc(crashing, frames),
        start_mae_s=float(np.mean(errors)) if errors else float("nan"),
    )


def clip_score(scores: Floats) -> float:
    """The highest mean crash score of `SMOOTHING_FRAMES` consecutive frames."""
    window = np.ones(min(SMOOTHING_FRAMES, len(scores))) / min(SMOOTHING_FRAMES, len(scores))
    return float(np.convolve(scores[:, CRASH], window, "valid").max())


def _crashing(clip: CachedClip) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    label = clip.label
    if label.start_s is None:
        return np.zeros(len(clip.times_s), np.bool_)
    end_s = label.start_s + 1.0 if label.end_s is None else label.end_s
    crashing: np.ndarray[tuple[int], np.dtype[np.bool_]] = (clip.times_s >= label.start_s) & (clip.times_s <= end_s)
    return crashing
