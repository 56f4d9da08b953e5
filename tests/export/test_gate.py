"""TensorRT-RTX compiles the student ahead of time, without a GPU, and says why when it does not."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

from edge_sdk.errors import EngineError
from edge_sdk.export.gate import GateResult, compile_gate, profiles_for, remembered
from edge_sdk.export.graphs.student import Student, StudentShape
from edge_sdk.export.graphs.student_onnx import export_student

STREAMS = {"streams": (1, 1, 8)}
SHAPE = StudentShape(attentive=True)


def test_the_student_compiles_for_one_to_eight_streams(tmp_path: Path) -> None:
    graph = export_student(Student(SHAPE).eval(), 192, 320)
    path = tmp_path / "student.onnx"
    path.write_bytes(graph.onnx)
    result = compile_gate(path, profiles_for({spec.name: spec.shape for spec in graph.inputs}, STREAMS))
    weights = sum(parameter.numel() for parameter in Student(SHAPE).parameters())
    assert result.engine_bytes > 2 * weights
    assert result.layers > 30


def test_an_unchanged_graph_is_compiled_once(tmp_path: Path) -> None:
    calls: list[float] = []

    def compile_it() -> GateResult:
        calls.append(1.5 * len(calls))
        return GateResult(engine_bytes=10, seconds=calls[-1], layers=3, tensorrt_rtx="1")

    one, other = (profiles_for({"x": ("streams", 4)}, {"streams": (1, 1, most)}) for most in (2, 8))
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
        compile_gate(path, {})


def test_a_missing_profile_is_refused_in_the_compilers_words(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["streams", 4]) for name in ("x", "y")]
    model = helper.make_model(
        helper.make_graph([node], "toy", shapes[:1], shapes[1:]), opset_imports=[helper.make_opsetid("", 18)]
    )
    path = tmp_path / "toy.onnx"
    onnx.save(model, path)
    with pytest.raises(EngineError, match="profile"):
        compile_gate(path, {})


def test_named_sizes_take_their_range_and_the_others_stay() -> None:
    profile = profiles_for({"x": ("streams", 3, 5)}, STREAMS)["x"]
    assert (profile.smallest, profile.best, profile.largest) == ((1, 3, 5), (1, 3, 5), (8, 3, 5))
