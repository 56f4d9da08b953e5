"""TensorRT-RTX compiles what every quantise recipe makes, and refuses only what the SDK has refused before.

CI compiles small graphs; `make gate` those of the 2B's widths, for each target that the compiler knows. What was
compiled is remembered in pytest's cache by the graph's hash.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

from quantise_cases import DIALECTS
from quantised_gate_cases import Case, asked, cases, compiled, known_sms, true_cases
from student_cases import small_bundle, small_student

from edge_sdk.bundle.manifest import Graph
from edge_sdk.engine.shapes import Lengths, ShapeProfile
from edge_sdk.engine.tensorrt_library import open_tensorrt
from edge_sdk.export.gate import compile_gate
from edge_sdk.export.quantise.recipe import RECIPES
from edge_sdk.export.quantise.student.integers import with_integers
from edge_sdk.export.quantise.student.layers import rounded_values, student_layers
from edge_sdk.export.trt_network import parse

ALL, TRUE = cases("small", [None]), true_cases()
# Kernels and constants beside the weights.
CODE_BYTES = 10_000_000


@pytest.fixture
def gate_cache(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    kept = getattr(request.config, "cache", None)
    return kept.mkdir("edge-gate") if kept else tmp_path


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_small_graphs_of_every_recipe_compile(case: Case, tmp_path: Path, gate_cache: Path) -> None:
    made, result = compiled(case, tmp_path, gate_cache)
    assert result.engine_bytes > made.few_bytes


@pytest.mark.slow
@pytest.mark.parametrize("case", TRUE, ids=lambda case: case.name)
def test_every_recipe_compiles_at_true_widths_for_every_target_that_has_a_compiler(
    case: Case, tmp_path: Path, gate_cache: Path
) -> None:
    made, result = compiled(case, tmp_path, gate_cache)
    # An engine carries its weights once, in the few bits that they have.
    assert made.few_bytes < result.engine_bytes < 1.3 * made.weight_bytes + CODE_BYTES


@pytest.mark.parametrize("recipe", ["w4", "w8", "w8a8", "fp8"])
def test_what_the_compiler_refuses_is_what_we_refuse(recipe: str, tmp_path: Path) -> None:
    smallest = {"w4": 80, "fp8": 89}.get(recipe, 0)
    wanted = [sm for sm in known_sms() if sm < smallest]
    for sm in [*wanted[-1:], min(sm for sm in known_sms() if sm >= smallest)]:
        folder = tmp_path / str(sm)
        folder.mkdir()
        taken = asked(recipe, sm, folder)
        assert (taken.refused is None) == taken.sdk_takes == (sm not in wanted)
        assert taken.refused is None or "HW-specific datatypes" in taken.refused


def test_the_gate_has_every_recipe_dialect_and_target() -> None:
    names = {path.stem for path in RECIPES.glob("*.toml")}
    assert {case.recipe for case in ALL} == {case.recipe for case in TRUE} == names
    for recipe in names:
        mine = {(case.dialect, case.sm) for case in TRUE if case.recipe == recipe and case.part == "decoder"}
        sms = (None, 89, 120) if recipe == "fp8" else (None, 86, 89, 120)
        assert mine == {(dialect, sm) for dialect in DIALECTS for sm in sms}
    towers = {case.recipe for case in TRUE if case.part == "vision"}
    assert towers == {"w8a8", "vision-int8", "fp8"}


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, dict[str, Path]]:
    """A student of 8 bits in both forms."""
    folder = tmp_path_factory.mktemp("student")
    bundle = small_bundle(folder / "bundle", small_student())
    graph, path = bundle.graph("student")
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    layers = student_layers(model)
    ranges = {name: (-1.0 if name.startswith(("conv", "frames")) else 0.0, 2.0) for name in rounded_values(layers)}
    paths = {}
    for name, unsigned in (("student", False), ("cpu", True)):
        paths[name] = folder / f"{name}.onnx"
        onnx.save(with_integers(model, layers, ranges, unsigned=unsigned), paths[name])
    return graph, paths


def test_a_student_of_8_bits_compiles(student: tuple[Graph, dict[str, Path]]) -> None:
    graph, paths = student
    lengths = {"streams": Lengths(smallest=1, best=1, largest=4)}
    result = compile_gate(paths["student"], graph, [ShapeProfile(name="student", lengths=lengths)])
    assert result.layers > 100


def test_tensorrt_reads_unsigned_numbers_as_signed_which_is_why_a_cpu_has_its_own_graph(
    student: tuple[Graph, dict[str, Path]],
) -> None:
    rtx = open_tensorrt("rtx")
    native = parse(rtx, student[1]["cpu"])
    layers = [native.native.get_layer(index) for index in range(native.native.num_layers)]
    kinds = {layer.get_output(0).dtype for layer in layers if layer.type == rtx.module.LayerType.QUANTIZE}
    assert kinds == {rtx.module.int8}
