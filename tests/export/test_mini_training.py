"""Training goes on where it was killed, and ends where an uninterrupted run ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import mini_toy
import msgspec
import pytest
import torch
from torch import Tensor, nn

from edge_sdk.errors import ConfigError, RuntimeFailure
from edge_sdk.export.mini import language
from edge_sdk.export.mini.recipe import Stage, load_recipe
from edge_sdk.export.mini.training import Batch, check_processes, make_optimisers, run_stage

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


class Layered(nn.Module):
    """A matrix that Muon learns, between vectors and a matrix that AdamW does."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(3, 3)])
        self.head = nn.Linear(3, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, batch: Batch) -> Tensor:
        found: Tensor = ((self.head(self.layers[0](batch["x"])) - batch["y"]) ** 2).mean()
        return found


class Killed(Exception):
    """Stands for a power cut."""


@pytest.mark.parametrize("made", [Line, Layered])
@pytest.mark.parametrize("at", [1, 7, 11])
def test_a_killed_run_ends_where_a_whole_one_does(tmp_path: Path, at: int, made: type[Line | Layered]) -> None:
    whole, resumed = made(), made()
    stage = msgspec.structs.replace(STAGE, muon=made is Layered)
    expected = run_stage(whole, stage, draw, tmp_path / "whole.pt", 3, "no", lambda *_: None)

    def cut(done: int, total: int, note: str) -> None:
        if done == at:
            raise Killed

    with pytest.raises(Killed):
        run_stage(made(), stage, draw, tmp_path / "cut.pt", 3, "no", cut)
    found = run_stage(resumed, stage, draw, tmp_path / "cut.pt", 3, "no", lambda *_: None)
    for name, weight in whole.named_parameters():
        torch.testing.assert_close(resumed.get_parameter(name), weight, rtol=0, atol=0)
    assert found.losses == expected.losses
    assert len(found.losses) == STAGE.steps
    fresh = made()
    with torch.no_grad():
        assert any((weight - fresh.get_parameter(name)).abs().max() > 0.1 for name, weight in whole.named_parameters())


def test_muon_learns_the_layers_alone() -> None:
    learner = Layered()
    muon, adamw = make_optimisers(learner, msgspec.structs.replace(STAGE, muon=True))
    inside = {id(each) for group in muon.param_groups for each in group["params"]}
    assert inside == {id(learner.layers[0].weight)}
    assert sum(len(group["params"]) for group in adamw.param_groups) == 3
    assert [type(each).__name__ for each in make_optimisers(learner, STAGE)] == ["AdamW"]


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    run_stage(Line(), STAGE, draw, tmp_path / "done.pt", 3, "no", lambda *_: None)
    again, steps = Line(), list[int]()
    run_stage(again, STAGE, draw, tmp_path / "done.pt", 3, "no", lambda done, *_: steps.append(done))
    assert not steps
    assert again.weight.abs().sum() > 0
    assert torch.load(tmp_path / "done.pt", weights_only=True)["weights"].keys() == {"weight"}


def test_gradients_that_are_not_finite_end_a_stage_and_leave_its_checkpoint(tmp_path: Path) -> None:
    def broken(step: int, numbers: Sequence[int]) -> Batch:
        return {name: value * (torch.inf if step == 7 else 1) for name, value in draw(step, numbers).items()}

    with pytest.raises(RuntimeFailure, match=r"found a norm of (nan|inf) at step 8; lower the stage's learning_rate"):
        run_stage(Line(), STAGE, broken, tmp_path / "run.pt", 3, "no", lambda *_: None)
    kept = torch.load(tmp_path / "run.pt", weights_only=True)
    assert kept["step"] == 5
    assert kept["weights"]["weight"].isfinite().all()


def test_a_checkpoint_with_other_weights_is_refused(tmp_path: Path) -> None:
    run_stage(Line(), STAGE, draw, tmp_path / "done.pt", 3, "no", lambda *_: None)
    state = torch.load(tmp_path / "done.pt", weights_only=True)
    state["weights"] = {"renamed": state["weights"]["weight"]}
    torch.save(state, tmp_path / "done.pt")
    with pytest.raises(
        ConfigError, match=r"done\.pt: expected the 1 weights .* 2 are missing or unknown, renamed first"
    ):
        run_stage(Line(), STAGE, draw, tmp_path / "done.pt", 3, "no", lambda *_: None)


def test_a_learner_is_on_the_cpu_after_a_stage(tmp_path: Path) -> None:
    learner = Line()
    for _ in ("trained", "read from its checkpoint"):
        run_stage(learner, STAGE, draw, tmp_path / "done.pt", 3, "no", lambda *_: None)
        assert {each.device.type for each in learner.parameters()} == {"cpu"}


@pytest.mark.device
def test_a_stage_on_a_gpu_leaves_a_learner_that_the_cpu_can_run(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    seen = set[str]()

    class Watched(Line):
        def forward(self, batch: Batch) -> Tensor:
            seen.add(batch["x"].device.type)
            return super().forward(batch)

    learner = Watched()
    run_stage(learner, STAGE, draw, tmp_path / "done.pt", 3, "no", lambda *_: None)
    assert seen == {"cuda"}
    assert learner(draw(0, [0, 1])).device.type == "cpu"


def test_two_processes_end_with_the_same_weights_and_do_what_one_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    # A machine's own name need not lead anywhere.
    command += ["--local-addr", "127.0.0.1"]
    command += ["--rdzv-endpoint", "localhost:0", mini_toy.__file__, str(tmp_path)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, cwd=Path(mini_toy.__file__).parent
    )
    assert result.returncode == 0, result.stderr
    first, second = (torch.load(tmp_path / f"end-{rank}.pt", weights_only=True) for rank in (0, 1))
    weight, losses = mini_toy.line(tmp_path / "alone")
    uneven, _ = mini_toy.line(tmp_path / "alone", mini_toy.UNEVEN)
    for found in (first, second):
        torch.testing.assert_close(found["uneven"], uneven, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found["line"], weight, rtol=1e-5, atol=1e-6)
        assert found["losses"] == pytest.approx(losses, rel=1e-5)
    assert first["mini"].keys() == second["mini"].keys()
    for name, tensor in first["mini"].items():
        torch.testing.assert_close(second["mini"][name], tensor, rtol=1e-6, atol=1e-7)
    [stage] = (tmp_path / "work").glob("linguistic-*.pt")
    kept = torch.load(stage, weights_only=True)["weights"]
    learnt = {name.removeprefix("model."): tensor for name, tensor in kept.items()}
    assert any(name.endswith("lora_B.default.weight") and tensor.any() for name, tensor in learnt.items())
    for name, tensor in learnt.items():
        torch.testing.assert_close(second["mini"][name], tensor, rtol=1e-6, atol=1e-7)


def test_processes_that_no_example_is_left_for_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smaller = msgspec.structs.replace(STAGE, batch=2)
    check_processes([STAGE, smaller], 2)
    with pytest.raises(ConfigError, match=r"at most 2 processes.*found 3; start fewer"):
        check_processes([STAGE, smaller], 3)
    recipe, _ = load_recipe("language-mini")
    monkeypatch.setattr(language, "processes", lambda: SimpleNamespace(num_processes=9))
    with pytest.raises(ConfigError, match=r"at most 8 processes.*found 9"):
        language.train_language(recipe, tmp_path, tmp_path, tmp_path / "work", lambda *_: None)
    assert not (tmp_path / "work").exists()
