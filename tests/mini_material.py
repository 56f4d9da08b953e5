"""Small clips and a small recipe for tests of CrashChat-mini: pictures of noise with true-looking records."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec
import numpy as np
import transformers_oracle  # noqa: F401 - makes transformers importable beside any torch wheel
from scene_records import scene_record

from edge_sdk.clips import SceneTruth
from edge_sdk.export.mini.material import Material
from edge_sdk.export.mini.pictures import Pictures
from edge_sdk.export.mini.recipe import Recipe, load_recipe

PICTURES, RATE_HZ = 80, 10.0
CRASH_S, FORESEEN_S, END_S = 5.0, 4.0, 6.5


def small_recipe(steps: int = 2) -> Recipe:
    """The committed recipe with the fewest layers and `steps` steps a stage, in float32."""
    recipe, _ = load_recipe("language-mini")
    few = {"steps": steps, "batch": 2, "save_every": 1}
    replace = msgspec.structs.replace
    sizes = replace(
        recipe.sizes, hidden=32, heads=2, kv_heads=1, tower_layers=1, tower_intermediate=24, decoder_layers=1
    )
    assert recipe.tower
    assert recipe.language
    phases = tuple(replace(phase, stage=replace(phase.stage, **few)) for phase in recipe.phases)
    language = replace(recipe.language, phases=phases)
    adapters = {
        name: replace(getattr(recipe, name), stage=replace(getattr(recipe, name).stage, **few))
        for name in ("linguistic", "perception")
    }
    return replace(
        recipe, precision="no", sizes=sizes, tower=replace(recipe.tower, **few), language=language, **adapters
    )


def small_text() -> str:
    """The text of `small_recipe`, but for how often a stage is saved."""
    text = load_recipe("language-mini")[1]
    changes = {"steps": "2", "batch": "2", "precision": '"no"', "hidden": "32", "heads": "2", "kv_heads": "1"}
    changes |= {"tower_layers": "1", "tower_intermediate": "24", "decoder_layers": "1"}
    for key, value in changes.items():
        text, count = re.subn(rf"^{key} = .+$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert count, key
    return text


def clips(count: int = 4, seed: int = 0) -> list[Material]:
    """Clips of 8 s; every other one has a crash."""
    random = np.random.default_rng(seed)
    cache = random.integers(0, 256, (count * PICTURES, 84, 140, 3), np.uint8)
    return [_clip(index, cache) for index in range(count)]


def _clip(index: int, cache: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Material:
    crash = index % 2 == 1
    record = scene_record(
        (FORESEEN_S, CRASH_S, END_S) if crash else None,
        name=f"scene_{index:08d}",
        seed=index,
        view="dashcam",
        kind="rear_end" if crash else "normal",
        scenario="lead_brake",
        ego_involved=True,
        frames=PICTURES,
        duration_s=PICTURES / RATE_HZ,
    )
    truth = SceneTruth(striker="ego-car", struck="car", cause="late_reaction", culprit="ego-car")
    boxes = np.zeros((PICTURES, 2, 6), np.float32)
    boxes[:, 0] = (0.2, 0.4, 0.5, 0.8, 1, 2 if crash else 0)
    boxes[:, 1] = (0.6, 0.4, 0.7, 0.5, 1, 0)
    times_s = np.arange(PICTURES) / RATE_HZ
    first = index * PICTURES
    rgb = cache[first : first + PICTURES]
    pictures = Pictures(rgb, times_s, PICTURES / RATE_HZ, hashlib.sha256(rgb.tobytes()).hexdigest())
    return Material(Path(f"{record.name}.mp4"), record, truth if crash else SceneTruth(), pictures, boxes)
