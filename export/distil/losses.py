"""Losses of a student against labels: scores, the peak of a window, the maps of the grid and the motion there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from edge_sdk.export.distil.recipe import PEAK_FRAMES, Recipe
from edge_sdk.export.distil.targets import ACTORS, CRASH, FLOW

# Units of motion per unit of its loss: about two pixels at full size.
FLOW_SCALE = 4.0


def label_loss(logits: Tensor, maps: Tensor, batch: Mapping[str, Tensor], recipe: Recipe, least: float = 1.0) -> Tensor:
    """The loss of a batch of windows against labels: its scores, the maps of the grid, and the peak of each window.

    Scores are averaged over the frames that count, but over no fewer than `least`: a few labelled frames among many
    unlabelled ones must not weigh as much as whole windows.
    """
    loss = window_loss(logits, batch["targets"], batch["weights"], recipe, least)
    loss = loss + map_loss(maps, batch["maps"], batch["map_weights"], recipe)
    return loss + recipe.loss.window_weight * peak_loss(logits, batch["targets"], batch["weights"])


def window_loss(logits: Tensor, targets: Tensor, weights: Tensor, recipe: Recipe, least: float = 1.0) -> Tensor:
    """Binary cross-entropy of logits `[n, time, 4]`, averaged over the frames that count, weighted and summed."""
    positive = logits.new_tensor(recipe.loss.positive)
    each = functional.binary_cross_entropy_with_logits(logits, targets, weights, pos_weight=positive, reduction="none")
    mean = each.sum((0, 1)) / weights.sum((0, 1)).clamp(min=least)
    return (mean * logits.new_tensor(recipe.loss.weights)).sum()


def peak_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy of each window's highest crash logits against whether the window shows a crash.

    The highest scores raise an alarm, so a near miss must not have them. The mean is over all windows; a window that
    shows only a moment of a crash, or whose label does not say, adds no loss.
    """
    known = torch.where(weights[..., CRASH] > 0, logits[..., CRASH], -torch.inf)
    peak = known.topk(PEAK_FRAMES, dim=1).values.mean(1)
    crashing = ((targets[..., CRASH] > 0.5) & (weights[..., CRASH] > 0)).sum(1)
    clear = ((crashing == 0) | (crashing >= PEAK_FRAMES)) & peak.isfinite()
    truth = (crashing[clear] > 0).float()
    return functional.binary_cross_entropy_with_logits(peak[clear], truth, reduction="sum") / len(clear)


def map_loss(found: Tensor, targets: Tensor, weights: Tensor, recipe: Recipe) -> Tensor:
    """The loss of maps and motion `[n, time, 5, rows, cols]`, averaged over cells and all frames.

    `targets` `[n, time, 6, rows, cols]` are those of `frame_maps`. `weights` `[n, time]` are 0 for frames without
    boxes: they add no loss but count in the mean, so that a few frames with boxes do not weigh as much as whole
    windows. Maps are judged as in `window_loss`. Motion, in units of `FLOW_SCALE`, has a Huber loss where a vehicle is
    (Huber 1964, threshold 1).
    """
    vehicles = (targets[:, :, :1] > 0.5) * _shares(targets, recipe)
    distance = functional.smooth_l1_loss(found[:, :, ACTORS:], targets[:, :, FLOW] / FLOW_SCALE, reduction="none")
    moved = (distance * vehicles).sum((2, 3, 4)) / vehicles.sum((2, 3, 4)).clamp(min=1.0)
    flow = (moved * weights).mean()
    return cell_loss(found[:, :, :ACTORS], targets, weights, recipe) + recipe.loss.flow_weight * flow


def cell_loss(maps: Tensor, targets: Tensor, weights: Tensor, recipe: Recipe) -> Tensor:
    """The part of `map_loss` that judges the maps `[n, time, 3, rows, cols]`; it uses the first four targets."""
    positive = maps.new_tensor(recipe.loss.map_positive)[:, None, None]
    each = functional.binary_cross_entropy_with_logits(
        maps, targets[:, :, :ACTORS], pos_weight=positive, reduction="none"
    )
    shares = _shares(targets, recipe)
    mean = ((each * shares).mean((3, 4)) / shares.mean((3, 4)) * weights[..., None]).mean((0, 1))
    return (mean * maps.new_tensor(recipe.loss.map_weights)).sum()


def _shares(targets: Tensor, recipe: Recipe) -> Tensor:
    """How much each cell counts, `[n, time, 1, rows, cols]`."""
    return 1 + (recipe.loss.actor_cells - 1) * targets[:, :, ACTORS : ACTORS + 1]
