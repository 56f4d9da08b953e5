"""The end of a training run: the grid is frozen, and the layers that judge a frame's pooled features are trained anew.

An epoch takes seconds, because the features fit in memory. Attention to the places of the maps is added here, once the
maps have been learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import torch
from torch import Tensor

from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.evaluate import Metrics, measure, score_clip
from edge_sdk.export.distil.late_features import LateFeatures
from edge_sdk.export.distil.losses import peak_loss, window_loss
from edge_sdk.export.distil.recipe import Head, Recipe
from edge_sdk.export.distil.run import Run, begin
from edge_sdk.export.graphs.masks import MASKS, masks_of
from edge_sdk.export.graphs.student import Student

Progress = Callable[[int, int, str], object]
# The modules trained here, by the first part of their names; all others keep their weights.
JUDGES = ("level", "pooled", "memory", "head")
QUICK_VALIDATION = 60
# Makes the order of windows differ from that of the earlier stages.
_STREAM = 2


def train_head(
    before: Run, recipe: Recipe, features: LateFeatures, held_out: Sequence[CachedClip], report: Progress
) -> Run:
    """Train by `recipe.head` on the grid that `before` ended with.

    Returns a run with the losses and metrics of all epochs, the earlier ones first.
    """
    if recipe.head is None or recipe.late is None:
        raise ConfigError("this recipe has no last stage; add a table [head] after [late]")
    run = begin(attentive_student(before.averaged(), recipe), recipe, recipe.head.average)
    pooled = [torch.from_numpy(features.pooled(run.averaged(), number)) for number in range(recipe.late.copies)]
    run.losses, run.metrics = list(before.losses), list(before.metrics)
    for epoch in range(recipe.head.epochs):
        run.losses.append(_epoch(run, recipe, recipe.head, features, pooled, epoch))
        report(epoch + 1, recipe.head.epochs, f"head epoch {epoch + 1} loss {run.losses[-1]:.4f}")
        last = epoch + 1 == recipe.head.epochs
        run.metrics.append(_validated(run.averaged(), recipe, held_out[:QUICK_VALIDATION]) if last else None)
    return run


def attentive_student(before: Student, recipe: Recipe) -> Student:
    """Add attention to the student; modules trained here start anew, all others keep their weights and are frozen."""
    if recipe.head is None:
        raise ConfigError("this recipe has no last stage; add a table [head]")
    torch.manual_seed(recipe.seed)
    model = Student(msgspec.structs.replace(before.shape, attentive=True))
    taken = {name: value for name, value in before.state_dict().items() if name.split(".")[0] not in JUDGES}
    model.load_state_dict({**model.state_dict(), **taken})
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in JUDGES)
    return model.drop(*recipe.head.dropout)


def _validated(model: Student, recipe: Recipe, clips: Sequence[CachedClip]) -> Metrics:
    scores = [score_clip(model, clip, recipe, recipe.pictures.height, recipe.pictures.width) for clip in clips]
    return measure(scores, clips, recipe)


def _epoch(run: Run, recipe: Recipe, head: Head, features: LateFeatures, pooled: Sequence[Tensor], epoch: int) -> float:
    order = np.random.default_rng([recipe.seed, _STREAM, epoch]).permutation(features.clips)
    steps = max(1, features.clips // head.windows)
    run.model.train()
    total = 0.0
    for index in range(steps):
        run.set_rate(head.learning_rate, recipe.optimiser.warm_up_share, steps * head.epochs)
        rng = np.random.default_rng([recipe.seed, _STREAM, run.step])
        chosen = order[index * head.windows : (index + 1) * head.windows]
        places = [features.place(rng, int(clip)) for clip in chosen]
        targets = torch.from_numpy(np.stack([place.targets for place in places]))
        weights = torch.from_numpy(np.stack([place.weights for place in places]))
        with masks_of(run.model, [recipe.seed, _STREAM, MASKS, run.step]):
            logits = run.model.judge(torch.stack([pooled[place.copy][place.frames] for place in places]))
        loss = window_loss(logits, targets, weights, recipe) + head.window_weight * peak_loss(logits, targets, weights)
        torch.autograd.backward(loss)
        run.advance(recipe.optimiser.clip_norm)
        total += float(loss.detach())
    return total / steps
