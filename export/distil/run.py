"""The state of a training run: weights, their running average, the optimiser, and the record of epochs."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edge_sdk.export.distil.evaluate import Metrics
from edge_sdk.export.distil.recipe import Recipe
from edge_sdk.export.gradients import check_finite
from edge_sdk.export.graphs.student import Student
from edge_sdk.export.state_file import save_state

_REMEDY = (
    "lower the recipe's learning_rate, or turn off its bfloat16, and run again: a changed recipe is trained from the "
    "beginning"
)


@dataclass
class Run:
    """A training run; a checkpoint holds all of its fields."""

    model: Student
    average: AveragedModel
    optimiser: torch.optim.AdamW
    step: int = 0
    losses: list[float] = field(default_factory=list)
    metrics: list[Metrics | None] = field(default_factory=list)

    def set_rate(
        self, learning_rate: float, warm_up_share: float, total: int, optimiser: torch.optim.AdamW | None = None
    ) -> None:
        """Set the rate, by default in this run's optimiser: linear warm-up, then half a cosine to zero at `total`."""
        warm = max(1.0, warm_up_share * total)
        past = max(0.0, (self.step - warm) / max(1.0, total - warm))
        share = min(1.0, (self.step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * past))
        for group in (optimiser or self.optimiser).param_groups:
            group["lr"] = learning_rate * share

    def advance(self, clip_norm: float) -> None:
        """Take one optimiser step along the gradients in the model.

        Raises `RuntimeFailure`, before any weight changes, for gradients that are not finite: no checkpoint must hold
        the resulting weights.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip_norm)
        check_finite(norm, self.step, _REMEDY)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.average.update_parameters(self.model)
        self.step += 1

    def averaged(self) -> Student:
        """The student with the averaged weights, in evaluation mode."""
        model = self.average.module
        if not isinstance(model, Student):
            raise TypeError("the averaged module is the student it was made from")
        return model.eval()

    @property
    def digest(self) -> str:
        """SHA-256 of the averaged weights and statistics."""
        found = hashlib.sha256()
        for name, value in sorted(self.averaged().state_dict().items()):
            found.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return found.hexdigest()

    def note(self) -> str:
        """Describe the last epoch in words."""
        found = self.metrics[-1]
        if found is None:
            return f"loss {self.losses[-1]:.4f}"
        return (
            f"epoch {len(self.losses)} loss {self.losses[-1]:.4f} clip AP {found.clip_ap:.3f} best F1 "
            f"{found.best_f1:.3f} frame AUC {found.frame_auc:.3f} start error {found.start_mae_s:.2f} s"
        )

    # Any: what torch saves.
    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint must hold."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "losses": self.losses,
            "metrics": [msgspec.to_builtins(found) for found in self.metrics],
        }

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        save_state(path, self.state())

    def restore(self, path: Path) -> None:
        """Resume from a checkpoint, if there is one."""
        if path.is_file():
            self.load(torch.load(path, weights_only=True))

    def load(self, state: dict[str, Any]) -> None:
        """Resume from what `state` returned."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.losses = state["step"], state["losses"]
        self.metrics = msgspec.convert(state["metrics"], list[Metrics | None])


def begin(model: Student, recipe: Recipe, average: float | None = None) -> Run:
    """Create a run at step 0. `average` is the decay of the averaged weights, the recipe's own if None.

    The decay at step n is at most (1 + n) / (10 + n), as in TensorFlow's `ExponentialMovingAverage`. Otherwise, in a
    run of a few dozen steps, the first weights would make up half of the average.
    """
    decay = recipe.optimiser.average if average is None else average
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    kept = AveragedModel(model, multi_avg_fn=_warming(decay), use_buffers=True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, weight_decay=recipe.optimiser.weight_decay)
    return Run(model, kept, optimiser)


# Any: lists of tensors in torch's own signature.
def _warming(decay: float) -> Any:
    def average(kept: Any, found: Any, steps: Tensor | int) -> None:
        # Copying the first weights counted as a step.
        done = int(steps)
        get_ema_multi_avg_fn(min(decay, (1 + done) / (10 + done)))(kept, found, steps)

    return average
