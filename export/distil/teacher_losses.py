"""Losses of a student against a teacher, in addition to labels; every term is 0 where the teacher says nothing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from edge_sdk.export.distil.recipe import PEAK_FRAMES, Teacher
from edge_sdk.export.distil.targets import CRASH
from edge_sdk.export.distil.teacher_targets import TIMED

_SURE = 1e-4


def teacher_loss(logits: Tensor, told: Tensor | None, batch: Mapping[str, Tensor], teacher: Teacher) -> Tensor:
    """The weighted sum of the terms for logits `[n, t, 4]`; `told [n, t, width]` are predicted teacher features."""
    loss = logits.new_zeros(())
    if told is not None:
        loss = loss + teacher.feature_weight * feature_loss(told, batch["taught"], batch["taught_known"])
    if teacher.score_weight:
        scores = score_loss(logits[..., CRASH], batch["spans"], batch["yes"], batch["yes_known"], teacher.temperature)
        loss = loss + teacher.score_weight * scores
    if teacher.boundary_weight:
        soft = boundary_loss(logits[..., TIMED], batch["times"], batch["times_weights"])
        loss = loss + teacher.boundary_weight * soft
    return loss


def feature_loss(told: Tensor, taught: Tensor, known: Tensor) -> Tensor:
    """1 - cosine of `told` and `taught [n, t, width]`, averaged over the frames that count, `known [n, t]`."""
    distance = 1 - functional.cosine_similarity(told, taught, dim=2)
    return (distance * known).sum() / known.sum().clamp(min=1.0)


def score_loss(crash: Tensor, spans: Tensor, yes: Tensor, known: Tensor, temperature: float) -> Tensor:
    """KL divergence of the student's probability from the teacher's, both softened, times temperature squared.

    `crash [n, t]` are crash logits; the student's logit for a span, bool `[n, w, t]`, is the mean of its highest crash
    logits there. `yes [n, w]` is the teacher's probability, and `known [n, w]` marks the spans that exist.
    """
    shown = torch.where(spans, crash[:, None], -torch.inf)
    best = shown.topk(min(PEAK_FRAMES, crash.shape[1]), dim=2).values
    # The mean of a span with fewer frames is over the frames that it has.
    there = best.isfinite()
    peak = torch.where(there, best, 0.0).sum(2) / there.sum(2).clamp(min=1)
    sure = torch.sigmoid(torch.logit(yes.clamp(_SURE, 1 - _SURE)) / temperature)
    crossed = functional.binary_cross_entropy_with_logits(peak / temperature, sure, reduction="none")
    entropy = functional.binary_cross_entropy(sure, sure, reduction="none")
    return ((crossed - entropy) * known).sum() / known.sum().clamp(min=1.0) * temperature**2


def boundary_loss(logits: Tensor, soft: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy of crash, start and end, logits `[n, t, 3]`, against soft targets from a teacher's times.

    Averaged over the frames that count, so that an unsure teacher, whose weights are small, teaches less.
    """
    each = functional.binary_cross_entropy_with_logits(logits, soft, weights, reduction="none")
    return each.sum() / (weights > 0).sum().clamp(min=1)
