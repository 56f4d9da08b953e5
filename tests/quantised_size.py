"""Checkpoints of the public sizes with random weights in few bits, as a user would make them, and what that took.

As a script it writes the results: `python tests/quantised_size.py OUT whole` quantises a 7B to the nearest, killed
once and started again, in a folder of TMPDIR that is removed behind it (22 GB); `OUT layers gptq awq ...` quantises two
layers of the 7B's widths by the recipes `w4-gptq`, `w4-awq` and so on, calibrated on two clips (8 GB).
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory

import msgspec
import torch
from asking_clips import make_clip
from measured import table, write_measured
from true_size import MB, Run, make_checkpoint, watched

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.bundle import Bundle
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.quantise.decoder_files import DecoderFiles
from edge_sdk.export.quantise.recipe import load_quantise_recipe
from edge_sdk.toolchain.exporting import ExportReport

LAYERS, KILLED_IN = 28, 4
# 10^6 bytes: the limits of the whole 7B, at any time in memory, and of its decoder on the disk.
MEMORY_MB, DECODER_MB = 4000.0, 4600.0
_LAYER = re.compile(r"decoder\.layers\.(\d+)$")
_OF_LAYER = re.compile(r"decoder\.(?:layers|scales)\.(\d+)$")
FRAMES = 2


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """A 7B to the nearest in 4 bits. `same_bytes`: layers of the interrupted run that another process wrote again."""

    anonymous_mb: float
    disk_mb: float
    decoder_mb: float
    bundle_mb: float
    killed_in: str
    reused: tuple[str, ...]
    same_bytes: dict[str, bool]
    layer_s: float
    seconds: float
    report: ExportReport


class Layers(msgspec.Struct, frozen=True, kw_only=True):
    """Two layers of the 7B by one recipe, by the tool: seconds of each layer by the clock and of processors.

    `whole_hours` are those of processors for 28 layers; `anonymous_mb` 10^6 bytes at the peak.
    """

    recipe: str
    tokens: dict[str, int]
    layers_s: tuple[float, ...]
    processor_s: tuple[float, ...]
    whole_hours: float
    anonymous_mb: float


def command(*words: object) -> list[str]:
    """The tool's command line."""
    return [str(Path(sys.executable).with_name("edge-sdk")), *map(str, words), "--json"]


def quantise_whole(folder: Path) -> Whole:
    """Make a 7B, quantise it, kill that within a layer, start it again, and write some layers once more."""
    checkpoint, out, work = folder / "checkpoint", folder / "bundle", folder / "bundle.work"
    make_checkpoint("7B", checkpoint)
    words = command("quantise", checkpoint, "--out", out, "--recipe", "w4", "--keep")
    finished = work / f"decoder.layers.{KILLED_IN - 1:02}"
    begun: list[float] = []

    def kill_when() -> bool:
        if finished.is_dir() and not begun:
            begun.append(time.monotonic())
        return bool(begun) and time.monotonic() > begun[0] + 3

    begun_s = time.monotonic()
    killed = watched(words, [out, work], kill_when)
    again = watched(words, [out, work])
    seconds = time.monotonic() - begun_s
    report = _report(again)
    layers = [spent for name, spent in report.stages.items() if _LAYER.fullmatch(name)]
    files = Bundle.open(out).manifest.files
    return Whole(
        anonymous_mb=max(killed.anonymous_mb, again.anonymous_mb),
        disk_mb=max(killed.disk_mb, again.disk_mb),
        decoder_mb=sum(e.size_bytes for name, e in files.items() if re.search(r"decoder.*weights$", name)) / MB,
        bundle_mb=sum(entry.size_bytes for entry in files.values()) / MB,
        killed_in=f"decoder.layers.{KILLED_IN:02}",
        reused=report.reused,
        same_bytes=dict(_written_again(checkpoint, {name: entry.sha256 for name, entry in files.items()}, folder)),
        layer_s=sum(layers) / len(layers),
        seconds=seconds,
        report=report,
    )


def quantise_layers(recipes: Sequence[str], size: str, folder: Path) -> list[Layers]:
    """Make two layers of a `size`, calibrate them on two clips, and quantise them by each of `recipes`."""
    checkpoint, clips, seen, quick = folder / "checkpoint", folder / "clips", folder / "seen", ["--profile", "48f"]
    make_checkpoint(size, checkpoint, layers=2)
    clips.mkdir()
    for name, seconds in (("one", 0.5), ("two", 0.3)):
        make_clip(clips / f"{name}.mp4", seconds=seconds)
    run(command("calibrate", checkpoint, "--clips", clips, "--out", seen, "--frames", FRAMES, *quick), check=True)
    tokens = json.loads((seen / "statistics.json").read_text())["tokens"]
    found = []
    for recipe in recipes:
        out = folder / recipe
        words = ["--out", out, "--recipe", recipe, "--statistics", seen, "--slots", 2048, "--dialect", "native", *quick]
        watching = watched(command("quantise", checkpoint, *words), [out])
        report = _report(watching)
        shutil.rmtree(out)
        processor_s = _by_layer(report.processor_s)
        found.append(
            Layers(
                recipe=recipe,
                tokens=tokens,
                layers_s=_by_layer(report.stages),
                processor_s=processor_s,
                whole_hours=LAYERS * sum(processor_s) / len(processor_s) / 3600,
                anonymous_mb=watching.anonymous_mb,
            )
        )
        print(found[-1], flush=True)
    return found


def _by_layer(seconds: Mapping[str, float]) -> tuple[float, ...]:
    """Seconds of each layer: its scales, where a method has them, and its weights."""
    layers: dict[int, float] = {}
    for name, spent in seconds.items():
        if part := _OF_LAYER.fullmatch(name):
            layers[int(part[1])] = layers.get(int(part[1]), 0.0) + spent
    return tuple(layers[number] for number in sorted(layers))


def _written_again(checkpoint: Path, hashes: dict[str, str], folder: Path) -> Iterator[tuple[str, bool]]:
    recipe = load_quantise_recipe("w4")
    files = DecoderFiles(Checkpoint.open(checkpoint), "float16", recipe.formats(LAYERS))
    for layer in (KILLED_IN - 1, KILLED_IN, KILLED_IN + 1, LAYERS - 1):
        path = files.layers[layer].write(folder)
        yield path.name, hashlib.sha256(path.read_bytes()).hexdigest() == hashes[f"language/{path.name}"]
        path.unlink()


def _report(run: Run) -> ExportReport:
    if run.report is None:
        raise RuntimeError("the run was killed")
    return run.report


def main(out: Path, what: str, methods: Sequence[str]) -> None:
    """Write `quantised-7b.json` or `quantised-7b-layers.json`, and the `.md` beside, to `out`."""
    watch = Watch()
    with TemporaryDirectory(prefix="quantised-size-") as folder:
        if what == "whole":
            whole = quantise_whole(Path(folder))
            write_measured(out, "quantised-7b", "A 7B to the nearest in 4 bits", watch, whole, _whole_lines(whole))
        elif what == "layers":
            layers = quantise_layers([f"w4-{method}" for method in methods or ("gptq", "awq")], "7B", Path(folder))
            title = "Two layers of a 7B by GPTQ and AWQ"
            write_measured(out, "quantised-7b-layers", title, watch, layers, _layer_lines(layers))
        else:
            raise SystemExit(f"expected whole or layers, found {what}")


def _layer_lines(found: Sequence[Layers]) -> list[str]:
    rows = [
        [
            each.recipe,
            ", ".join(f"{spent:.0f}" for spent in each.processor_s),
            ", ".join(f"{spent:.0f}" for spent in each.layers_s),
            f"{each.whole_hours:.1f}",
            f"{each.anonymous_mb:,.0f}",
        ]
        for each in found
    ]
    return [
        f"Random bfloat16 weights, INT4 in blocks of 128, by `edge-sdk quantise`; calibrated on {found[0].tokens} "
        "tokens of two clips. Hours are of one processor, 28 times a layer.",
        "",
        *table("recipe | processor s a layer | s by the clock | hours for 28 | peak memory, MB", rows),
    ]


def _whole_lines(found: Whole) -> list[str]:
    same = sum(found.same_bytes.values())
    return [
        "Random bfloat16 weights, 28 layers, INT4 in blocks of 128, head INT8, float16 scales; recipe `w4`.",
        "",
        *table(
            "what | found | limit",
            [
                ["peak memory, RssAnon + RssShmem, MB", f"{found.anonymous_mb:,.0f}", f"{MEMORY_MB:,.0f}"],
                ["decoder on the disk, MB", f"{found.decoder_mb:,.0f}", f"{DECODER_MB:,.0f}"],
                ["bundle, MB", f"{found.bundle_mb:,.0f}", ""],
                ["most on the disk beside the checkpoint, MB", f"{found.disk_mb:,.0f}", ""],
                ["a layer, s", f"{found.layer_s:.1f}", ""],
                ["all, s", f"{found.seconds:,.0f}", ""],
            ],
        ),
        "",
        f"Killed within {found.killed_in}; the second run took over {len(found.reused)} stages. Of "
        f"{len(found.same_bytes)} layers around the kill and at the end, {same} are the same bytes written alone.",
        "",
        *table("stage | s", [[name, f"{spent:.1f}"] for name, spent in found.report.stages.items()]),
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
