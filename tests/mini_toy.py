"""A tiny mini and a line, trained by as many processes as there are: run it under torchrun.

python -m torch.distributed.run --nproc-per-node 2 tests/mini_toy.py FOLDER
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import mini_material
import torch
from torch import Tensor, nn

from edge_sdk.export.mini.course import Course
from edge_sdk.export.mini.recipe import Stage
from edge_sdk.export.mini.training import Batch, leave, processes, run_stage

STAGE = Stage(steps=6, batch=4, learning_rate=0.05)
# Of two processes one has two examples of it, the other one.
UNEVEN = Stage(steps=6, batch=3, learning_rate=0.05)


class Line(nn.Module):
    """y = w x: a mean over examples, so that two halves of a batch teach on average what the whole does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 2))

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        found: Tensor = ((batch["x"] @ self.weight - batch["y"]) ** 2).mean()
        return found


def line(folder: Path, stage: Stage = STAGE) -> tuple[Tensor, list[float]]:
    """The weight of a line after a stage, and the loss of every step."""

    def draw(step: int, numbers: Sequence[int]) -> Batch:
        x = torch.randn(stage.batch, 3, generator=torch.Generator().manual_seed(step))[list(numbers)]
        return {"x": x, "y": x[:, :2] * 2}

    learner = Line()
    record = run_stage(learner, stage, draw, folder / f"line-{stage.batch}.pt", 3, "no", lambda *_: None)
    return learner.weight.detach(), record.losses


def mini(folder: Path) -> dict[str, Tensor]:
    """The weights of a mini with an adapter, after every stage of them."""
    course = Course(mini_material.small_recipe(), mini_material.clips(2), folder / "work", lambda *_: None)
    with processes().main_process_first():
        course.tokenizer.size  # noqa: B018  # trained by the first process, found by the others
    found: dict[str, Tensor] = course.adapter("linguistic").state_dict()
    return found


if __name__ == "__main__":
    place = Path(sys.argv[1])
    weight, losses = line(place)
    uneven, _ = line(place, UNEVEN)
    end = {"line": weight, "losses": losses, "uneven": uneven, "mini": mini(place)}
    leave()
    assert not torch.distributed.is_initialized()
    torch.save(end, place / f"end-{os.environ['RANK']}.pt")
