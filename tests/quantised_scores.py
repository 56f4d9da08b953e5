"""The six tasks by a bundle in full weights and by recipes of few bits: what each costs in scores, and its size.

As a script: `python tests/quantised_scores.py OUT NAME WORK PLAIN CHECKPOINTS SEEN HELD_OUT [COUNT [RECIPE...]]` writes
`quantise-scores-NAME.json` and `.md` to OUT. PLAIN is the bundle in full weights that was exported from CHECKPOINTS, a
folder with `base` and an adapter in every other folder; SEEN are clips to calibrate on, HELD_OUT rendered scenes with
their truths, of which COUNT are answered. RECIPE is a shipped one or a file; `w4-gptq@0.02` is `w4-gptq` with `--max-kl
0.02`, `w4-gptq-recovered+DIR` has LoRA inputs trained on the clips in DIR.
Bundles are made by the command line, as a user would, and scored as `edge-sdk bundle score` scores them; the plain one
answers once. What is in WORK already is used again, so that another PLAIN needs another WORK.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from subprocess import PIPE, run
from typing import Any

import msgspec
from measured import table, write_measured

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.bundle import Bundle
from edge_sdk.bundle.proof import Scores
from edge_sdk.export.quantise.recipe import load_quantise_recipe
from edge_sdk.toolchain.scoring import add_scores, answer_scenes

ROOT = Path(__file__).parents[1]
RECIPES = ("w4", "w4-gptq", "w4-awq-gptq", "w8", "w8-gptq", "w8a8", "vision-int8")
# The shipped recipes' block, and the largest that fills the widths of a small stand-in: 192 and 448.
BLOCK, SMALL_BLOCK = 128, 64
CALIBRATED_ON = 64
# What the table shows, of all that the evidence holds.
SHOWN = (
    ("recognition", "macro_f1"),
    ("recognition", "yes_f1"),
    ("crash_interval", "miou"),
    ("pre_crash_time", "miou"),
    ("description", "rougeL_f"),
    ("cause", "rougeL_f"),
    ("prevention", "rougeL_f"),
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One recipe: 10^6 bytes of its bundle, of its decoder and vision tower, and its scores beside the plain ones."""

    recipe: str
    bundle_mb: float
    weights_mb: float
    kl: float | None
    scores: Scores


def command(*words: object) -> Any:
    """The last line of the tool's output, which is one JSON document."""
    tool = str(Path(sys.executable).with_name("edge-sdk"))
    return json.loads(
        run([tool, *map(str, words), "--json"], stdout=PIPE, check=True, text=True).stdout.splitlines()[-1]
    )


def weights_mb(bundle: Bundle) -> float:
    """10^6 bytes of a bundle's decoder and vision tower."""
    files = bundle.manifest.files
    names = [name for name in files if name.startswith(("language/decoder", "language/vision"))]
    return sum(files[name].size_bytes for name in names if name.endswith(".weights")) / 1e6


def bundle_mb(bundle: Bundle) -> float:
    """10^6 bytes of all of a bundle's files."""
    return sum(entry.size_bytes for entry in bundle.manifest.files.values()) / 1e6


def compare(
    plain: Bundle, checkpoints: Path, seen: Path, held_out: Path, count: int | None, recipes: Sequence[str], work: Path
) -> list[Row]:
    """Calibrate once, then quantise by each recipe and score it."""
    adapters = sorted(path for path in checkpoints.iterdir() if path.is_dir() and path.name != "base")
    model = [checkpoints / "base", "--export", plain.manifest.provenance["recipe"]["name"]]
    model += [word for path in adapters for word in ("--adapter", f"{path.name}={path}")]
    if not (work / "seen").exists():
        command("calibrate", *model, "--clips", seen, "--out", work / "seen", "--count", CALIBRATED_ON)
    said = answer_scenes(plain, held_out, count=count)
    score = partial(add_scores, before=plain, clips=held_out, count=count, said_before=said)
    return [_row(plain, model, score, recipe, work) for recipe in recipes]


def _row(plain: Bundle, model: list[object], score: Callable[[Bundle], Scores], recipe: str, work: Path) -> Row:
    recipe, _, clips = recipe.partition("+")
    name, _, most = recipe.partition("@")
    recipe = Path(recipe).name
    out, told = work / recipe, _recipe_file(name, work)
    words: list[object] = ["--out", out, "--recipe", told, "--student", plain.folder, "--statistics", work / "seen"]
    words += ["--max-kl", most] if most else []
    words += ["--clips", clips] if clips else []
    if not out.exists():
        command("quantise", *model, *words)
    bundle = Bundle.open(out)
    evidence = json.loads(bundle.path("quantise/evidence.json").read_text())
    kl = [each["change"]["mean_kl"] for each in evidence["probes"].values()]
    row = Row(
        recipe=recipe,
        bundle_mb=bundle_mb(bundle),
        weights_mb=weights_mb(bundle),
        kl=sum(kl) / len(kl) if kl else None,
        scores=score(bundle),
    )
    print(" | ".join([recipe, *_cells(row)]), flush=True)
    return row


def _recipe_file(recipe: str, work: Path) -> Path:
    """The shipped recipe in blocks that fill the stand-in's widths, or a file as it is."""
    load_quantise_recipe(recipe)
    if recipe.endswith(".toml"):
        return Path(recipe)
    text = (ROOT / "export/quantise/recipes" / f"{recipe}.toml").read_text(encoding="utf-8")
    path = work / f"{recipe}.toml"
    path.write_text(text.replace(f"block = {BLOCK}", f"block = {SMALL_BLOCK}"), encoding="utf-8")
    return path


def lines(plain: Bundle, rows: Sequence[Row]) -> list[str]:
    """The table, in points of 100; `before -> after`."""
    first = rows[0].scores
    cells = [[row.recipe, f"{row.bundle_mb:.2f}", f"{row.weights_mb:.2f}", *_cells(row)] for row in rows]
    names = " | ".join(f"{task} {score}" for task, score in SHOWN)
    return [
        f"{plain.manifest.name}, {bundle_mb(plain):.2f} MB ({weights_mb(plain):.2f} MB of decoder and vision tower) in "
        f"{plain.manifest.language.dtype if plain.manifest.language else ''}; {first.clips} held-out rendered clips, "
        f"{first.answers} answers. Calibrated on {CALIBRATED_ON} other clips; blocks of {SMALL_BLOCK} where the recipe "
        f"says {BLOCK}. Scores before -> after, change in points of 100; KL in nats a token on clips that the "
        "calibration kept out. Products are in floats, as an engine makes them.",
        "",
        *table(f"recipe | bundle MB | decoder + vision MB | {names} | same answers | KL", cells),
    ]


def _cells(row: Row) -> list[str]:
    found = {(each.task, each.score): each for each in row.scores.rows}
    cells = []
    for key in SHOWN:
        each = found.get(key)
        if each is None or each.before is None or each.after is None:
            cells.append("-")
        else:
            cells.append(f"{each.before:.3f} -> {each.after:.3f} ({100 * (each.after - each.before):+.1f})")
    same = f"{row.scores.equal_answers}/{row.scores.answers}"
    return [*cells, same, "-" if row.kl is None else f"{row.kl:.3g}"]


def main(out: Path, name: str, words: Sequence[str]) -> None:
    """See the module."""
    work, plain, checkpoints, seen, held_out, *rest = words
    count, recipes = (int(rest[0]) if rest else None), (rest[1:] or RECIPES)
    bundle, watch = Bundle.open(plain), Watch()
    Path(work).mkdir(parents=True, exist_ok=True)
    rows = compare(bundle, Path(checkpoints), Path(seen), Path(held_out), count, recipes, Path(work))
    title = "Six tasks before and after quantisation"
    write_measured(out, f"quantise-scores-{name}", title, watch, rows, lines(bundle, rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
