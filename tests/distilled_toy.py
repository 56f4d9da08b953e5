"""A toy student beside a toy teacher, trained by as many processes as there are: run it under torchrun.

    python -m torch.distributed.run --nproc-per-node 2 tests/distilled_toy.py FOLDER [STEPS]

Clips are flickering squares; the teacher's lessons are made up. With STEPS the run is killed, hard, after as many.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import msgspec
import numpy as np
import torch

from edge_sdk.clips import LabelledClip
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.distilled import Distillation
from edge_sdk.export.distil.recipe import Pictures, Recipe, Stage, Teacher, load_recipe
from edge_sdk.export.distil.run import Run, begin
from edge_sdk.export.distil.teacher_cache import Lesson, TeacherCache, TeacherInfo
from edge_sdk.export.distil.teacher_targets import Lessons
from edge_sdk.export.distil.workers import single_threaded
from edge_sdk.export.graphs.student import Student, StudentShape

FRAMES, HEIGHT, WIDTH, TAUGHT = 40, 32, 64, 12
INFO = TeacherInfo(
    bundle="toy",
    bundle_sha256="0" * 64,
    prompts_sha256="1" * 64,
    profile="24f",
    rate_hz=4.0,
    grid=(1, 2),
    window_s=1.5,
    stride_s=0.5,
    smoothing_s=0.3,
)
_TEXT_CHANGES = {
    "height = 192\nwidth = 320\nlags": f"height = {HEIGHT}\nwidth = {WIDTH}\nlags",
    "stages = [32, 48, 72, 96]": "stages = [8, 8, 16, 16]",
    "features = 96": "features = 16",
    "grid_dilations = [1, 2]": "grid_dilations = [1]",
    "dilations = [1, 2, 4, 8]": "dilations = [1, 2]",
    "frames = 64": "frames = 24",
    "bfloat16 = true": "bfloat16 = false",
}
# A short last stage, as a recipe says it.
ONWARD_TABLES = """
[onward]
steps = 70
windows = 4
micro = 2
frozen = 3
dropout = [0.0, 0.0]
learning_rate = 0.003
warm_up_steps = 5
decay_share = 0.4
average = 0.9
window_weight = 1.0

[onward.focus]
frames = 24
share = 1.0
before = 6
after = 8
own_car = 0.5
normal = 0.25
zoom = 1.5
zoomed = 0.5
splice_share = 0.0
"""
TEACHER = Teacher(feature_shift_s=0.5, save_every=3)


def toy_recipe(epochs: int = 3, micro: int = 2) -> Recipe:
    """Windows of 24 frames, eight a step."""
    recipe, _ = load_recipe("student-demo")
    return msgspec.structs.replace(
        recipe,
        shape=StudentShape(stages=(8, 8, 16, 16), features=16, dilations=(1, 2)),
        pictures=Pictures(rate_hz=10.0, height=HEIGHT, width=WIDTH, lags=(1, 3)),
        windows=msgspec.structs.replace(recipe.windows, frames=24),
        optimiser=msgspec.structs.replace(recipe.optimiser, average=0.8, learning_rate=0.01, bfloat16=False),
        stages=(Stage(epochs=epochs, height=HEIGHT, width=WIDTH, windows=8, micro=micro),),
        teacher=TEACHER,
        late=None,
        head=None,
        onward=None,
    )


def toy_text() -> str:
    """The demo recipe's own text but its last stage, with a shape small enough for a test."""
    text = load_recipe("student-demo")[1].split("[onward]")[0]
    for old, new in _TEXT_CHANGES.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def toy_clip(folder: Path, number: int, *, labelled_end: bool = True) -> CachedClip:
    """A grey street; in odd clips a flicker from 1.5 to 2.4 s, which is what this world calls a crash."""
    luma = np.full((FRAMES, HEIGHT, WIDTH), 90 + number % 7, np.uint8)
    crash = bool(number % 2)
    if crash:
        luma[15:25:2, 8:24, 16:48], luma[16:25:2, 8:24, 16:48] = 220, 20
    path = folder / f"{number}.mp4"
    path.write_text(str(number))
    label = LabelledClip(
        path=path,
        view="roadside",
        crash=crash,
        start_s=1.5 if crash else None,
        end_s=2.4 if crash and labelled_end else None,
        pre_crash_s=1.0 if crash else None,
        group=path.stem,
    )
    return CachedClip(luma, np.arange(FRAMES) / 10, label)


def toy_lesson(number: int, rng: np.random.Generator) -> Lesson:
    """Features that say whether the flicker is on, sure answers about it, and a density around its true end."""
    times_s = np.arange(16) / 4
    on = (number % 2) * ((times_s >= 1.5) & (times_s <= 2.4))
    code = np.random.default_rng(0).normal(size=(2, TAUGHT))
    features = code[on.astype(int)][:, None] + 0.05 * rng.normal(size=(16, 3, TAUGHT))
    ends_s = np.arange(1.5, 4.0, 0.5)
    grid_s = np.arange(40) / 10
    densities = np.exp(-0.5 * ((grid_s - np.array([[1.5], [2.4]])) / 0.3) ** 2)
    return Lesson(
        feature_times_s=times_s.astype(np.float32),
        features=features.astype(np.float16),
        score_times_s=ends_s.astype(np.float32),
        yes=np.where((number % 2) & (ends_s > 1.7), 0.95, 0.05).astype(np.float32),
        boundary_times_s=grid_s.astype(np.float32),
        densities=(densities / densities.sum(1, keepdims=True)).astype(np.float32),
    )


def toy_cache(folder: Path, clips: list[CachedClip]) -> TeacherCache:
    """A cache of lessons for `clips`."""
    cache = TeacherCache.create(folder, INFO)
    rng = np.random.default_rng(5)
    for clip in clips:
        digest = hashlib.sha256(clip.label.path.read_bytes()).hexdigest()
        cache.write(digest, toy_lesson(int(clip.label.path.stem), rng))
    return cache


def distil(folder: Path, work: Path, recipe: Recipe, *, stop_after: int | None = None) -> tuple[Run, list[float], bool]:
    """Train by `recipe` on eight toy clips; the run, the loss of every step, and whether this is the main process."""
    folder.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    clips = [toy_clip(folder, number, labelled_end=number % 4 != 1) for number in range(16)]
    teacher = recipe.teacher
    assert isinstance(teacher, Teacher)
    lessons = Lessons(toy_cache(folder / "cache", clips), clips, recipe, teacher)
    torch.manual_seed(recipe.seed)
    run = begin(Student(recipe.shape), recipe)
    made = Distillation(run, recipe, teacher, clips, lessons, work / "checkpoint.pt")

    def report(done: int, total: int, note: str) -> None:
        if stop_after is not None and done == stop_after and "loss" in note:
            os._exit(9)

    with single_threaded():
        main = made.train(clips[:4], report)
    return run, made.losses, main


if __name__ == "__main__":
    place = Path(sys.argv[1])
    stop = int(sys.argv[2]) if len(sys.argv) > 2 else None
    rank = os.environ.get("RANK", "0")
    found, step_losses, is_main = distil(place / f"clips-{rank}", place / "work", toy_recipe(), stop_after=stop)
    if is_main:
        torch.save({"model": found.model.state_dict(), "losses": step_losses}, place / "end.pt")
