"""Training goes on where it was killed, and ends where an uninterrupted run ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edge_sdk.export.mini.recipe import Stage
from edge_sdk.export.mini.training import Batch, run_stage

STAGE = Stage(steps=12, batch=4, learning_rate=0.05, save_every=5)


class Line(nn.Module):
    """y = w x, with dropout, whose randomness must be the same after a resume; one weight is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.frozen = nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.ones(2), requires_grad=False)

    def forward(self, batch: Batch) -> Tensor:
        given = nn.functional.dropout(batch["x"], 0.3, training=True)
        found: Tensor = ((given @ self.weight * self.frozen - batch["y"]) ** 2).mean()
        return found


def draw(step: int, numbers: Sequence[int]) -> Batch:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(STAGE.batch, 3, generator=generator)[list(numbers)]
    return {"x": x, "y": x[:, :2] * 2}


class Killed(Exception):
    """Stands for a power cut."""


@pytest.mark.parametrize("at", [1, 7, 11])
def test_a_killed_run_ends_where_a_whole_one_does(tmp_path: Path, at: int) -> None:
    whole, resumed = Line(), Line()
    expected = run_stage(whole, STAGE, draw, tmp_path / "whole.pt", 3, "no", lambda *_: None)

    def cut(done: int, total: int, note: str) -> None:
        if done == at:
            raise Killed

    with pytest.raises(Killed):
        run_stage(Line(), STAGE, draw, tmp_path / "cut.pt", 3, "no", cut)
    found = run_stage(resumed, STAGE, draw, tmp_path / "cut.pt", 3, "no", lambda *_: None)
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=0)
    assert found.losses == expected.losses
    assert len(found.losses) == STAGE.steps
    assert whole.weight.abs().min() > 0.01


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    run_stage(Line(), STAGE, draw, tmp_path / "done.pt", 3, "no", lambda *_: None)
    again, steps = Line(), list[int]()
    run_stage(again, STAGE, draw, tmp_path / "done.pt", 3, "no", lambda done, *_: steps.append(done))
    assert not steps
    assert again.weight.abs().sum() > 0
    assert torch.load(tmp_path / "done.pt", weights_only=True)["weights"].keys() == {"weight"}
