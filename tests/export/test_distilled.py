"""Training beside a teacher: the same on one process and two, after a kill, and without a trace of the teacher."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import distilled_toy
import killed_training
import msgspec
import numpy as np
import pytest
import torch
from distilled_toy import INFO, TEACHER, distil, toy_clip, toy_lesson, toy_recipe

from edge_sdk.errors import ConfigError
from edge_sdk.export.distil import distilled, student
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.distilled import Distillation
from edge_sdk.export.distil.recipe import Focus, Late, Onward, Recipe, Teacher, load_recipe
from edge_sdk.export.distil.run import Run, begin
from edge_sdk.export.distil.student import open_cache, train
from edge_sdk.export.distil.teacher_cache import TeacherCache
from edge_sdk.export.distil.workers import single_threaded
from edge_sdk.export.graphs.student import Student

SCRIPT = Path(distilled_toy.__file__)


@dataclass(frozen=True)
class Ended:
    """What an uninterrupted run on one process came to."""

    clips: Path
    run: Run
    losses: list[float]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = tmp_path_factory.mktemp("whole")
    run, losses, _ = distil(folder / "clips-0", folder / "work", toy_recipe())
    return Ended(folder / "clips-0", run, losses)


class Killed(Exception):
    """Stands for a power cut."""


def kill_after(step: int, clips: Path, work: Path) -> None:
    def kill(_code: int) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("os._exit", kill)
        with pytest.raises(Killed):
            distil(clips, work, toy_recipe(), stop_after=step)


def floats(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if value.is_floating_point()}


def test_two_processes_go_on_where_one_was_killed_and_do_what_it_would_have_done(tmp_path: Path, whole: Ended) -> None:
    """Eight windows a step, in groups of two: four groups on one process, two on each of two."""
    kill_after(3, tmp_path / "clips-0", tmp_path / "work")
    saved = torch.load(tmp_path / "work" / "checkpoint.pt", weights_only=True)["losses"]
    assert saved == whole.losses[:2], "the checkpoint is of the last epoch's end"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    # A machine's own name need not lead anywhere.
    command += ["--local-addr", "127.0.0.1"]
    command += ["--rdzv-endpoint", "localhost:0", str(SCRIPT), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=SCRIPT.parent)
    assert result.returncode == 0, result.stderr
    spread = torch.load(tmp_path / "end.pt", weights_only=True)
    assert spread["losses"][:2] == saved
    assert spread["losses"][2] == pytest.approx(whole.losses[2], rel=1e-6)
    np.testing.assert_allclose(spread["losses"], whole.losses, rtol=1e-4)
    for name, value in floats(whole.run.model.state_dict()).items():
        torch.testing.assert_close(spread["model"][name], value, rtol=0, atol=2e-3)


@pytest.mark.parametrize("at", [1, 3, 4])
def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path, at: int, whole: Ended) -> None:
    kill_after(at, whole.clips, tmp_path / "cut")
    resumed, losses, _ = distil(whole.clips, tmp_path / "cut", toy_recipe())
    assert losses == whole.losses
    assert resumed.losses == whole.run.losses
    assert resumed.metrics == whole.run.metrics
    for name, value in floats(whole.run.model.state_dict()).items():
        assert torch.equal(resumed.model.state_dict()[name], value)


def test_clips_are_prepared_once_for_all_epochs_of_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []

    class Counted(distilled.WindowSampler):
        def __init__(self, clips: Sequence[CachedClip], recipe: Recipe, height: int, width: int) -> None:
            made.append((height, width))
            super().__init__(clips, recipe, height, width)

    monkeypatch.setattr(distilled, "WindowSampler", Counted)
    recipe = toy_recipe(epochs=2)
    stages = (msgspec.structs.replace(recipe.stages[0], epochs=1, width=32), *recipe.stages)
    distil(tmp_path / "clips", tmp_path / "work", msgspec.structs.replace(recipe, stages=stages))
    assert made == [(stage.height, stage.width) for stage in stages]


def test_the_student_learns_what_the_teacher_sees_and_keeps_nothing_of_it(tmp_path: Path) -> None:
    recipe = toy_recipe(epochs=6)
    run, losses, main = distil(tmp_path / "clips", tmp_path / "work", recipe)
    assert main
    assert np.mean(losses[-4:]) < 0.7 * losses[0]
    assert run.model.state_dict().keys() == Student(recipe.shape).state_dict().keys()
    assert not run.model.memory[-1]._forward_hooks
    assert (tmp_path / "work" / "curves.png").stat().st_size > 1000


def test_what_one_teacher_taught_is_not_gone_on_with_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a work folder where another teacher's run has ended, a student becomes what it does in a folder of its own."""
    clips = {clip.label.path: clip for clip in (toy_clip(tmp_path, number) for number in range(8))}
    # The toy's clips are no videos.
    monkeypatch.setattr(student, "load_clips", lambda some, *_: [clips[label.path] for label in some])
    late = Late(
        copies=1, epochs=1, windows=4, micro=2, learning_rate=3e-3, average=0.8, window_weight=1.0, map_weight=0.5
    )
    onward = Onward(
        steps=2,
        windows=4,
        micro=2,
        frozen=3,
        dropout=(0.0, 0.0),
        learning_rate=0.003,
        warm_up_steps=1,
        decay_share=0.5,
        average=0.9,
        window_weight=1.0,
        focus=Focus(
            frames=24, share=1.0, before=6, after=8, own_car=0.5, normal=0.25, zoom=1.5, zoomed=0.5, splice_share=0.0
        ),
    )
    recipe = msgspec.structs.replace(toy_recipe(epochs=1), late=late, onward=onward)
    for name, seed in (("first", 5), ("second", 6)):
        cache = TeacherCache.create(tmp_path / name, msgspec.structs.replace(INFO, bundle=name))
        rng = np.random.default_rng(seed)
        for path, clip in clips.items():
            lesson = toy_lesson(int(clip.label.path.stem), rng)
            cache.write(hashlib.sha256(path.read_bytes()).hexdigest(), lesson)
    labels = [clip.label for clip in clips.values()]

    def made(teacher: str, work: str) -> bytes:
        out = tmp_path / f"{teacher}-in-{work}"
        with single_threaded():
            train(recipe, "toy", labels, labels[:4], out, tmp_path / work, teacher=tmp_path / teacher)
        return (out / "student.onnx").read_bytes()

    first = made("first", "shared")
    assert made("second", "shared") == made("second", "own") != first


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


def test_labels_alone_teach_what_a_teacher_without_weight_does(tmp_path: Path) -> None:
    """The way of GPUs and of several processes without a teacher, on one CPU."""
    silent = msgspec.structs.replace(TEACHER, feature_weight=0.0, score_weight=0.0, boundary_weight=0.0)
    recipe = msgspec.structs.replace(toy_recipe(epochs=1), teacher=silent)
    beside, losses, _ = distil(tmp_path / "clips", tmp_path / "beside", recipe)
    clips = [toy_clip(tmp_path / "clips", number, labelled_end=number % 4 != 1) for number in range(16)]
    plain = msgspec.structs.replace(recipe, teacher=msgspec.UNSET)
    torch.manual_seed(plain.seed)
    run = begin(Student(plain.shape), plain)
    made = Distillation(run, plain, Teacher(), clips, None, tmp_path / "alone.pt")
    with single_threaded():
        assert made.train(clips[:4], lambda *_: None)
    assert made.losses == losses
    for name, value in floats(beside.model.state_dict()).items():
        assert torch.equal(run.model.state_dict()[name], value)


def test_two_processes_share_a_recipe_without_a_teacher_and_one_writes_the_student(tmp_path: Path) -> None:
    script = Path(killed_training.__file__)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    # A machine's own name need not lead anywhere.
    command += ["--local-addr", "127.0.0.1"]
    command += ["--rdzv-endpoint", "localhost:0", str(script), "student", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=script.parent)
    assert result.returncode == 0, result.stderr
    names = {path.name.split("-")[0] for path in (tmp_path / "work").glob("*.pt")}
    assert names == {"distilled", "late", "onward"}
    made = torch.load(tmp_path / "end.pt", weights_only=True)
    assert made
    assert all(value.isfinite().all() for value in made.values())


def test_a_recipe_without_a_teacher_is_written_as_before() -> None:
    recipe, _ = load_recipe("student-demo")
    assert b'"teacher"' not in msgspec.json.encode(recipe)


def test_the_long_recipe_makes_a_student_of_the_same_shape_on_scenes_of_no_test_and_of_no_validation() -> None:
    demo, long = (load_recipe(name)[0] for name in ("student-demo", "student-demo-long"))
    assert long.final_shape == demo.final_shape
    assert long.pictures == demo.pictures
    assert long.scenes.validation == demo.scenes.validation
    assert long.scenes.further is not None
    # `choose_seeds` takes every second or third seed of those "of others"; tests begin at 9,000,000.
    last = long.scenes.further.first + 10 * long.scenes.further.count
    assert long.scenes.training.first + long.scenes.training.count <= long.scenes.further.first
    assert last < long.scenes.validation.first


def test_a_teacher_and_a_recipe_belong_together(tmp_path: Path) -> None:
    plain, _ = load_recipe("student-demo")
    with pytest.raises(ConfigError, match="no table"):
        open_cache(plain, tmp_path)
    with pytest.raises(ConfigError, match="no cache is given"):
        train(toy_recipe(), "", [], [], tmp_path / "out", tmp_path)
    with pytest.raises(ConfigError, match="is not a teacher's cache"):
        open_cache(toy_recipe(), tmp_path)


@pytest.mark.parametrize("changes", [{"score_weight": -1.0}, {"temperature": 0.0}, {"save_every": 0}])
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, float]) -> None:
    path = tmp_path / "student-bad.toml"
    table = "\n".join(f"{name} = {value}" for name, value in changes.items())
    path.write_text(f"{load_recipe('student-demo')[1]}\n[teacher]\n{table}\n")
    with pytest.raises(ConfigError, match=rf"teacher\.{next(iter(changes))} must be"):
        load_recipe(path)


def test_a_teacher_s_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "student-taught.toml"
    path.write_text(f"{load_recipe('student-demo')[1]}\n[teacher]\nfeature_weight = 0.25\n")
    found: Recipe = load_recipe(path)[0]
    assert found.teacher == msgspec.structs.replace(TEACHER, feature_weight=0.25, feature_shift_s=1.0, save_every=50)
