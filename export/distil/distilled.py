"""Training of a student's stages in one process or many, on GPUs or CPUs, with or without a teacher's lessons.

`accelerate` gives each process its rank, device and precision: the same command runs on one CPU and, under `accelerate
launch` or torchrun, on several GPUs or machines. A step's windows are split into groups of `micro`, which are
distributed over the processes; gradients and batch statistics are then summed over all groups. Each group is normalised
by itself, so a step gives the same result for any number of processes, up to the order of float32 sums.

Each window is drawn from the seed, the step and its number. A checkpoint holds all other state, so a killed run resumes
as if it had never stopped.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_sdk.export.distil.curves import draw_curves
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.evaluate import measure, score_clip
from edge_sdk.export.distil.losses import label_loss
from edge_sdk.export.distil.recipe import Recipe, Stage, Teacher
from edge_sdk.export.distil.run import Run
from edge_sdk.export.distil.teacher_losses import teacher_loss
from edge_sdk.export.distil.teacher_targets import Lessons
from edge_sdk.export.distil.windows import Example, WindowSampler
from edge_sdk.export.graphs.masks import MASKS, masks_of
from edge_sdk.export.graphs.student import Student
from edge_sdk.export.mini.libraries import library
from edge_sdk.export.mini.training import check_together
from edge_sdk.export.state_file import save_state

Progress = Callable[[int, int, str], object]
# Validation clips scored after an epoch; after a stage's last epoch all are scored.
QUICK_VALIDATION = 60
_BATCH = ("planes", "targets", "weights", "maps", "map_weights")


class Telling(nn.Module):
    """A student with a layer over its last memory that predicts the teacher's features, used in training only."""

    def __init__(self, student: Student, width: int) -> None:
        super().__init__()
        self.student = student
        self.tell = nn.Linear(student.shape.features, width)
        self._features: Tensor | None = None
        self._hook = student.memory[-1].register_forward_hook(self._keep)

    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the student's logits, its maps, and the predicted teacher features, float32 `[n, t, width]`."""
        logits, maps = self.student(planes)
        kept, self._features = self._features, None
        if kept is None:
            raise RuntimeError("the student's last memory was not run")
        return logits.float(), maps.float(), self.tell(kept.transpose(1, 2)).float()

    def release(self) -> None:
        """Remove the hook from the student."""
        self._hook.remove()

    def _keep(self, _layer: nn.Module, _given: Any, found: Tensor) -> None:
        self._features = found


class Distillation:
    """One run of `recipe.stages` and its progress; `losses` has one value per step."""

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        teacher: Teacher,
        clips: Sequence[CachedClip],
        lessons: Lessons | None,
        path: Path,
    ) -> None:
        """Prepare the run; it resumes from the checkpoint `path` if any. Without `lessons` only labels are used."""
        precision = "bf16" if recipe.optimiser.bfloat16 else "no"
        self._accelerator = library("accelerate").Accelerator(
            mixed_precision=precision, cpu=not torch.cuda.is_available()
        )
        self._run, self._recipe, self._teacher, self._clips, self._lessons = run, recipe, teacher, clips, lessons
        self._path = path
        self.losses: list[float] = []
        torch.manual_seed(recipe.seed)
        self._telling = Telling(run.model, 1 if lessons is None else lessons.width)
        self._teller = torch.optim.AdamW(self._telling.tell.parameters(), weight_decay=recipe.optimiser.weight_decay)
        self._plan = [stage for stage in recipe.stages for _ in range(stage.epochs)]
        self._steps = [max(1, len(clips) // stage.windows) for stage in self._plan]
        self._telling.to(self._accelerator.device)
        run.average.to(self._accelerator.device)
        self._restore()

    def train(self, held_out: Sequence[CachedClip], report: Progress) -> bool:
        """Train to the end, and leave the student in the run, on the CPU; returns whether this is the main process."""
        sampler: WindowSampler | None = None
        for epoch in range(len(self._run.losses), len(self._plan)):
            stage = self._plan[epoch]
            if sampler is None or stage != self._plan[epoch - 1]:
                sampler = WindowSampler(self._clips, self._recipe, stage.height, stage.width)
            self._epoch(epoch, sampler, report)
            if self._accelerator.is_main_process:
                self._validate(epoch, held_out, report)
            else:
                self._run.metrics.append(None)
            self._save()
        self._telling.release()
        self._telling.to("cpu")
        self._run.average.to("cpu")
        return bool(self._accelerator.is_main_process)

    def _epoch(self, epoch: int, sampler: WindowSampler, report: Progress) -> None:
        stage, before = self._plan[epoch], sum(self._steps[:epoch])
        order = np.random.default_rng([self._recipe.seed, epoch]).permutation(sampler.clips)
        self._run.model.train()
        for index in range(self._run.step - before, self._steps[epoch]):
            chosen = order[index * stage.windows : (index + 1) * stage.windows]
            self.losses.append(self._step(sampler, stage, [int(number) for number in chosen]))
            recent = sum(self.losses[before:]) / (index + 1)
            report(self._run.step, sum(self._steps), f"epoch {epoch + 1}/{len(self._plan)} loss {recent:.4f}")
            if self._run.step % self._teacher.save_every == 0:
                self._save()
        self._run.losses.append(sum(self.losses[before:]) / self._steps[epoch])

    def _step(self, sampler: WindowSampler, stage: Stage, chosen: Sequence[int]) -> float:
        """Take a step on windows that end in the clips `chosen`; returns the loss over all processes."""
        optimiser = self._recipe.optimiser
        for each in (self._run.optimiser, self._teller):
            self._run.set_rate(optimiser.learning_rate, optimiser.warm_up_share, sum(self._steps), each)
        groups = [range(first, min(first + stage.micro, len(chosen))) for first in range(0, len(chosen), stage.micro)]
        statistics = _Statistics(self._run.model)
        loss = torch.zeros((), device=self._accelerator.device)
        for group in groups[self._accelerator.process_index :: self._accelerator.num_processes]:
            share = len(group) / len(chosen)
            statistics.rewind()
            loss += self._group(sampler, chosen, group) * share
            statistics.add(share)
        loss = self._together(loss, statistics)
        torch.nn.utils.clip_grad_norm_(self._telling.tell.parameters(), optimiser.clip_norm)
        self._teller.step()
        self._teller.zero_grad()
        self._run.advance(optimiser.clip_norm)
        return float(loss)

    def _group(self, sampler: WindowSampler, chosen: Sequence[int], group: range) -> Tensor:
        seed, step = self._recipe.seed, self._run.step
        examples = [sampler.draw(np.random.default_rng([seed, step, number]), chosen[number]) for number in group]
        batch = {name: value.to(self._accelerator.device) for name, value in self._batch(examples).items()}
        with self._accelerator.autocast(), masks_of(self._run.model, [seed, MASKS, step, group[0]]):
            logits, maps, told = self._telling(batch["planes"])
        loss = label_loss(logits.float(), maps.float(), batch, self._recipe, self._least(examples))
        if self._lessons is not None:
            told_of = told.float() if self._teacher.feature_weight else None
            loss = loss + teacher_loss(logits.float(), told_of, batch, self._teacher)
        self._accelerator.backward(loss * len(group) / len(chosen))
        return loss.detach()

    def _least(self, examples: Sequence[Example]) -> float:
        """The least number of frames to average a label loss over: a window's if any of its clips has no labels."""
        shown = np.unique(np.concatenate([each.origins[:, 0] for each in examples]))
        whole = all(self._clips[number].label.labelled for number in shown)
        return 1.0 if whole else float(len(examples[0].origins))

    def _batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        labels = {name: torch.from_numpy(np.stack([getattr(each, name) for each in examples])) for name in _BATCH}
        return labels | (self._lessons.batch([each.origins for each in examples]) if self._lessons else {})

    def _together(self, loss: Tensor, statistics: _Statistics) -> Tensor:
        """Sum the loss, the gradients and the batch statistics over the processes, in one message."""
        parameters = [each for each in self._telling.parameters() if each.requires_grad]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        tensors = [loss, *(each.grad for each in parameters if each.grad is not None), *statistics.summed]
        flat = self._accelerator.reduce(torch.cat([each.float().flatten() for each in tensors]), reduction="sum")
        for each, part in zip(tensors, flat.split([each.numel() for each in tensors]), strict=True):
            each.copy_(part.view_as(each))
        statistics.apply()
        return loss

    def _validate(self, epoch: int, held_out: Sequence[CachedClip], report: Progress) -> None:
        stage = self._plan[epoch]
        last = epoch + 1 == len(self._plan) or self._plan[epoch + 1] != stage
        quick = held_out if last else held_out[:QUICK_VALIDATION]
        model = copy.deepcopy(self._run.averaged()).cpu()
        scores = [score_clip(model, clip, self._recipe, stage.height, stage.width) for clip in quick]
        self._run.metrics.append(measure(scores, quick, self._recipe))
        report(self._run.step, sum(self._steps), self._run.note())
        draw_curves(self._path.with_name("curves.png"), self._run.losses, self._run.metrics)

    def _save(self) -> None:
        """Write the checkpoint; every process waits until it is written."""
        if self._accelerator.is_main_process:
            state = {
                "run": self._run.state(),
                "tell": self._telling.tell.state_dict(),
                "teller": self._teller.state_dict(),
                "losses": self.losses,
            }
            save_state(self._path, state)
        self._accelerator.wait_for_everyone()

    def _restore(self) -> None:
        if self._path.is_file():
            # Loading copies to each tensor's device; torch cannot map to a process's own device such as "cpu:1".
            state = torch.load(self._path, weights_only=True, map_location="cpu")
            self._run.load(state["run"])
            self._telling.tell.load_state_dict(state["tell"])
            self._teller.load_state_dict(state["teller"])
            self.losses = state["losses"]
        check_together(self._accelerator, self._run.step, self._path.name)


class _Statistics:
    """Running batch statistics of a step: each group starts from those before the step, then all are averaged."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self._before = [buffer.clone() for buffer in self._buffers]
        self.summed = [torch.zeros_like(buffer) for buffer in self._buffers]

    def rewind(self) -> None:
        """Restore the statistics from before the step; call before a group."""
        self._set(self._before)

    def add(self, share: float) -> None:
        """Add the statistics of a group that makes up `share` of the step; call after it."""
        for total, buffer in zip(self.summed, self._buffers, strict=True):
            total += share * buffer

    def apply(self) -> None:
        """Set the mean over all groups; call after the step."""
        self._set(self.summed)

    def _set(self, values: Sequence[Tensor]) -> None:
        for buffer, value in zip(self._buffers, values, strict=True):
            buffer.copy_(value)
