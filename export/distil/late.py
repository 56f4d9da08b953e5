"""A late stage of training: the picture part is frozen, and the layers after it keep training.

A crash differs from a near miss in how things move afterwards, not in how a picture looks. After the earlier stages the
part that sees single pictures changes little, while the rest still learns. So the picture part's features are computed
once, and the rest trains on them, with more weight on a window's peak.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.evaluate import measure, score_clip
from edge_sdk.export.distil.late_features import LateFeatures
from edge_sdk.export.distil.losses import cell_loss, peak_loss, window_loss
from edge_sdk.export.distil.recipe import Late, Recipe
from edge_sdk.export.distil.run import Run, begin
from edge_sdk.export.distil.workers import WORKERS, Workers
from edge_sdk.export.graphs.masks import MASKS
from edge_sdk.export.graphs.student import MAPS, Student

Progress = Callable[[int, int, str], object]
# Validation clips scored after an epoch.
QUICK_VALIDATION = 60
# Makes the order of windows differ from that of the earlier stages.
_STREAM = 1


def train_late(
    early: Run,
    recipe: Recipe,
    features: LateFeatures,
    held_out: Sequence[CachedClip],
    checkpoint: Path,
    report: Progress,
) -> Run:
    """Train by `recipe.late` from the end of `early`, on the features of its picture part.

    Returns a run with the losses and metrics of all epochs, the early ones first.
    """
    if recipe.late is None:
        raise ConfigError("this recipe has no late stage; give it a table [late]")
    run = begin(late_student(early.averaged()), recipe, recipe.late.average)
    run.losses, run.metrics = list(early.losses), list(early.metrics)
    run.restore(checkpoint)
    steps = max(1, features.clips // recipe.late.windows)
    with Workers(run.model, WORKERS) as workers:
        for epoch in range(len(run.losses) - len(early.losses), recipe.late.epochs):
            run.losses.append(_epoch(run, recipe, recipe.late, features, workers, (epoch, steps), report))
            quick = held_out[:QUICK_VALIDATION]
            size = recipe.pictures.height, recipe.pictures.width
            run.metrics.append(
                measure([score_clip(run.averaged(), clip, recipe, *size) for clip in quick], quick, recipe)
            )
            report((epoch + 1) * steps, recipe.late.epochs * steps, run.note())
            run.save(checkpoint)
    return run


def late_student(early: Student) -> Student:
    """Copy the student and freeze its picture part."""
    model = copy.deepcopy(early)
    model.picture.requires_grad_(False)
    return model


def _epoch(
    run: Run,
    recipe: Recipe,
    late: Late,
    features: LateFeatures,
    workers: Workers,
    position: tuple[int, int],
    report: Progress,
) -> float:
    epoch, steps = position
    order = np.random.default_rng([recipe.seed, _STREAM, epoch]).permutation(features.clips)
    run.model.train()
    total = 0.0
    for index in range(steps):
        run.set_rate(late.learning_rate, recipe.optimiser.warm_up_share, steps * late.epochs)
        chosen = order[index * late.windows : (index + 1) * late.windows]
        total += _step(run, recipe, late, features, workers, chosen)
        report(run.step, steps * late.epochs, f"late epoch {epoch + 1}/{late.epochs} loss {total / (index + 1):.4f}")
    return total / steps


def _step(
    run: Run,
    recipe: Recipe,
    late: Late,
    features: LateFeatures,
    workers: Workers,
    # Any: numpy's integer arrays carry their width in the type, and the width does not matter here.
    chosen: np.ndarray[Any, Any],
) -> float:
    def run_pass(model: Student, numbers: Sequence[int]) -> float:
        windows = [
            features.draw(np.random.default_rng([recipe.seed, _STREAM, run.step, number]), int(chosen[number]))
            for number in numbers
        ]
        seen = torch.stack([window.features for window in windows]).permute(0, 1, 4, 2, 3)
        targets, weights, map_weights = (
            torch.from_numpy(np.stack([getattr(window, name) for window in windows]))
            for name in ("targets", "weights", "map_weights")
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.optimiser.bfloat16):
            found, dense = model.read(seen)
        logits, maps = found.float(), dense[:, :, : len(MAPS)].float()
        shown = torch.stack([window.maps for window in windows])
        loss = window_loss(logits, targets, weights, recipe) + late.window_weight * peak_loss(logits, targets, weights)
        loss = loss + late.map_weight * cell_loss(maps, shown, map_weights, recipe)
        loss = loss * len(numbers) / len(chosen)
        torch.autograd.backward(loss)
        return float(loss.detach())

    loss = workers.step(len(chosen), late.micro, run_pass, [recipe.seed, _STREAM, MASKS, run.step])
    run.advance(recipe.optimiser.clip_norm)
    return loss
