"""The graphs of the gate, as the recipes order them, and their compilation. As a script it writes what the gate finds.

`python tests/gate_cases.py OUT [KEPT]`; results that KEPT holds are not compiled again. The exporter itself says which
graphs there are: each vision profile and number of slots of any recipe, adapters merged or switchable, at the true
widths of both sizes with two layers; and each recipe's student. A new recipe is gated without a change here.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

import msgspec
import onnx
import torch
from measured import table, write_measured
from ort_graphs import RandomWeights

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest import SCHEMA, Graph, Manifest
from edge_sdk.engine.shapes import ShapeProfile, shape_profiles
from edge_sdk.export.adapters import Adapter
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.distil.recipe import load_recipe
from edge_sdk.export.export_recipe import BASE, ExportRecipe, Order, load_export_recipe
from edge_sdk.export.gate import GateResult, compile_gate, remembered
from edge_sdk.export.graphs.student import Student
from edge_sdk.export.graphs.weight_file import WeightFile
from edge_sdk.export.language_plan import LanguagePlan
from edge_sdk.export.layouts import LINEARS
from edge_sdk.export.mini.recipe import load_recipe as load_trained
from edge_sdk.export.model_config import ModelConfig, ProjectorConfig, TextConfig, TokenIds, VisionConfig
from edge_sdk.export.parser_check import check_decomposed
from edge_sdk.export.recipe_file import RECIPES
from edge_sdk.export.student_bundle import write_student_bundle
from edge_sdk.types import Dialect

DIALECTS: tuple[Dialect, ...] = ("native", "decomposed")
MANNERS = ("merged", "switchable")
RANK = 64
TINY_VISION = VisionConfig(hidden=32, layers=2, heads=2, intermediate=64)
TRUE_VISION = VisionConfig(layers=2)
COMMON = {"layers": 2, "head_dim": 128, "vocab": 4096, "max_positions": 32768, "rope_theta": 1e6, "eps": 1e-6}
TEXTS = {
    "2B": TextConfig(hidden=1536, heads=12, kv_heads=2, intermediate=8960, tied=True, **COMMON),
    "7B": TextConfig(hidden=3584, heads=28, kv_heads=4, intermediate=18944, tied=False, **COMMON),
    "tiny": TextConfig(hidden=64, heads=4, kv_heads=2, intermediate=96, tied=False, **COMMON | {"head_dim": 16}),
}
SIZES = ("2B", "7B")


class Case(NamedTuple):
    """One graph: a size and a manner, or `student` and a recipe; its key among the exporter's; its element type."""

    size: str
    manner: str
    key: str
    dtype: str = "float16"

    @property
    def dialect(self) -> Dialect:
        return "decomposed" if self.key.endswith(".decomposed") else "native"

    @property
    def name(self) -> str:
        return "-".join(part for part in self if part != "float16")


@dataclass(frozen=True)
class Work:
    """A case as its compilation takes it; a student carries its weights inside."""

    graph: bytes
    entry: Graph
    profiles: tuple[ShapeProfile, ...]
    weights: WeightFile | None

    @property
    def weight_bytes(self) -> int:
        return self.weights.size_bytes if self.weights else len(self.graph)


def export_recipes() -> dict[str, ExportRecipe]:
    """The recipes of language bundles that come with the package, by the names of their files."""
    return {path.stem: load_export_recipe(path) for path in _recipe_files("profiles")}


def student_recipes() -> tuple[str, ...]:
    return tuple(path.stem for path in _recipe_files("shape"))


def trained_recipes() -> tuple[str, ...]:
    """The recipes by which a video LLM is trained, whose names say a size: `language-mini`."""
    return tuple(path.stem for path in _recipe_files("sizes"))


def tuning_recipes() -> tuple[str, ...]:
    """The recipes by which a student goes on learning: its graph is the one that it began with."""
    return tuple(path.stem for path in _recipe_files("rehearsal_share"))


def size_of(recipe: str) -> str:
    """The size that a recipe's name speaks of: `crashchat-2b-orin-nano` is for the 2B."""
    known = [*SIZES, *(name.removeprefix("language-") for name in trained_recipes())]
    words = recipe.split("-")
    return next(size for size in known if size.lower() in words)


def all_cases() -> tuple[Case, ...]:
    """Every graph of every recipe, and of none, each once: for both sizes, or the one that is trained."""
    orders = [(SIZES, ExportRecipe())]
    orders += [
        (SIZES if (size := size_of(name)) in SIZES else (size,), each) for name, each in export_recipes().items()
    ]
    wanted = [(size, each) for sizes, each in orders for size in sizes]
    found = [case for size, recipe in wanted for manner in MANNERS for case in _cases(size, manner, recipe)]
    return (*_students(), *dict.fromkeys(found))


def sample() -> tuple[Case, ...]:
    """The native graphs of each recipe as it stands, for the size that it names."""
    found = [
        case
        for name, recipe in export_recipes().items()
        for case in _cases(size_of(name), MANNERS[recipe.switchable], recipe)
    ]
    return tuple(case for case in (*_students(), *dict.fromkeys(found)) if case.dialect == "native")


def tiny_cases(dtype: str) -> tuple[Case, ...]:
    recipe = ExportRecipe(profiles=("96f",), slots=(2048,), dtype=cast(Any, dtype))
    return tuple(dict.fromkeys(case for manner in MANNERS for case in _cases("tiny", manner, recipe)))


def work(case: Case, folder: Path) -> Work:
    """Make the graph of `case`; `folder` is for a student's bundle."""
    if case.size == "student":
        return _student(case, folder)
    recipe = ExportRecipe(
        profiles=tuple(re.findall(r"^vision\.(\w+)", case.key)) or ExportRecipe().profiles,
        slots=tuple(map(int, re.findall(r"^decoder\.(\d+)", case.key))) or ExportRecipe().slots[:1],
        dialects=(case.dialect,),
        dtype=cast(Any, case.dtype),
    )
    plan = _plan(case.size, case.manner, recipe)
    graph, manifest = plan.graphs[case.key], manifest_of(plan)
    files = [plan.vision, *plan.projectors.values(), *(each.weights for each in plan.decoders.values())]
    (location,) = {e.value for t in graph.model.graph.initializer for e in t.external_data if e.key == "location"}
    return Work(
        graph=graph.model.SerializeToString(),
        entry=manifest.graphs[case.key],
        profiles=shape_profiles(manifest, case.key),
        weights=next(file for file in files if file.location == location),
    )


def compiled(made: Work, folder: Path, kept: Path) -> GateResult:
    """What the compiler makes of a graph; only if it is asked, weights are written to `folder`, for that long."""

    def compile_it() -> GateResult:
        path = folder / "graph.onnx"
        path.write_bytes(made.graph)
        weights = made.weights.write(folder) if made.weights else path
        try:
            return compile_gate(path, made.entry, made.profiles)
        finally:
            weights.unlink()

    return remembered(kept, made.graph, made.profiles, compile_it)


class Tuned:
    """An adapter as a plan sees one: LoRA on every linear. Its values do not decide whether a graph is taken."""

    linears = tuple(LINEARS)

    class config:  # noqa: N801  # an attribute of `Adapter`
        rank = RANK

    def fit(self, config: ModelConfig) -> None:
        """Any model will do."""


def _recipe_files(key: str) -> list[Path]:
    """The recipes that say `key`, which tells the kinds of recipes apart."""
    return [path for path in sorted(RECIPES.glob("*.toml")) if key in msgspec.toml.decode(path.read_bytes())]


def _students() -> list[Case]:
    return [Case("student", name, "student", "float32") for name in student_recipes()]


def _student(case: Case, folder: Path) -> Work:
    recipe, _ = load_recipe(case.manner)
    with torch.random.fork_rng():
        # the same weights each time, for they are inside the graph by whose hash results are kept
        torch.manual_seed(recipe.seed)
        student = Student(recipe.final_shape).eval()
    bundle: Bundle = write_student_bundle(folder / "student", student, recipe, {})
    entry, path = bundle.graph(case.key)
    return Work(path.read_bytes(), entry, shape_profiles(bundle.manifest, case.key), None)


def _cases(size: str, manner: str, recipe: ExportRecipe) -> list[Case]:
    """What an export writes; graphs that several exports have alike are one case."""
    language, merged = _plan(size, manner, recipe).component(), MANNERS[0]
    tower = SIZES[0] if size in SIZES else size
    visions = [key for profile in language.profiles.values() for key in profile.graphs.values()]
    decoders = [each.graph for decoder in language.decoders.values() for each in decoder.graphs]
    return [
        *(Case(tower, merged, key, recipe.dtype) for key in visions),
        *(Case(size, merged, f"projector.{BASE}.{dialect}", recipe.dtype) for dialect in recipe.dialects),
        *(Case(size, manner, key, recipe.dtype) for key in decoders),
    ]


@cache
def _plan(size: str, manner: str, recipe: ExportRecipe) -> LanguagePlan:
    vision, text = _shapes(size)
    config = ModelConfig(
        vision=vision,
        text=text,
        projector=ProjectorConfig(input=vision.hidden, output=text.hidden),
        tokens=TokenIds(image=1, video=1, end=(2,)),
        compression=True,
    )
    recipe = msgspec.structs.replace(recipe, switchable=manner == "switchable")
    adapters = {"linguistic": cast(Adapter, Tuned())} if recipe.switchable else {}
    pixels = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    checkpoint = cast(Checkpoint, RandomWeights(config))
    return LanguagePlan(Order(recipe=recipe, checkpoint=size), checkpoint, adapters, pixels)


def _shapes(size: str) -> tuple[VisionConfig, TextConfig]:
    if size == "tiny":
        return TINY_VISION, TEXTS[size]
    if size in SIZES:
        return TRUE_VISION, TEXTS[size]
    sizes = load_trained(f"language-{size}")[0].sizes
    widths = {"hidden": sizes.hidden, "heads": sizes.heads}
    decoder = {"kv_heads": sizes.kv_heads, "intermediate": sizes.decoder_intermediate}
    text = TextConfig(tied=True, **COMMON | widths | decoder | {"head_dim": sizes.hidden // sizes.heads})
    return VisionConfig(layers=2, intermediate=sizes.tower_intermediate, **widths), text


def manifest_of(plan: LanguagePlan) -> Manifest:
    return Manifest(
        schema=SCHEMA,
        name="gate",
        version="1",
        created_utc="",
        graphs=plan.entries(),
        language=plan.component(),
        files={},
    )


class Gated(msgspec.Struct, frozen=True, kw_only=True):
    """One graph that passed: what was made of it, and its operators with their counts."""

    name: str
    dialect: Dialect
    graph_bytes: int
    weight_bytes: int
    profiles: tuple[ShapeProfile, ...]
    result: GateResult
    operators: dict[str, int]


def gated(case: Case, folder: Path, kept: Path) -> Gated:
    """Compile one graph, and hold a decomposed one against the parser's table too. Raises `EngineError`."""
    made = work(case, folder)
    model = onnx.load_from_string(made.graph)
    if "decomposed" in made.entry.dialects:
        check_decomposed(model)
    (version,) = model.opset_import
    counts = Counter(node.op_type for node in model.graph.node)
    since = {kind: onnx.defs.get_schema(kind, version.version).since_version for kind in counts}
    return Gated(
        name=case.name,
        dialect=case.dialect,
        graph_bytes=len(made.graph),
        weight_bytes=made.weight_bytes,
        profiles=made.profiles,
        result=compiled(made, folder, kept),
        operators={f"{kind}-{since[kind]}": counts[kind] for kind in sorted(counts)},
    )


def main(out: Path, kept: Path | None = None) -> None:
    """Write `gate.json` and `gate.md` to `out`."""
    watch, found = Watch(), []
    for case in sorted(all_cases(), key=lambda case: DIALECTS.index(case.dialect)):
        with TemporaryDirectory() as folder:
            found.append(gated(case, Path(folder), kept or Path(folder) / "kept"))
        print(found[-1].name, found[-1].result, flush=True)
    what = "Graphs that TensorRT-RTX compiles ahead of time, and the operators that they are made of"
    write_measured(out, "gate", what, watch, found, _lines(found))


def _lines(found: list[Gated]) -> Iterator[str]:
    recipes = ", ".join([*export_recipes(), *student_recipes()])
    yield f"TensorRT-RTX {found[0].result.tensorrt_rtx}. What {recipes}"
    yield "and an export without a recipe order, for the sizes that each is for: true widths, two layers, 4,096 words,"
    yield f"LoRA of rank {RANK}; profiles (smallest/best/largest) are those of `edge-sdk build`. Decomposed graphs,"
    yield "and the student, are also held against the table of what the parser of TensorRT 10.3 takes."
    yield ""
    yield from table(
        "graph | profiles | graph kB | weights MB | engine MB | layers | seconds",
        (
            [
                each.name,
                "; ".join(map(profile_text, each.profiles)),
                f"{each.graph_bytes / 1e3:,.0f}",
                f"{each.weight_bytes / 1e6:,.0f}",
                f"{each.result.engine_bytes / 1e6:,.0f}",
                each.result.layers,
                f"{each.result.seconds:.1f}",
            ]
            for each in found
        ),
    )
    for dialect in DIALECTS:
        names = sorted({name for each in found if each.dialect == dialect for name in each.operators})
        yield f"\n{dialect}; all of ONNX's own domain, with the versions that define them:"
        yield f"\n{', '.join(names)}"


def profile_text(profile: ShapeProfile) -> str:
    sizes = (f"{name} {each.smallest}/{each.best}/{each.largest}" for name, each in profile.lengths.items())
    return f"{profile.name} {', '.join(sizes)}"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
