"""Checkpoints of the public sizes with random weights in few bits, as a user would make them, and what that took.

As a script it writes the results: `python tests/quantised_size.py OUT whole` quantises a 7B to the nearest, killed
once and started again, in a folder of TMPDIR that is removed behind it (22 GB); `OUT layers gptq awq ...` quantises two
layers of the 7B's widths by the recipes `w4-gptq`, `w4-awq` and so on, calibrated on two clips (8 GB);
`OUT gptq|awq [LINEAR...]` times one layer by that method, a matrix at a time, on made-up activations.
"""

from __future__ import annotations

import hashlib
import json
import math
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
from torch import Tensor
from true_size import MB, SHARED, Run, make_checkpoint, watched

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.bundle import Bundle
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.graphs.decoder_io import linear_sizes
from edge_sdk.export.layouts import LINEARS
from edge_sdk.export.model_config import ModelConfig, TextConfig
from edge_sdk.export.peak_memory import PeakMemory
from edge_sdk.export.quantise.awq import awq_scales
from edge_sdk.export.quantise.decoder_files import DecoderFiles
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.gptq import gptq, output_error
from edge_sdk.export.quantise.recipe import load_quantise_recipe
from edge_sdk.export.quantise.rounding import restored, rounded, scales_of
from edge_sdk.toolchain.exporting import ExportReport

LAYERS, KILLED_IN, TOKENS = 28, 4, 2048
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


class Rounded(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of the 7B by one method: seconds by matrix and of the layer, hours for 28, 10^6 bytes at the peak.

    Seconds are those of one core. `output_errors` are those of the products on the calibration set, and
    `nearest_errors` those of the nearest.
    """

    method: str
    tokens: int
    seconds: dict[str, float]
    layer_s: float
    whole_hours: float
    anonymous_mb: float
    output_errors: dict[str, float]
    nearest_errors: dict[str, float]


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


def round_layer(method: str, linears: Sequence[str]) -> Rounded:
    """One layer of the 7B's widths, `linears` of it by GPTQ, or what AWQ scales before them, on random activations.

    Inputs are those of a model in so far as a few directions hold most of them: normal values in a twentieth of the
    directions and a tenth as much in all.
    """
    form, seconds, errors, nearest = (
        Format(bits=4, block=128),
        dict[str, float](),
        dict[str, float](),
        dict[str, float](),
    )
    config = _text_7b()
    sizes = {linear: linear_sizes(config)[linear] for linear in linears}
    grams: dict[int, Tensor] = {}
    with PeakMemory() as memory:
        for linear, (inputs, outputs) in sizes.items():
            if inputs not in grams:
                grams.clear()
                grams[inputs] = _gram(inputs)
            gram = grams[inputs]
            matrix = torch.randn(inputs, outputs, generator=torch.Generator().manual_seed(outputs)) * 0.02
            whole, scales = output_error(matrix, gram), scales_of(matrix, form, torch.float16)
            error = output_error(restored(rounded(matrix, scales, form), scales, form) - matrix, gram)
            nearest[linear] = math.sqrt(error / whole)
            begun_s = time.process_time()
            if method == "gptq":
                found = restored(*gptq(matrix, gram, form, torch.float16, ordered=True), form) - matrix
            else:
                magnitude = (gram.diagonal() / TOKENS).sqrt()
                s = awq_scales({linear: matrix}, gram, magnitude, {linear: form}, torch.float16)[:, None]
                steps = scales_of(matrix * s, form, torch.float16)
                found = restored(rounded(matrix * s, steps, form), steps, form) / s - matrix
            seconds[linear] = time.process_time() - begun_s
            errors[linear] = math.sqrt(output_error(found, gram) / whole)
    return Rounded(
        method=method,
        tokens=TOKENS,
        seconds=seconds,
        layer_s=sum(seconds.values()),
        whole_hours=LAYERS * sum(seconds.values()) / 3600,
        anonymous_mb=memory.mb or 0.0,
        output_errors=errors,
        nearest_errors=nearest,
    )


def _gram(inputs: int) -> Tensor:
    generator = torch.Generator().manual_seed(inputs)
    few = torch.randn(TOKENS, inputs // 20, generator=generator)
    rows = few @ torch.randn(inputs // 20, inputs, generator=generator) / math.sqrt(inputs // 20)
    rows += 0.1 * torch.randn(TOKENS, inputs, generator=generator)
    return rows.T @ rows


def _text_7b() -> TextConfig:
    with TemporaryDirectory() as folder:
        published = SHARED / "videollama3-configs" / "DAMO-NLP-SG__VideoLLaMA3-7B__config.json"
        shutil.copy(published, Path(folder) / "config.json")
        return ModelConfig.read(Path(folder)).text


def _report(run: Run) -> ExportReport:
    if run.report is None:
        raise RuntimeError("the run was killed")
    return run.report


def main(out: Path, what: str, linears: Sequence[str]) -> None:
    """Write `quantised-7b.json` or, for a method, `quantised-7b-METHOD.json`, and the `.md` beside, to `out`."""
    watch = Watch()
    if what == "whole":
        with TemporaryDirectory(prefix="quantised-size-") as folder:
            whole = quantise_whole(Path(folder))
        write_measured(out, "quantised-7b", "A 7B to the nearest in 4 bits", watch, whole, _whole_lines(whole))
        return
    if what == "layers":
        with TemporaryDirectory(prefix="quantised-size-") as folder:
            layers = quantise_layers([f"w4-{method}" for method in linears or ("gptq", "awq")], "7B", Path(folder))
        write_measured(
            out, "quantised-7b-layers", "Two layers of a 7B by GPTQ and AWQ", watch, layers, _layer_lines(layers)
        )
        return
    found = round_layer(what, linears or tuple(LINEARS))
    title = f"A layer of the 7B in 4 bits by {what.upper()}"
    write_measured(out, f"quantised-7b-{what}", title, watch, found, _method_lines(found))


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


def _method_lines(found: Rounded) -> list[str]:
    rows = [
        [name, f"{spent:.1f}", f"{100 * found.output_errors[name]:.2f} %", f"{100 * found.nearest_errors[name]:.2f} %"]
        for name, spent in found.seconds.items()
    ]
    return [
        f"Random weights, INT4 in blocks of 128, activations of {found.tokens:,} random tokens, most of them in a "
        f"twentieth of the directions; seconds of one core. A layer takes {found.layer_s:.0f} s, 28 of them "
        f"{found.whole_hours:.1f} hours; peak memory {found.anonymous_mb:,.0f} MB.",
        "",
        *table("linear | s | error of products | of the nearest", rows),
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
