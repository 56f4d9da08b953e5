"""The last stage of a training run: the finished student keeps learning, mostly from the kinds of clip it gets wrong.

Normalisations are folded, so a step costs less and does not depend on the statistics of a small batch. The learning
rate is constant and falls only in the last part (Zhai et al. 2022, Hu et al. 2024). A recipe with another number of
steps is another run, with its own checkpoint.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.evaluate import measure, score_clip
from edge_sdk.export.distil.focus import FocusSampler, drawn, shares
from edge_sdk.export.distil.recipe import Onward, Recipe
from edge_sdk.export.distil.run import Run, begin
from edge_sdk.export.distil.steps import train_step
from edge_sdk.export.distil.workers import WORKERS, Workers
from edge_sdk.export.graphs.student import Student

Progress = Callable[[int, int, str], object]
# Validation clips scored at the end; the caller scores all of them.
QUICK_VALIDATION = 60
# Steps between two checkpoints.
SAVE_EVERY = 60


def train_onward(
    before: Run | None,
    student: Student,
    recipe: Recipe,
    onward: Onward,
    clips: Sequence[CachedClip],
    held_out: Sequence[CachedClip],
    checkpoint: Path,
    report: Progress,
) -> Run:
    """Train `student` by `onward`, and resume from `checkpoint` if it exists.

    Returns a run with the losses and metrics of `before`, and one more of each for this stage.
    """
    change = msgspec.structs.replace
    recipe = change(
        recipe,
        windows=change(recipe.windows, frames=onward.focus.frames, splice_share=onward.focus.splice_share),
        # A student from a bundle has no motion layer, and the gradients of a new one would disturb the grid.
        loss=change(recipe.loss, flow_weight=0.0, window_weight=onward.window_weight),
    )
    run = begin(onward_student(student, onward), recipe, onward.average)
    run.restore(checkpoint)
    sampler, weights = FocusSampler(clips, recipe, onward.focus), shares(clips, onward.focus)
    # A round shows half of the clips; those of greater weight appear in more than every other round.
    round_steps = max(1, len(clips) // onward.windows // 2)
    run.model.train()
    with Workers(run.model, WORKERS) as workers:
        while run.step < onward.steps:
            turn, index = divmod(run.step, round_steps)
            chosen = drawn(np.random.default_rng([recipe.seed, turn]), weights, round_steps * onward.windows)
            chosen = chosen[index * onward.windows : (index + 1) * onward.windows]
            _set_rate(run, onward)
            # One loss per step until the end, so that a checkpoint holds them.
            run.losses.append(train_step(run, recipe, sampler, workers, onward.micro, chosen))
            recent = run.losses[-50:]
            report(run.step, onward.steps, f"onward loss {sum(recent) / len(recent):.4f}")
            if run.step % SAVE_EVERY == 0 or run.step == onward.steps:
                run.save(checkpoint)
    run.losses = [*(before.losses if before else []), sum(run.losses) / max(1, len(run.losses))]
    quick, size = held_out[:QUICK_VALIDATION], (recipe.pictures.height, recipe.pictures.width)
    scores = [score_clip(run.averaged(), clip, recipe, *size) for clip in quick]
    run.metrics = [*(before.metrics if before else []), measure(scores, quick, recipe)]
    return run


def onward_student(student: Student, onward: Onward) -> Student:
    """Copy `student`, fold its normalisations, take the views of `onward`, and freeze its first layers."""
    folded = copy.deepcopy(student).fuse()
    model = Student(msgspec.structs.replace(folded.shape, views=onward.views)).fuse()
    model.load_state_dict(folded.state_dict())
    model.picture[: onward.frozen].requires_grad_(False)
    return model.drop(*onward.dropout)


def _set_rate(run: Run, onward: Onward) -> None:
    """Set the learning rate: linear warm-up, a constant rate, and a linear fall to zero."""
    rise = min(1.0, (run.step + 1) / max(1, onward.warm_up_steps))
    fall = min(1.0, (onward.steps - run.step) / (onward.decay_share * onward.steps))
    for group in run.optimiser.param_groups:
        group["lr"] = onward.learning_rate * rise * fall
