"""Toy trainings that kill their own process, by SIGKILL: run it as a process of its own.

    python tests/killed_training.py student|mini FOLDER [step:N|save:N]

`step:N` kills at the N-th training step that this process has made, `save:N` when half of its N-th checkpoint is
written. Nothing gets to clean up. Started again, the training goes on from what lies in FOLDER; without a way to die it
runs to its end.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import msgspec
import torch
from distilled_toy import toy_clip, toy_recipe

from edge_sdk.export import state_file
from edge_sdk.export.distil import student
from edge_sdk.export.distil.recipe import Focus, Head, Late, Onward, Recipe, Stage
from edge_sdk.export.distil.workers import single_threaded
from edge_sdk.files import atomic_path


def student_recipe() -> Recipe:
    """Every stage of the demo student's recipe on a toy: 4 steps, 2 late ones, 2 of the head, 70 onward."""
    stages = (Stage(epochs=2, height=32, width=64, windows=4, micro=2),)
    late = Late(
        copies=1, epochs=1, windows=4, micro=2, learning_rate=3e-3, average=0.8, window_weight=1.0, map_weight=0.5
    )
    head = Head(epochs=1, windows=4, dropout=(0.3, 0.2), learning_rate=5e-3, average=0.8, window_weight=0.5)
    focus = Focus(
        frames=24, share=1.0, before=6, after=8, own_car=0.5, normal=0.25, zoom=1.5, zoomed=0.5, splice_share=0.25
    )
    onward = Onward(
        steps=70,
        windows=2,
        micro=1,
        frozen=3,
        dropout=(0.3, 0.2),
        learning_rate=0.003,
        warm_up_steps=5,
        decay_share=0.5,
        average=0.9,
        window_weight=1.0,
        focus=focus,
    )
    unset = msgspec.UNSET
    return msgspec.structs.replace(toy_recipe(), stages=stages, teacher=unset, late=late, head=head, onward=onward)


def train_student(folder: Path, death: Death) -> dict[str, torch.Tensor]:
    """The weights of a student that has been through every stage."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = {each.label.path: each for each in (toy_clip(folder, number) for number in range(10))}
    found: dict[str, torch.Tensor] = {}
    # The toy's clips are no videos, and its graph takes longer to write than the toy to train.
    vars(student)["load_clips"] = lambda some, *_: [clips[label.path] for label in some]
    vars(student)["write_student_bundle"] = lambda _out, model, *_: found.update(model.state_dict())
    labels = [each.label for each in clips.values()]
    with single_threaded():
        student.train(student_recipe(), "toy", labels[:8], labels[8:], folder / "none", folder / "work", death.report)
    return found


def tune_mini(folder: Path, death: Death) -> dict[str, torch.Tensor]:
    """The weights of a mini with an adapter, after the tower, two phases of language and the adapter's LoRA."""
    import mini_material

    from edge_sdk.export.mini.course import Course

    recipe = mini_material.small_recipe(steps=3)
    stage = msgspec.structs.replace(recipe.linguistic.stage, steps=7, save_every=3)
    recipe = msgspec.structs.replace(recipe, linguistic=msgspec.structs.replace(recipe.linguistic, stage=stage))
    with single_threaded():
        course = Course(recipe, mini_material.clips(2), folder / "work", death.report)
        found: dict[str, torch.Tensor] = course.adapter("linguistic").state_dict()
    return found


class Death:
    """When this process is to die; never, where nothing says so."""

    def __init__(self, words: str | None) -> None:
        kind, _, number = (words or "never:0").partition(":")
        self._kind, self._left = kind, int(number)
        if kind == "save":
            vars(state_file)["write_bytes"] = self._save

    def report(self, done: int, total: int, note: str) -> None:
        """As trainings tell of what they do; one that names a loss is a step."""
        if self._kind == "step" and "loss" in note:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def _save(self, path: Path, data: bytes) -> None:
        """In the place of `write_bytes`, as which it takes a checkpoint to its path, but for the last."""
        self._left -= 1
        with atomic_path(path) as stage:
            stage.write_bytes(data if self._left else data[: len(data) // 2])
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    what, place = sys.argv[1], Path(sys.argv[2])
    made = {"student": train_student, "mini": tune_mini}[what]
    end = made(place, Death(sys.argv[3] if len(sys.argv) > 3 else None))
    # Of several processes one comes to an end; the others only took part.
    if end:
        torch.save(end, place / "end.pt")
