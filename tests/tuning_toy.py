"""A toy to tune: an untrained student in its bundle, and real videos of squares that flicker in a crash."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import torch
from distilled_toy import FRAMES, HEIGHT, WIDTH, toy_text

from edge_sdk.bundle import Bundle
from edge_sdk.clips import LabelledClip
from edge_sdk.evaluation.detail import Detail, encode_footage, picture_bytes
from edge_sdk.export.distil import load_recipe
from edge_sdk.export.distil.tuning import Tuning
from edge_sdk.export.graphs.student import Student
from edge_sdk.export.student_bundle import write_student_bundle

PLAN = Tuning(
    seed=3,
    epochs=6,
    windows=4,
    micro=2,
    splice_share=0.5,
    rehearsal_share=0.2,
    aftermath_s=0.5,
    # Dropout is drawn by torch as it goes, so a resumed run would only end near the whole one.
    dropout=(0.0, 0.0),
    learning_rate=0.01,
    average=0.8,
)


def toy_start(folder: Path) -> tuple[Bundle, Student]:
    """An untrained attentive student with statistics of its own, and its bundle."""
    (folder / "toy.toml").write_text(toy_text())
    recipe, text = load_recipe(folder / "toy.toml")
    torch.manual_seed(0)
    model = Student(msgspec.structs.replace(recipe.shape, attentive=True)).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(2, 6, 3, HEIGHT, WIDTH))
    bundle = write_student_bundle(folder / "bundle", model.eval(), recipe, {"recipe": text})
    return bundle, model


def pictures(number: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Luma `[FRAMES, 130, 130]`, smooth; in odd clips a large flicker from frame 25 to 34: a crash in this world."""
    luma = np.full((FRAMES, 130, 130), 90, np.uint8)
    luma[:, :, :40] = 60 + number % 7
    if number % 2:
        luma[25:35:2, 30:100, 20:110] = 230
        luma[26:35:2, 30:100, 20:110] = 20
    return luma


def toy_clip(folder: Path, number: int) -> LabelledClip:
    """A real video, H.264, of `pictures`."""
    detail, path = Detail(), folder / f"{number}.mp4"
    frames = np.full((FRAMES, picture_bytes(130, 130)), 128, np.uint8)
    frames[:, : 132 * 130].reshape(FRAMES, 130, 132)[:, :, :130] = pictures(number)
    encode_footage(frames, path, detail)
    crash = bool(number % 2)
    return LabelledClip(
        path=path,
        view="roadside",
        crash=crash,
        start_s=2.5 if crash else None,
        end_s=3.4 if crash else None,
        pre_crash_s=None,
        group=f"g{number}",
    )
