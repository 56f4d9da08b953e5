"""Graphs of every shipped quantise recipe, and their compilation for the GPUs that have a compiler here.

`python tests/quantised_gate_cases.py OUT [KEPT]` writes what the compiler makes of them; what KEPT holds is not
compiled again. Graphs are those that `edge-sdk quantise` writes, with LoRA matrices beside the decoder, in both
dialects, at the true widths of the 2B with two layers. Each is compiled as the compiler does by default and for every
target's compute capability that it knows and the recipe does not rule out; a new recipe or target is gated without a
change here. How numbers are worked out does not change a graph, so each is rounded to the nearest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple, cast

import msgspec
import torch
from gate_cases import DIALECTS, TEXTS, TRUE_VISION, Tuned, manifest_of, profile_text
from measured import table, write_measured
from ort_graphs import RandomWeights
from safetensors.torch import save_file

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.bundle.manifest import Graph
from edge_sdk.engine.shapes import ShapeProfile, shape_profiles
from edge_sdk.engine.tensorrt_library import open_tensorrt
from edge_sdk.errors import EngineError
from edge_sdk.export.adapters import Adapter
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.export_recipe import BASE, ExportRecipe, Order
from edge_sdk.export.gate import GateResult, compile_gate, remembered
from edge_sdk.export.graphs.onnx_graph import ModelGraph
from edge_sdk.export.model_config import ModelConfig, ProjectorConfig, TokenIds
from edge_sdk.export.parser_check import check_decomposed
from edge_sdk.export.quantise.activations.vision_statistics import FILE
from edge_sdk.export.quantise.plan import QuantisedPlan
from edge_sdk.export.quantise.recipe import RECIPES, QuantiseRecipe, load_quantise_recipe
from edge_sdk.export.quantise.statistics import Group, Statistics, widths
from edge_sdk.export.quantise.stored_file import StoredFile
from edge_sdk.export.trt_network import compute_capabilities
from edge_sdk.hardware import TARGETS
from edge_sdk.hardware.roofline import PRECISIONS
from edge_sdk.types import Dialect

Part = Literal["decoder", "vision"]
SLOTS = 4096
# Two layers of the 2B as it is, and the smallest that blocks of 128 fill.
SIZES = {
    "2B": (TRUE_VISION, TEXTS["2B"]),
    "small": (
        msgspec.structs.replace(TRUE_VISION, layers=1, hidden=128, heads=2, intermediate=256),
        msgspec.structs.replace(TEXTS["2B"], hidden=128, heads=4, head_dim=32, intermediate=512, vocab=256),
    ),
}


class Case(NamedTuple):
    """One graph: a size, a recipe, one of its models, a dialect; the GPU that it is for, None for the default."""

    size: str
    recipe: str
    part: Part
    dialect: Dialect
    sm: int | None = None

    @property
    def name(self) -> str:
        return "-".join([*self[:4], f"sm{self.sm}" if self.sm else "default"])


@dataclass(frozen=True)
class Work:
    """A case as its compilation takes it."""

    graph: ModelGraph
    entry: Graph
    profiles: tuple[ShapeProfile, ...]
    files: tuple[StoredFile, ...]

    @property
    def weight_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def few_bytes(self) -> int:
        """Those of what is in few bits, without scales."""
        parts = [place.part for file in self.files for place in file.places.values()]
        return sum(part.size_bytes for part in parts if part.type in ("int4", "int8", "fp8"))


class Seen:
    """Statistics of a calibration that has seen the same everywhere; `folder` holds those of the vision tower."""

    def __init__(self, config: ModelConfig, folder: Path) -> None:
        self.folder, self._widths = folder, widths(config.text)
        vision = config.vision
        inputs = {"qkv": vision.hidden, "out": vision.hidden, "fc1": vision.hidden, "fc2": vision.intermediate}
        found = {f"{n:02}.{group}": torch.full((w,), 3.0) for n in range(vision.layers) for group, w in inputs.items()}
        save_file(found, folder / FILE)

    def check(self, *given: object) -> None:
        """Any model will do."""

    def group(self, decoder: str, layer: int, group: str) -> Group:
        width = self._widths[group]
        return Group(torch.eye(width), torch.ones(width), torch.full((width,), 4.0))


@cache
def known_sms() -> tuple[int, ...]:
    """The compute capabilities times ten that TensorRT-RTX compiles for here."""
    return tuple(sorted(compute_capabilities(open_tensorrt("rtx").module)))


def recipes() -> dict[str, QuantiseRecipe]:
    """Every recipe of a language model that comes with the package."""
    return {path.stem: load_quantise_recipe(path.stem) for path in sorted(RECIPES.glob("*.toml"))}


def takes(recipe: QuantiseRecipe, sm: int | None) -> bool:
    """Whether the SDK says that compilers make what a recipe orders for a GPU of compute capability `sm` / 10."""
    return sm is None or all(PRECISIONS[precision].smallest_sm <= sm for precision in recipe.precisions)


def cases(size: str, sms: Sequence[int | None]) -> tuple[Case, ...]:
    """Every graph that holds few bits, of every recipe, for each of `sms` that a recipe does not rule out."""
    return tuple(
        Case(size, name, part, dialect, sm)
        for name, recipe in recipes().items()
        for part in _parts(recipe)
        for dialect in DIALECTS
        for sm in sms
        if takes(recipe, sm)
    )


def true_cases() -> tuple[Case, ...]:
    """Those of the 2B's widths: by default, and for each target that the compiler knows."""
    targets = {target.sm for target in TARGETS} & {*known_sms()}
    return cases("2B", [None, *sorted(sm for sm in targets if sm)])


def work(case: Case, folder: Path) -> Work:
    """Make the graph of `case`; `folder` is for what a calibration would have seen."""
    plan = _plan(case, folder)
    graphs, manifest = plan.graphs, manifest_of(plan)
    (key,) = (key for key in graphs if key.startswith(case.part))
    few = plan.few_vision
    files = plan.files[BASE].files if case.part == "decoder" else (few.file,) if few else ()
    return Work(graphs[key], manifest.graphs[key], shape_profiles(manifest, key), tuple(files))


def compiled(case: Case, folder: Path, kept: Path) -> tuple[Work, GateResult]:
    """Compile one graph, and hold a decomposed one against the parser's table too. Raises `EngineError`."""
    made = work(case, folder)
    if case.dialect == "decomposed":
        check_decomposed(made.graph.model)

    def compile_it() -> GateResult:
        path = folder / "graph.onnx"
        made.graph.save(path)
        for file in made.files:
            file.write(folder)
        return compile_gate(path, made.entry, made.profiles, case.sm)

    return made, remembered(kept, made.graph.model.SerializeToString(), made.profiles, compile_it, case.sm)


def _parts(recipe: QuantiseRecipe) -> Iterator[Part]:
    yield "decoder"
    if recipe.vision.format():
        yield "vision"


def _plan(case: Case, folder: Path) -> QuantisedPlan:
    vision, text = SIZES[case.size]
    config = ModelConfig(
        vision=vision,
        text=text,
        projector=ProjectorConfig(input=vision.hidden, output=text.hidden),
        tokens=TokenIds(image=1, video=1, end=(2,)),
        compression=True,
    )
    order = ExportRecipe(profiles=("96f",), slots=(SLOTS,), dialects=(case.dialect,), switchable=True)
    return QuantisedPlan(
        Order(recipe=order, checkpoint=case.size),
        cast(Checkpoint, RandomWeights(config)),
        {"linguistic": cast(Adapter, Tuned())},
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        recipe=msgspec.structs.replace(load_quantise_recipe(case.recipe), rounding="nearest", scaling="none"),
        work=folder,
        statistics=cast(Statistics, Seen(config, folder)),
    )


class Gated(msgspec.Struct, frozen=True, kw_only=True):
    """One graph that passed: what was made of it."""

    name: str
    weight_bytes: int
    profiles: tuple[ShapeProfile, ...]
    result: GateResult


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the compiler takes a recipe's small graphs for a GPU, by what it says when it does not; and the SDK."""

    recipe: str
    sm: int
    refused: str | None
    sdk_takes: bool


def asked(recipe: str, sm: int, folder: Path) -> Taken:
    """Ask the compiler for small graphs of a recipe, whatever the SDK says of it."""
    settings, said = recipes()[recipe], None
    for part in _parts(settings):
        case = Case("small", recipe, part, "native", sm)
        try:
            compiled(case, folder, folder / "kept")
        except EngineError as error:
            said = str(error)
    return Taken(recipe=recipe, sm=sm, refused=said, sdk_takes=takes(settings, sm))


def main(out: Path, kept: Path | None = None) -> None:
    """Write `gate-quantised.json` and `.md` to `out`."""
    watch, found, taken = Watch(), [], []
    with TemporaryDirectory() as root:
        for number, case in enumerate(true_cases()):
            folder = Path(root) / str(number)
            folder.mkdir()
            with TemporaryDirectory(dir=root) as each:
                made, result = compiled(case, Path(each), kept or Path(root) / "kept")
            found.append(Gated(name=case.name, weight_bytes=made.weight_bytes, profiles=made.profiles, result=result))
            print(case.name, result, flush=True)
        for recipe in recipes():
            for sm in known_sms():
                with TemporaryDirectory(dir=root) as each:
                    taken.append(asked(recipe, sm, Path(each)))
    what = "Graphs of every quantise recipe that TensorRT-RTX compiles ahead of time"
    write_measured(out, "gate-quantised", what, watch, {"compiled": found, "taken": taken}, _lines(found, taken))


def _lines(found: Sequence[Gated], taken: Sequence[Taken]) -> Iterator[str]:
    yield f"TensorRT-RTX {found[0].result.tensorrt_rtx}. True widths of the 2B, two layers, 4,096 words, {SLOTS:,}"
    yield "slots, LoRA of rank 64 beside; profiles are those of `edge-sdk build`. Recipes that differ in how numbers"
    yield "are worked out give one graph, and have one result. Decomposed graphs are also held against the table of"
    yield "TensorRT 10.3."
    yield ""
    yield from table(
        "graph | weights MB | engine MB | layers | seconds",
        (
            [
                each.name,
                f"{each.weight_bytes / 1e6:,.0f}",
                f"{each.result.engine_bytes / 1e6:,.0f}",
                each.result.layers,
                f"{each.result.seconds:.1f}",
            ]
            for each in found
        ),
    )
    profiles = {each.name.split("-")[-3]: "; ".join(map(profile_text, each.profiles)) for each in found}
    yield from (f"\n{part}: {text}" for part, text in profiles.items())
    yield "\nWhich GPUs the compiler takes a recipe for, asked with small graphs in the native dialect; what it refuses"
    yield "`edge-sdk quantise --target` and `edge-sdk build` refuse first.\n"
    names = list(dict.fromkeys(each.recipe for each in taken))
    sms = sorted({each.sm for each in taken})
    held = {(each.recipe, each.sm): "no" if each.refused else "yes" for each in taken}
    yield from table(
        " | ".join(["recipe", *(f"sm_{sm}" for sm in sms)]),
        ([name, *(held[name, sm] for sm in sms)] for name in names),
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
