"""One stage of training, in one process or many: draw, step, checkpoint, and resume where a killed run stopped.

Every example is drawn from the seed, the stage, the step and its number, and torch's own randomness is seeded anew at
each step. So a checkpoint needs no state but weights, optimisers and the number of steps, and a resumed run sees what
an unbroken one would have seen. `accelerate` spreads a step's examples over its processes: under `accelerate launch`
the same command runs on several GPUs or machines.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge_sdk.errors import ConfigError
from edge_sdk.export.gradients import check_finite
from edge_sdk.export.mini.libraries import library
from edge_sdk.export.mini.recipe import Stage
from edge_sdk.export.state_file import save_state

Batch = Mapping[str, Tensor]
# (step, numbers of the step's examples that are this process's own) -> what the learner takes
Draw = Callable[[int, Sequence[int]], Batch]
_PATIENCE = timedelta(days=1)
_REMEDY = (
    'lower the stage\'s learning_rate, or set precision = "no", and run again: a changed stage is trained from the '
    "beginning"
)
# (done, total, note)
Report = Callable[[int, int, str], object]


@dataclass
class Record:
    """The record of a stage: the loss of every step, and its duration."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def recent(self) -> float:
        """Mean loss of the last fifty steps."""
        last = self.losses[-50:]
        return sum(last) / max(len(last), 1)


# Any: accelerate's state of this process among others.
def processes() -> Any:
    """This process among those of the run: `is_main_process`, `num_processes`, `main_process_first()` and the like."""
    # The others wait while the first one renders and decodes, which can exceed torch's default timeout.
    return library("accelerate").PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)


def leave() -> None:
    """Leave the other processes of the run once all of them have called this; nothing is shared afterwards.

    A process that simply ends while torch's threads still talk to the others is aborted.
    """
    found = processes()
    found.wait_for_everyone()
    found.destroy_process_group()


def check_processes(stages: Iterable[Stage], count: int) -> None:
    """Raise `ConfigError` where a stage's batch has fewer examples than there are processes to share it."""
    least = min(stage.batch for stage in stages)
    if count > least:
        raise ConfigError(
            f"expected at most {least} processes, one for each example of the recipe's smallest batch, found {count}; "
            "start fewer, or take a recipe with a larger batch"
        )


def run_stage(
    learner: nn.Module, stage: Stage, draw: Draw, checkpoint: Path, seed: int, precision: str, report: Report
) -> Record:
    """Train the parameters of `learner` that require gradients until `stage.steps`; `learner(batch)` is the loss.

    `checkpoint` is read if it exists, and written every `stage.save_every` steps and at the end. Afterwards the
    learner is on the CPU, wherever it was trained.
    """
    accelerator = library("accelerate").Accelerator(mixed_precision=precision, cpu=not torch.cuda.is_available())
    optimisers = make_optimisers(learner, stage)
    record, begin = Record(), 0
    learner.to(accelerator.device)
    # Moments of weights that have long had no gradient become denormal numbers, which are slow.
    torch.set_flush_denormal(True)
    if checkpoint.is_file():
        begin = _restore(checkpoint, learner, optimisers, record)
    trained, *optimisers = accelerator.prepare(learner, *optimisers)
    share = range(accelerator.process_index, stage.batch, accelerator.num_processes)
    # Gradients are averaged over processes, whose shares may differ by one example.
    weight = len(share) * accelerator.num_processes / stage.batch
    check_together(accelerator, begin, checkpoint.name)
    trained.train()
    since = time.monotonic()
    for step in range(begin, stage.steps):
        torch.manual_seed(hash((seed, step, accelerator.process_index)) % 2**63)
        batch = {name: value.to(accelerator.device) for name, value in draw(step, list(share)).items()}
        loss = trained(batch) * weight
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(trained.parameters(), stage.clip_norm)
        check_finite(norm, step, _REMEDY)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = stage.learning_rate * _share_of_rate(stage, step)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        record.losses.append(float(accelerator.gather(loss.detach().reshape(1)).mean()))
        report(step + 1, stage.steps, f"loss {record.recent:.3f}")
        if (step + 1) % stage.save_every == 0 or step + 1 == stage.steps:
            record.seconds += time.monotonic() - since
            since = time.monotonic()
            if accelerator.is_main_process:
                _save(checkpoint, learner, optimisers, record, step + 1)
            accelerator.wait_for_everyone()
    learner.eval().to("cpu")
    return record


# Any: accelerate has no types.
def check_together(accelerator: Any, begin: int, name: str) -> None:
    """Raise `ConfigError` where processes would not train the same model: they share no work folder, or no clips.

    `begin` is the step that this process would resume from; `name` identifies its recipe, clips and bundles.
    """
    mark = int(hashlib.sha256(name.encode()).hexdigest()[:15], 16)
    begins, marks = accelerator.gather(torch.tensor([[begin, mark]], device=accelerator.device)).T.tolist()
    if len(set(begins)) > 1:
        raise ConfigError(
            f"expected processes that continue from the same step, found {sorted(set(begins))}; all machines of a run "
            "need one work folder that they share"
        )
    if len(set(marks)) > 1:
        raise ConfigError(
            f"expected all processes to do the same training on the same clips, found {len(set(marks))} kinds, "
            f"{name} here; all machines of a run need the same recipe, clips and bundles"
        )


def _share_of_rate(stage: Stage, step: int) -> float:
    warm = max(1.0, stage.warm_up_share * stage.steps)
    past = max(0.0, (step - warm) / max(1.0, stage.steps - warm))
    return min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * past))


def make_optimisers(learner: nn.Module, stage: Stage) -> list[torch.optim.Optimizer]:
    """Make AdamW, after Muon where the stage says so; norms, biases and other vectors have no weight decay."""
    trained = {name: each for name, each in learner.named_parameters() if each.requires_grad}
    inner = {name for name, each in trained.items() if stage.muon and each.ndim == 2 and "layers" in name.split(".")}
    outer = [each for name, each in trained.items() if each.ndim > 1 and name not in inner]
    vectors = [each for each in trained.values() if each.ndim <= 1]
    # Any: torch's own type of a group of parameters.
    kept: list[dict[str, Any]] = [
        {"params": group, **options} for group, options in ((outer, {}), (vectors, {"weight_decay": 0.0})) if group
    ]
    made: list[torch.optim.Optimizer] = []
    if inner:
        matrices = [each for name, each in trained.items() if name in inner]
        made.append(
            torch.optim.Muon(
                matrices, stage.learning_rate, weight_decay=stage.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    if kept:
        made.append(torch.optim.AdamW(kept, stage.learning_rate, betas=(0.9, 0.98), weight_decay=stage.weight_decay))
    return made


def _trained(learner: nn.Module) -> set[str]:
    return {name for name, parameter in learner.named_parameters() if parameter.requires_grad}


# Any: accelerate's wrapper of the optimiser has the optimiser's methods, and no type of its own that says so.
def _save(path: Path, learner: nn.Module, optimisers: Sequence[Any], record: Record, step: int) -> None:
    wanted = _trained(learner)
    state = {
        "weights": {name: value for name, value in learner.state_dict().items() if name in wanted},
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "step": step,
        "losses": record.losses,
        "seconds": record.seconds,
    }
    save_state(path, state)


def _restore(path: Path, learner: nn.Module, optimisers: Sequence[torch.optim.Optimizer], record: Record) -> int:
    # Both load_state_dict calls move what was read to the parameters' device.
    state = torch.load(path, weights_only=True, map_location="cpu")
    wanted = _trained(learner)
    if odd := sorted(wanted ^ state["weights"].keys()):
        raise ConfigError(
            f"{path}: expected the {len(wanted)} weights that this stage trains, found that {len(odd)} are missing or "
            f"unknown, {odd[0]} first; the checkpoint is of another version of the SDK or its libraries: remove it, or "
            "choose another work folder"
        )
    learner.load_state_dict(state["weights"], strict=False)
    for optimiser, kept in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(kept)
    record.losses, record.seconds = state["losses"], state["seconds"]
    step: int = state["step"]
    return step
