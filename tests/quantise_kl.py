"""What calibration buys: KL on held-out driving clips by recipe, calibrated on driving clips or on unrelated text.

As a script: `python tests/quantise_kl.py OUT NAME CHECKPOINT EXPORT CLIPS COUNT FRAMES WORK RECIPES [+ NAME=ADAPTER]`
calibrates on clips, then on as many tokens of text, and writes `quantise-kl-NAME.json` and `.md` to OUT. CHECKPOINT may
be `2B:LAYERS`, the public widths with random weights; EXPORT is an export recipe, or a profile for one without
adapters. What is in WORK already is used again.

The text is this repository's licence and documentation, which nothing about traffic was written for, and tokens drawn
at random, in equal parts.
"""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import torch
from measured import table, write_measured
from true_size import make_checkpoint

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.bundle.proof import AnswerChange
from edge_sdk.export.eager import embedding_rows
from edge_sdk.export.export_recipe import Order, settle
from edge_sdk.export.pipeline import open_plan
from edge_sdk.export.quantise.collect import Collection, Source
from edge_sdk.export.quantise.plan import QuantisedPlan
from edge_sdk.export.quantise.probing import measure_together
from edge_sdk.export.quantise.recipe import QuantiseRecipe, Storage, load_quantise_recipe
from edge_sdk.export.quantise.sequences import Sequence
from edge_sdk.export.quantise.stages import decoder_stages, folders_of, quantised_stages
from edge_sdk.export.quantise.statistics import Statistics, layer_file, write_index
from edge_sdk.export.stage_store import StageStore
from edge_sdk.export.tokenizer import tokenizer_json
from edge_sdk.reasoning.grid import PROFILES
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.toolchain.calibrating import calibrate

ROOT = Path(__file__).parents[1]
TEXTS = ("LICENSE", "docs/live.md", "docs/jetson.md")
LENGTH = 1024


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One recipe on one calibration: KL on held-out driving clips, and how much less than to the nearest."""

    recipe: str
    calibration: str
    tokens: int
    decoder_mb: float
    change: AnswerChange
    saved: float


def text_statistics(order: Order, driving: Statistics, out: Path) -> Statistics:
    """Statistics of as many tokens of text as `driving` has seen, with its probes beside."""
    plan = open_plan(
        order, partial(QuantisedPlan, recipe=QuantiseRecipe(linears=Storage(bits=8)), work=out, statistics=driving)
    )
    (out.parent / "tokenizer").mkdir(exist_ok=True)
    place = out.parent / "tokenizer/tokenizer.json"
    place.write_text(tokenizer_json(Path(order.checkpoint)), encoding="utf-8")
    tokenizer, random = Tokenizer.open(place), np.random.default_rng(0)
    words = np.concatenate([tokenizer.encode((ROOT / name).read_text(encoding="utf-8")) for name in TEXTS])
    out.mkdir()
    for path in driving.folder.glob("probe.*"):
        shutil.copyfile(path, out / path.name)
    for key in plan.decoders:
        wanted, sources = driving.index.tokens[key], {}
        drawn = random.integers(0, int(words.max()), wanted - wanted // 2)
        ids = np.concatenate([np.resize(words, wanted // 2), drawn]).astype(np.int64)
        for number, begin in enumerate(range(0, wanted, LENGTH)):
            path = out.parent / f"text.{key}.{number:04}.safetensors"
            Sequence.of(embedding_rows(plan.checkpoint, ids[begin : begin + LENGTH]), []).save(path)
            sources[f"{number:04}"] = Source(path)
        with StageStore.locked(out.parent / "text.work") as store:
            places = Collection(key, plan.methods[key].weights, sources, {"text": 1}).run(store, lambda done: None)
            for layer, found in enumerate(places):
                shutil.copyfile(found / layer_file(key, layer), out / layer_file(key, layer))
    write_index(out, msgspec.structs.replace(driving.index, clips=()))
    return Statistics(out)


def measure(order: Order, recipe: str, statistics: Statistics, work: Path) -> tuple[AnswerChange, float]:
    """The recipe's KL on the probes, and 10^6 bytes of its decoders."""
    made = partial(QuantisedPlan, recipe=load_quantise_recipe(recipe), work=work, statistics=statistics)
    plan = open_plan(order, made)
    with StageStore.locked(work) as store:
        for stage in decoder_stages(quantised_stages(order, plan, work), plan):
            if store.receipt(stage) is None:
                store.make(stage, lambda done: None)
    key = next(iter(plan.decoders))
    stored = plan.restored(key, folders_of(plan, key, work))
    change = measure_together(plan.methods[key].weights, stored, plan.probes(key), work / "states")
    return change, sum(file.size_bytes for file in plan.files[key].files) / 1e6


def study(order: Order, recipes: list[str], clips: Path, count: int, frames: int, work: Path) -> list[Row]:
    """Every recipe on both calibrations; the first is the one that others are compared with and needs none."""
    seen, rows = work / "seen", list[Row]()
    if not seen.exists():
        recipe = order.recipe
        settings = {"dtype": recipe.dtype, "profiles": recipe.profiles, "slots": recipe.slots}
        adapters = tuple(f"{name}={place}" for name, place in order.adapters.items())
        calibrate(
            Path(order.checkpoint),
            clips,
            seen,
            count=count,
            frames=frames,
            adapters=adapters,
            switchable=recipe.switchable or None,
            **settings,
        )
    driving = Statistics(seen)
    text = Statistics(work / "text") if (work / "text").exists() else text_statistics(order, driving, work / "text")
    nearest, _ = measure(order, recipes[0], driving, work / recipes[0])
    for name in recipes:
        for what, statistics in (("driving", driving), ("text", text)):
            if what == "text" and name == recipes[0]:
                continue
            place = work / f"{name}.{what}"
            change, size_mb = measure(order, name, statistics, place)
            shutil.rmtree(place)
            rows.append(
                Row(
                    recipe=name,
                    calibration="-" if name == recipes[0] else what,
                    tokens=sum(statistics.index.tokens.values()),
                    decoder_mb=size_mb,
                    change=change,
                    saved=1 - change.mean_kl / nearest.mean_kl,
                )
            )
            print(rows[-1], flush=True)
    return rows


def main(out: Path, name: str, words: list[str]) -> None:
    """See the module."""
    checkpoint, export, clips, count, frames, work, *rest = words
    recipes, adapters = (rest[: rest.index("+")], rest[rest.index("+") + 1 :]) if "+" in rest else (rest, [])
    place, watch = Path(work), Watch()
    place.mkdir(parents=True, exist_ok=True)
    folder = Path(checkpoint)
    if ":" in checkpoint:
        size, _, layers = checkpoint.partition(":")
        folder = place / "checkpoint"
        if not folder.exists():
            make_checkpoint(size, folder, layers=int(layers))
    plain = export in PROFILES
    settings = {"profiles": (export,), "slots": (2048,), "dtype": "float16"} if plain else {}
    order = settle(folder, adapters=tuple(adapters), recipe=None if plain else export, **settings)
    rows = study(order, recipes, Path(clips), int(count), int(frames), place)
    index = Statistics(place / "seen").index
    said = (
        f"{checkpoint if ':' in checkpoint else folder.name}, {index.layers} layers of {index.hidden}; statistics of "
        f"{len(index.clips)} rendered clips of at most {frames} frames with the six questions, or of as many tokens of "
        f"licence and documentation and of random words; KL in nats a token over tokens of the "
        f"answers to {len(index.probes)} other clips, {rows[0].change.steps} tokens."
    )
    cells = [
        [
            row.recipe,
            row.calibration,
            f"{row.tokens:,}",
            f"{row.decoder_mb:,.1f}",
            f"{row.change.mean_kl:.3g}",
            f"{row.change.largest_kl:.3g}",
            f"{row.change.equal_tokens}/{row.change.steps}",
            f"{100 * row.saved:.0f} %",
        ]
        for row in rows
    ]
    head = "recipe | calibrated on | tokens | decoder MB | mean KL | largest KL | equal tokens | less KL than nearest"
    write_measured(out, f"quantise-kl-{name}", "What calibration buys", watch, rows, [said, "", *table(head, cells)])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
