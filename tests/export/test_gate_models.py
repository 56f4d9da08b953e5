"""The gate: every graph that the recipes order, at true widths with two layers, before it meets a board.

Graphs are compiled ahead of time by TensorRT-RTX, decomposed ones also held against what TensorRT 10.3 parses. Tests
compile what the recipes order as they stand, in the native dialect; `make gate` compiles all. What was compiled is
remembered in pytest's cache by the graph's hash.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

from gate_cases import (
    DIALECTS,
    MANNERS,
    SIZES,
    Case,
    all_cases,
    compiled,
    export_recipes,
    sample,
    size_of,
    student_recipes,
    tiny_cases,
    trained_recipes,
    tuning_recipes,
    work,
)

from edge_sdk.export.parser_check import check_decomposed
from edge_sdk.export.recipe_file import RECIPES

ALL, SAMPLE = all_cases(), sample()
CODE_BYTES = 10_000_000


@pytest.fixture
def gate_cache(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    kept = getattr(request.config, "cache", None)
    return kept.mkdir("edge-gate") if kept else tmp_path


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=() if case in SAMPLE else pytest.mark.slow) for case in ALL],
)
def test_every_graph_compiles(tmp_path: Path, gate_cache: Path, case: Case) -> None:
    made = work(case, tmp_path)
    result = compiled(made, tmp_path, gate_cache)
    # An engine carries its weights once, whatever the number of profiles, and some megabytes of code.
    assert 0.5 * made.weight_bytes < result.engine_bytes < 1.3 * made.weight_bytes + CODE_BYTES


@pytest.mark.parametrize("case", [case for case in ALL if case.dialect == "decomposed"], ids=lambda case: case.name)
def test_every_decomposed_graph_is_taken_by_tensorrt_10_3(tmp_path: Path, case: Case) -> None:
    check_decomposed(onnx.load_from_string(work(case, tmp_path).graph))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_tiny_graphs_compile_in_every_type(tmp_path: Path, gate_cache: Path, dtype: str) -> None:
    cases = tiny_cases(dtype)
    assert len(cases) == len(DIALECTS) * (2 + len(MANNERS))
    for case in cases:
        assert compiled(work(case, tmp_path), tmp_path, gate_cache).layers > 10


def test_the_gate_has_every_bucket_profile_and_recipe() -> None:
    keys = {case.key.rpartition(".")[0] for case in ALL}
    recipes = export_recipes()
    assert keys >= {f"decoder.{slots}" for recipe in recipes.values() for slots in recipe.slots}
    assert keys >= {f"vision.{profile}" for recipe in recipes.values() for profile in recipe.profiles}
    decoders = {case[:3] for case in ALL if case.key.startswith("decoder.4096.")}
    assert len(decoders) == len(SIZES) * len(MANNERS) * len(DIALECTS)
    known = {*recipes, *student_recipes(), *trained_recipes(), *tuning_recipes()}
    assert known == {path.stem for path in RECIPES.glob("*.toml")}
    assert {size_of(name) for name in recipes} <= {case.size for case in ALL if case.key.startswith("decoder.")}
    assert {*SAMPLE} < {*ALL}


def test_graphs_are_compiled_for_the_lengths_of_the_build(tmp_path: Path) -> None:
    case = next(case for case in ALL if case.key == "decoder.4096.native" and case.manner == "switchable")
    made = work(case, tmp_path)
    largest = [{name: each.largest for name, each in profile.lengths.items()} for profile in made.profiles]
    assert largest == [{"q": 8, "r": 8}, {"q": 128, "r": 8}]
    assert {spec.shape[2] for spec in made.entry.inputs if spec.name.startswith("past_")} == {4096}
