"""Trains a student on labelled clips and writes its bundle.

The run can be interrupted at any time: a checkpoint is written after every epoch, and every window is drawn from the
seed, the step and its number, so a resumed run continues with the windows it would have seen.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.curves import draw_curves
from edge_sdk.export.distil.data import CachedClip, load_clips
from edge_sdk.export.distil.evaluate import Metrics, measure, score_clip
from edge_sdk.export.distil.recipe import Recipe, Stage
from edge_sdk.export.distil.targets import ACTORS, CRASH, FLOW
from edge_sdk.export.distil.windows import WindowSampler
from edge_sdk.export.distil.workers import Workers
from edge_sdk.export.graphs.student import Student
from edge_sdk.export.student_bundle import write_student_bundle
from edge_sdk.files import atomic_path, write_text

# (done, total, note)
Progress = Callable[[int, int, str], object]
WORKERS = 2
# Validation clips scored after an epoch; all of them after the last one.
QUICK_VALIDATION = 60
# Frames whose mean is a window's peak: the longest confirmation of an alarm.
PEAK_FRAMES = 5
# Units of motion in one unit of its loss: some two pixels at full size.
FLOW_SCALE = 4.0


@dataclass
class Run:
    """What changes while training, and what a checkpoint holds."""

    model: Student
    average: AveragedModel
    optimiser: torch.optim.AdamW
    step: int = 0
    losses: list[float] = field(default_factory=list)
    metrics: list[Metrics | None] = field(default_factory=list)


def train(
    recipe: Recipe,
    recipe_text: str,
    clips: Sequence[LabelledClip],
    validation: Sequence[LabelledClip],
    out: Path,
    work: Path,
    on_progress: Progress | None = None,
) -> Path:
    """Train by `recipe` and write the bundle to `out`; caches, checkpoints and curves go to `work`. Returns `out`.

    Raises `ConfigError` when there are no clips on a side or `out` exists.
    """
    if not clips or not validation:
        raise ConfigError(f"expected clips on both sides, found {len(clips)} to train on and {len(validation)} to test")
    report = on_progress or _silent
    training_clips = load_clips(clips, work, recipe.pictures, lambda done, all_: report(done, all_, "decode, training"))
    held_out = load_clips(validation, work, recipe.pictures, lambda done, all_: report(done, all_, "decode, held out"))
    run = _begin(recipe)
    checkpoint = work / f"checkpoint-{_digest(recipe_text, clips)}.pt"
    _restore(run, checkpoint)
    _train(run, recipe, training_clips, held_out, checkpoint, report)
    model = _averaged(run)
    scores = [score_clip(model, clip, recipe, recipe.pictures.height, recipe.pictures.width) for clip in held_out]
    metrics = measure(scores, held_out, recipe)
    write_text(work / "metrics.json", msgspec.json.format(msgspec.json.encode(metrics), indent=1).decode() + "\n")
    provenance = {
        "recipe": recipe_text,
        "clips_sha256": _digest(recipe_text, clips),
        "training_clips": len(clips),
        "losses": [round(loss, 5) for loss in run.losses],
        "validation": msgspec.to_builtins(metrics),
        "torch": str(torch.__version__),
    }
    write_student_bundle(out, model, recipe, provenance)
    return out


def _begin(recipe: Recipe) -> Run:
    torch.manual_seed(recipe.seed)
    model = Student(recipe.shape).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.optimiser.average), use_buffers=True)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=recipe.optimiser.weight_decay)
    return Run(model, average, optimiser)


def _train(
    run: Run,
    recipe: Recipe,
    clips: Sequence[CachedClip],
    held_out: Sequence[CachedClip],
    checkpoint: Path,
    report: Progress,
) -> None:
    plan = [stage for stage in recipe.stages for _ in range(stage.epochs)]
    steps = [_steps(clips, recipe, stage) for stage in plan]
    sampler: WindowSampler | None = None
    with Workers(run.model, WORKERS) as workers:
        for epoch in range(len(run.losses), len(plan)):
            if sampler is None or plan[epoch] != plan[epoch - 1]:
                sampler = WindowSampler(clips, recipe, plan[epoch].height, plan[epoch].width)
            run.losses.append(_epoch(run, recipe, sampler, workers, plan[epoch], (epoch, steps), report))
            last = epoch + 1 == len(plan) or plan[epoch + 1] != plan[epoch]
            quick = held_out if last else held_out[:QUICK_VALIDATION]
            model = _averaged(run)
            scores = [score_clip(model, clip, recipe, plan[epoch].height, plan[epoch].width) for clip in quick]
            run.metrics.append(measure(scores, quick, recipe))
            report(sum(steps[: epoch + 1]), sum(steps), _note(run))
            _save(run, checkpoint)
            draw_curves(checkpoint.with_name("curves.png"), run.losses, run.metrics)


def _steps(clips: Sequence[CachedClip], recipe: Recipe, stage: Stage) -> int:
    """Steps of an epoch: each clip ends one window, so a frame is seen about once."""
    return max(1, len(clips) // stage.windows)


def _epoch(
    run: Run,
    recipe: Recipe,
    sampler: WindowSampler,
    workers: Workers,
    stage: Stage,
    position: tuple[int, list[int]],
    report: Progress,
) -> float:
    epoch, steps = position
    order = np.random.default_rng([recipe.seed, epoch]).permutation(sampler.clips)
    run.model.train()
    total = 0.0
    for index in range(steps[epoch]):
        chosen = order[index * stage.windows : (index + 1) * stage.windows]
        _set_rate(run, recipe, sum(steps))
        total += _step(run, recipe, sampler, workers, stage, chosen)
        run.step += 1
        report(run.step, sum(steps), f"epoch {epoch + 1}/{len(steps)} loss {total / (index + 1):.4f}")
    return total / steps[epoch]


def _step(
    run: Run,
    recipe: Recipe,
    sampler: WindowSampler,
    workers: Workers,
    stage: Stage,
    # Any: numpy's integer arrays carry their width in the type, and the width does not matter here.
    chosen: np.ndarray[Any, Any],
) -> float:
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
        loss = window_loss(logits.float(), batch["targets"], batch["weights"], recipe)
        loss = loss + map_loss(maps.float(), batch["maps"], batch["map_weights"], recipe)
        loss = loss + recipe.loss.window_weight * peak_loss(logits.float(), batch["targets"], batch["weights"])
        loss = loss * len(numbers) / len(chosen)
        torch.autograd.backward(loss)
        return float(loss.detach())

    loss = workers.step(len(chosen), stage.micro, run_pass)
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), recipe.optimiser.clip_norm)
    run.optimiser.step()
    run.optimiser.zero_grad()
    run.average.update_parameters(run.model)
    return loss


def window_loss(logits: Tensor, targets: Tensor, weights: Tensor, recipe: Recipe) -> Tensor:
    """Binary cross-entropy of logits `[n, time, 4]`, averaged over the frames that count, weighted over scores."""
    positive = logits.new_tensor(recipe.loss.positive)
    each = functional.binary_cross_entropy_with_logits(logits, targets, weights, pos_weight=positive, reduction="none")
    mean = each.sum((0, 1)) / weights.sum((0, 1)).clamp(min=1.0)
    return (mean * logits.new_tensor(recipe.loss.weights)).sum()


def peak_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy of each window's highest crash logits against whether the window shows a crash.

    An alarm is raised by the highest scores, so they are what a near miss must not have. Windows that show only a
    moment of a crash, or whose label does not say, count for nothing.
    """
    known = torch.where(weights[..., CRASH] > 0, logits[..., CRASH], -torch.inf)
    peak = known.topk(PEAK_FRAMES, dim=1).values.mean(1)
    crashing = (targets[..., CRASH] > 0.5).sum(1)
    clear = ((crashing == 0) | (crashing >= PEAK_FRAMES)) & peak.isfinite()
    if not clear.any():
        return logits.new_zeros(())
    return functional.binary_cross_entropy_with_logits(peak[clear], (crashing[clear] > 0).float())


def map_loss(found: Tensor, targets: Tensor, weights: Tensor, recipe: Recipe) -> Tensor:
    """The loss of maps and motion `[n, time, 5, rows, cols]`, averaged over cells and frames.

    `targets` `[n, time, 6, rows, cols]` are those of `frame_maps`; `weights` are `[n, time]`. Maps are judged as in
    `window_loss`; motion, in `FLOW_SCALE` units, by its distance where a vehicle is (Huber 1964, threshold 1).
    """
    settings = recipe.loss
    truth, actors = targets[:, :, :ACTORS], targets[:, :, ACTORS : ACTORS + 1]
    positive = found.new_tensor(settings.map_positive)[:, None, None]
    each = functional.binary_cross_entropy_with_logits(
        found[:, :, :ACTORS], truth, pos_weight=positive, reduction="none"
    )
    shares = 1 + (settings.actor_cells - 1) * actors
    mean = _frame_mean((each * shares).mean((3, 4)) / shares.mean((3, 4)), weights)
    vehicles = (truth[:, :, :1] > 0.5) * shares
    distance = functional.smooth_l1_loss(found[:, :, ACTORS:], targets[:, :, FLOW] / FLOW_SCALE, reduction="none")
    moved = (distance * vehicles).sum((2, 3, 4)) / vehicles.sum((2, 3, 4)).clamp(min=1.0)
    flow = (moved * weights).sum() / weights.sum().clamp(min=1.0)
    return (mean * found.new_tensor(settings.map_weights)).sum() + settings.flow_weight * flow


def _frame_mean(each: Tensor, weights: Tensor) -> Tensor:
    """Mean of `[n, time, k]` over frames with weights `[n, time]`: `[k]`."""
    return (each * weights[..., None]).sum((0, 1)) / weights.sum().clamp(min=1.0)


def _set_rate(run: Run, recipe: Recipe, total: int) -> None:
    """Linear warm-up, then half a cosine to zero."""
    settings = recipe.optimiser
    warm = max(1.0, settings.warm_up_share * total)
    past = max(0.0, (run.step - warm) / max(1.0, total - warm))
    share = min(1.0, (run.step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * past))
    for group in run.optimiser.param_groups:
        group["lr"] = settings.learning_rate * share


def _averaged(run: Run) -> Student:
    model = run.average.module
    if not isinstance(model, Student):
        raise TypeError("the averaged module is the student it was made from")
    return model.eval()


def _note(run: Run) -> str:
    found = run.metrics[-1]
    if found is None:
        return f"loss {run.losses[-1]:.4f}"
    return (
        f"epoch {len(run.losses)} loss {run.losses[-1]:.4f} clip AP {found.clip_ap:.3f} best F1 {found.best_f1:.3f} "
        f"frame AUC {found.frame_auc:.3f} start error {found.start_mae_s:.2f} s"
    )


def _save(run: Run, path: Path) -> None:
    state = {
        "model": run.model.state_dict(),
        "average": run.average.state_dict(),
        "optimiser": run.optimiser.state_dict(),
        "step": run.step,
        "losses": run.losses,
        "metrics": [msgspec.to_builtins(found) for found in run.metrics],
    }
    with atomic_path(path) as stage:
        torch.save(state, stage)


def _restore(run: Run, path: Path) -> None:
    if not path.is_file():
        return
    state = torch.load(path, weights_only=True)
    run.model.load_state_dict(state["model"])
    run.average.load_state_dict(state["average"])
    run.optimiser.load_state_dict(state["optimiser"])
    run.step, run.losses = state["step"], state["losses"]
    run.metrics = msgspec.convert(state["metrics"], list[Metrics | None])


def _digest(recipe_text: str, clips: Sequence[LabelledClip]) -> str:
    """Of the recipe and the labels with their clips' names: what a checkpoint may be resumed for."""
    rows = [f"{clip.path.name} {clip.crash} {clip.start_s} {clip.end_s} {clip.pre_crash_s}" for clip in clips]
    return hashlib.sha256("\n".join([recipe_text, *rows]).encode()).hexdigest()[:16]


def _silent(done: int, total: int, note: str) -> None:
    """Nobody wants to know."""
