"""Training beside a teacher: the same on one process and two, after a kill, and without a trace of the teacher."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import distilled_toy
import msgspec
import numpy as np
import pytest
import torch
from distilled_toy import TEACHER, distil, toy_recipe

from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.recipe import Recipe, load_recipe
from edge_sdk.export.distil.student import open_cache, train
from edge_sdk.export.graphs.student import Student

SCRIPT = Path(distilled_toy.__file__)


def launch(processes: int, *words: str) -> int:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", "0"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(SCRIPT), *words]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=SCRIPT.parent)
    assert result.returncode in (0, 1), result.stderr
    return result.returncode


def floats(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if value.is_floating_point()}


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    """Eight windows a step, in groups of two: four groups on one process, two on each of two."""
    assert launch(2, str(tmp_path / "two")) == 0
    spread = torch.load(tmp_path / "two" / "end.pt", weights_only=True)
    run, losses, _ = distil(tmp_path / "clips", tmp_path / "one", toy_recipe())
    assert len(losses) == len(spread["losses"]) == 6
    np.testing.assert_allclose(spread["losses"], losses, rtol=1e-4)
    assert spread["losses"][0] == pytest.approx(losses[0], rel=1e-6)
    for name, value in floats(run.model.state_dict()).items():
        torch.testing.assert_close(spread["model"][name], value, rtol=0, atol=2e-3)


def test_processes_that_were_killed_end_as_those_that_were_not(tmp_path: Path) -> None:
    """Killed after step 5: the checkpoint is of step 4, the end of an epoch, and step 5 is done again."""
    assert launch(2, str(tmp_path / "cut"), "5") == 1
    assert not (tmp_path / "cut" / "end.pt").exists()
    assert launch(2, str(tmp_path / "cut")) == 0
    assert launch(2, str(tmp_path / "whole")) == 0
    cut, whole = (torch.load(tmp_path / name / "end.pt", weights_only=True) for name in ("cut", "whole"))
    assert cut["losses"] == whole["losses"]
    for name, value in floats(whole["model"]).items():
        assert torch.equal(cut["model"][name], value)


@pytest.mark.parametrize("at", [1, 3, 4])
def test_one_process_resumes_inside_an_epoch(tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Exception):
        pass

    def kill(_code: int) -> None:
        raise Killed

    run, losses, _ = distil(tmp_path / "clips", tmp_path / "whole", toy_recipe())
    monkeypatch.setattr("os._exit", kill)
    with pytest.raises(Killed):
        distil(tmp_path / "clips", tmp_path / "cut", toy_recipe(), stop_after=at)
    resumed, again, _ = distil(tmp_path / "clips", tmp_path / "cut", toy_recipe())
    assert again == losses
    assert resumed.losses == run.losses
    assert resumed.metrics == run.metrics
    for name, value in floats(run.model.state_dict()).items():
        assert torch.equal(resumed.model.state_dict()[name], value)


def test_the_student_learns_what_the_teacher_sees_and_keeps_nothing_of_it(tmp_path: Path) -> None:
    recipe = toy_recipe(epochs=10)
    run, losses, main = distil(tmp_path / "clips", tmp_path / "work", recipe)
    assert main
    assert np.mean(losses[-4:]) < 0.6 * losses[0]
    assert run.model.state_dict().keys() == Student(recipe.shape).state_dict().keys()
    assert not run.model.memory[-1]._forward_hooks
    assert (tmp_path / "work" / "curves.png").stat().st_size > 1000


def test_terms_of_weight_0_change_nothing(tmp_path: Path) -> None:
    """With all weights 0 the student is that of its labels, whatever the teacher said."""
    silent = msgspec.structs.replace(TEACHER, feature_weight=0.0, score_weight=0.0, boundary_weight=0.0)
    recipe = msgspec.structs.replace(toy_recipe(epochs=1), teacher=silent)
    shifted = msgspec.structs.replace(recipe, teacher=msgspec.structs.replace(silent, feature_shift_s=0.0))
    one, _, _ = distil(tmp_path / "clips", tmp_path / "one", recipe)
    two, _, _ = distil(tmp_path / "clips", tmp_path / "two", shifted)
    taught, _, _ = distil(tmp_path / "clips", tmp_path / "taught", toy_recipe(epochs=1))
    for name, value in floats(one.model.state_dict()).items():
        assert torch.equal(two.model.state_dict()[name], value)
    assert any(not torch.equal(taught.model.state_dict()[n], v) for n, v in floats(one.model.state_dict()).items())


def test_a_recipe_without_a_teacher_is_written_as_before() -> None:
    recipe, _ = load_recipe("student-demo")
    assert b'"teacher"' not in msgspec.json.encode(recipe)


def test_a_teacher_and_a_recipe_belong_together(tmp_path: Path) -> None:
    plain, _ = load_recipe("student-demo")
    with pytest.raises(ConfigError, match="no table"):
        open_cache(plain, tmp_path)
    with pytest.raises(ConfigError, match="no cache is given"):
        train(toy_recipe(), "", [], [], tmp_path / "out", tmp_path)
    with pytest.raises(ConfigError, match="no teacher's cache"):
        open_cache(toy_recipe(), tmp_path)


@pytest.mark.parametrize("changes", [{"score_weight": -1.0}, {"temperature": 0.0}, {"save_every": 0}])
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, float]) -> None:
    path = tmp_path / "student-bad.toml"
    table = "\n".join(f"{name} = {value}" for name, value in changes.items())
    path.write_text(f"{load_recipe('student-demo')[1]}\n[teacher]\n{table}\n")
    with pytest.raises(ConfigError, match=r"\[teacher\] needs"):
        load_recipe(path)


def test_a_teacher_s_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "student-taught.toml"
    path.write_text(f"{load_recipe('student-demo')[1]}\n[teacher]\nfeature_weight = 0.25\n")
    found: Recipe = load_recipe(path)[0]
    assert found.teacher == msgspec.structs.replace(TEACHER, feature_weight=0.25, feature_shift_s=1.0, save_every=50)
