"""Checkpoints of the public sizes with random weights in few bits, as a user would make them, and what that took.

As a script it writes the results: `python tests/quantised_size.py OUT whole` quantises a 7B to the nearest, killed
once and started again; `OUT methods CLIPS` calibrates two layers of the 7B's widths on some clips and rounds them by
every method. Weights lie in a folder of TMPDIR that is removed behind each. The whole 7B takes 22 GB of disk.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from measured import table, write_measured
from true_size import MB, Run, make_checkpoint, watched

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.bundle import Bundle
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.quantise.decoder_files import DecoderFiles
from edge_sdk.export.quantise.recipe import load_quantise_recipe
from edge_sdk.exporting import ExportReport

LAYERS, KILLED_IN = 28, 4
# 10^6 bytes: the limits of the whole 7B, at any time in memory, and of its decoder on the disk.
MEMORY_MB, DECODER_MB = 4000.0, 4600.0
_LAYER = re.compile(r"decoder\.layers\.(\d+)$")


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
    """One recipe on two layers of the true widths; seconds a layer of work on scales and numbers, and for 28 layers."""

    recipe: str
    anonymous_mb: float
    layer_s: float
    whole_s: float
    output_error: dict[str, float]


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


def _written_again(checkpoint: Path, hashes: dict[str, str], folder: Path) -> Iterator[tuple[str, bool]]:
    recipe = load_quantise_recipe("w4")
    files = DecoderFiles(Checkpoint.open(checkpoint), "float16", recipe.formats(LAYERS))
    for layer in (KILLED_IN - 1, KILLED_IN, KILLED_IN + 1, LAYERS - 1):
        path = files.layers[layer].write(folder)
        yield path.name, hashlib.sha256(path.read_bytes()).hexdigest() == hashes[f"language/{path.name}"]
        path.unlink()


def round_by_every_method(folder: Path, clips: Path) -> list[Rounded]:
    """Two layers of the 7B's widths: calibrate on some clips, then quantise by every method."""
    checkpoint = folder / "checkpoint"
    make_checkpoint("7B", checkpoint, layers=2)
    seen = folder / "seen"
    watched_run = command("calibrate", checkpoint, "--clips", clips, "--out", seen, "--count", 4, "--frames", 4)
    calibrated = watched(watched_run, [seen]) if not seen.exists() else None
    del calibrated
    return [_rounded(folder, checkpoint, seen, name) for name in ("w4", "w4-awq", "w4-gptq")]


def _rounded(folder: Path, checkpoint: Path, seen: Path, recipe: str) -> Rounded:
    out = folder / recipe
    words = ("quantise", checkpoint, "--out", out, "--recipe", recipe, "--statistics", seen)
    run = watched(command(*words, "--slots", 2048, "--profile", "96f", "--dialect", "native"), [out])
    report = _report(run)
    spent = sum(seconds for name, seconds in report.stages.items() if re.search(r"(scales|layers)\.\d+$", name)) / 2
    evidence = json.loads((out / "quantise/evidence.json").read_text())
    errors = {each["name"]: each["output_error"] for each in evidence["matrices"] if each["output_error"] is not None}
    shutil.rmtree(out)
    return Rounded(recipe=recipe, anonymous_mb=run.anonymous_mb, layer_s=spent, whole_s=28 * spent, output_error=errors)


def _report(run: Run) -> ExportReport:
    if run.report is None:
        raise RuntimeError("the run was killed")
    return run.report


def main(out: Path, what: str, clips: Path | None) -> None:
    """Write `quantised-7b-WHAT.json` and `.md` to `out`."""
    watch = Watch()
    with TemporaryDirectory(prefix="quantised-size-") as folder:
        if what == "whole":
            whole = quantise_whole(Path(folder))
            write_measured(out, "quantised-7b", "A 7B to the nearest in 4 bits", watch, whole, _whole_lines(whole))
        else:
            found = round_by_every_method(Path(folder), clips or Path())
            title = "Two layers of the 7B's widths by every method"
            write_measured(out, "quantised-7b-methods", title, watch, found, _method_lines(found))


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


def _method_lines(found: list[Rounded]) -> list[str]:
    rows = [
        [each.recipe, f"{each.layer_s:.0f}", f"{each.whole_s / 60:.0f}", f"{each.anonymous_mb:,.0f}"] for each in found
    ]
    return table("recipe | s a layer | minutes for 28 layers | peak memory MB", rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]) if len(sys.argv) > 3 else None)
