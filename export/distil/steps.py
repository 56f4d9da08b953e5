"""One training step on windows of pictures, shared by the stages that train on pictures with `Workers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from edge_sdk.export.distil.losses import label_loss
from edge_sdk.export.distil.recipe import Recipe
from edge_sdk.export.distil.run import Run
from edge_sdk.export.distil.windows import WindowSampler
from edge_sdk.export.distil.workers import Workers
from edge_sdk.export.graphs.masks import MASKS
from edge_sdk.export.graphs.student import Student


def train_step(
    run: Run,
    recipe: Recipe,
    sampler: WindowSampler,
    workers: Workers,
    micro: int,
    # Any: numpy's integer arrays carry their width in the type, and the width does not matter here.
    chosen: np.ndarray[Any, Any],
) -> float:
    """Train on one window from each of the clips `chosen`, `micro` at a time in each worker; returns the loss.

    Windows are drawn from the recipe's seed, the step and their number, and so are dropout masks.
    """

    def run_pass(model: Student, numbers: Sequence[int]) -> float:
        examples = [
            sampler.draw(np.random.default_rng([recipe.seed, run.step, number]), int(chosen[number]))
            for number in numbers
        ]
        batch = {
            name: torch.from_numpy(np.stack([getattr(example, name) for example in examples]))
            for name in ("planes", "targets", "weights", "maps", "map_weights")
        }
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.optimiser.bfloat16):
            logits, maps = model(batch["planes"])
        loss = label_loss(logits.float(), maps.float(), batch, recipe) * len(numbers) / len(chosen)
        torch.autograd.backward(loss)
        return float(loss.detach())

    loss = workers.step(len(chosen), micro, run_pass, [recipe.seed, MASKS, run.step])
    run.advance(recipe.optimiser.clip_norm)
    return loss
