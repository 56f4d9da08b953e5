"""Going on from a student's bundle, on other scenes: what it is made of stays known, however often it goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from distilled_toy import ONWARD_TABLES, toy_text
from scene_records import scene_record
from tuning_toy import toy_clip, toy_start

from edge_sdk.bundle import Bundle
from edge_sdk.clips import LabelledClip
from edge_sdk.export.distil import load_recipe, train
from edge_sdk.toolchain.seen_scenes import trained_on
from edge_sdk.verify import verify


def further_text(first: int) -> str:
    """The toy's recipe with a short last stage, on five scenes from `first` on."""
    stage = ONWARD_TABLES.replace("steps = 70", "steps = 2").replace("warm_up_steps = 5", "warm_up_steps = 1")
    return toy_text().replace("first = 0, count = 1400", f"first = {first}, count = 5") + stage


def scene(clip: LabelledClip, seed: int) -> LabelledClip:
    return dataclasses.replace(clip, record=scene_record(seed=seed))


def test_scenes_of_every_student_that_it_went_on_from_are_known(tmp_path: Path) -> None:
    bundle, _ = toy_start(tmp_path)
    shown, held_out = ([toy_clip(tmp_path, number) for number in numbers] for numbers in (range(4), range(4, 6)))
    for first in (500_000, 600_000):
        (tmp_path / "recipe.toml").write_text(text := further_text(first))
        recipe, _ = load_recipe(tmp_path / "recipe.toml")
        out = tmp_path / str(first)
        train(recipe, text, shown, held_out, out, tmp_path / "work", start=bundle)
        bundle = Bundle.open(out)
    assert verify(bundle, "ort").ok

    start = bundle.manifest.provenance["start"]
    assert start["sha256"] == Bundle.open(tmp_path / "500000").sha256
    assert start["start"]["sha256"] == Bundle.open(tmp_path / "bundle").sha256
    # The toy began with the demo's recipe, then saw five scenes twice.
    seeds = [0, 1399, 499_999, 500_000, 500_004, 500_005, 600_004, 600_005]
    seen = trained_on(bundle, [scene(shown[0], seed) for seed in seeds])
    assert [clip.record.seed for clip in seen if clip.record] == [0, 1399, 500_000, 500_004, 600_004]
