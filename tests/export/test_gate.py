"""TensorRT-RTX compiles the student ahead of time, without a GPU, and says why when it does not."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

from edge_sdk.bundle import open_bundle
from edge_sdk.bundle.manifest import Graph
from edge_sdk.engine.shapes import Lengths, Limits, ShapeProfile, shape_profiles
from edge_sdk.errors import EngineError
from edge_sdk.export.gate import GateResult, compile_gate, remembered
from edge_sdk.types import TensorSpec


def up_to(streams: int) -> ShapeProfile:
    return ShapeProfile(name="student", lengths={"streams": Lengths(smallest=1, best=1, largest=streams)})


TOY = Graph(
    file="toy.onnx",
    dialects=("native",),
    opset=18,
    inputs=(TensorSpec(name="x", dtype="float32", shape=("streams", 4)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=("streams", 4)),),
)


def write_toy(folder: Path) -> Path:
    node = helper.make_node("Relu", ["x"], ["y"])
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["streams", 4]) for name in ("x", "y")]
    model = helper.make_model(
        helper.make_graph([node], "toy", shapes[:1], shapes[1:]), opset_imports=[helper.make_opsetid("", 18)]
    )
    onnx.save(model, folder / TOY.file)
    return folder / TOY.file


def test_the_shipped_student_compiles_for_one_to_eight_streams() -> None:
    bundle = open_bundle()
    graph, path = bundle.graph("student")
    result = compile_gate(path, graph, shape_profiles(bundle.manifest, "student", Limits(streams=8)))
    assert result.engine_bytes > 0.5 * path.stat().st_size
    assert result.layers > 30


def test_an_unchanged_graph_is_compiled_once(tmp_path: Path) -> None:
    calls: list[float] = []

    def compile_it() -> GateResult:
        calls.append(1.5 * len(calls))
        return GateResult(engine_bytes=10, seconds=calls[-1], layers=3, tensorrt_rtx="1")

    one, other = up_to(2), up_to(8)
    asked = [(b"graph", [one]), (b"graph", [one]), (b"changed", [one]), (b"graph", [other]), (b"graph", [one, other])]
    found = [remembered(tmp_path / "kept", graph, profiles, compile_it).seconds for graph, profiles in asked]
    assert found == [0.0, 0.0, 1.5, 3.0, 4.5]


def test_a_refusal_is_asked_for_again(tmp_path: Path) -> None:
    def refuse() -> GateResult:
        raise EngineError("no")

    for _ in range(2):
        with pytest.raises(EngineError):
            remembered(tmp_path, b"graph", [], refuse)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_graph_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "junk.onnx"
    path.write_bytes(b"junk")
    with pytest.raises(EngineError, match=r"cannot parse .*junk\.onnx"):
        compile_gate(path, TOY, [])


def test_a_graph_is_compiled_within_its_profiles(tmp_path: Path) -> None:
    assert compile_gate(write_toy(tmp_path), TOY, [up_to(2), up_to(8)]).layers == 1


def test_a_missing_profile_is_refused_in_the_compilers_words(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="profile"):
        compile_gate(write_toy(tmp_path), TOY, [])
