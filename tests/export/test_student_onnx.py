"""The exported student against the torch module, run by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from edge_sdk.export.graphs.student import SCORES, Student, StudentShape
from edge_sdk.export.graphs.student_onnx import StudentGraph, export_student
from edge_sdk.export.graphs.views import View
from edge_sdk.runtime import Array

HEIGHT, WIDTH = 64, 96
# Every operator here is older than opset 18, so the graph keeps to both dialects.
PLAIN = {"Add", "Concat", "Conv", "Gemm", "MatMul", "ReduceMax", "ReduceMean", "Relu", "Reshape", "Sigmoid", "Slice"}
PLAIN |= {"Resize", "Shape", "Softmax", "Squeeze", "Transpose", "Unsqueeze"}


@pytest.fixture(scope="module")
def student() -> Student:
    torch.manual_seed(2)
    views = (View(), View(mirrored=True), View(zoom=1.5))
    model = Student(StudentShape(stages=(16, 16, 32, 32), features=32, attentive=True, views=views))
    with torch.no_grad():
        model(torch.randn(4, 8, 3, HEIGHT, WIDTH))
    return model.eval()


@pytest.fixture(scope="module")
def graph(student: Student) -> StudentGraph:
    return export_student(student, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def session(graph: StudentGraph) -> ort.InferenceSession:
    return ort.InferenceSession(graph.onnx, providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, feeds: dict[str, Array]) -> dict[str, Array]:
    return dict(zip((output.name for output in session.get_outputs()), session.run(None, feeds), strict=True))


def test_names_and_shapes_are_those_of_the_contract(graph: StudentGraph, session: ort.InferenceSession) -> None:
    assert [spec.name for spec in graph.inputs] == ["frames", *(f"state.{i}" for i in range(6))]
    assert [spec.name for spec in graph.outputs] == ["scores", *(f"next_state.{i}" for i in range(6))]
    assert graph.inputs[0].shape == ("streams", 3, HEIGHT, WIDTH)
    assert graph.outputs[0].shape == ("streams", len(SCORES))
    for specs, found in ((graph.inputs, session.get_inputs()), (graph.outputs, session.get_outputs())):
        assert [(spec.name, list(spec.shape)) for spec in specs] == [(value.name, value.shape) for value in found]
    assert [(entry.input, entry.output, entry.kind) for entry in graph.state] == [
        (f"state.{i}", f"next_state.{i}", "alias") for i in range(6)
    ]


def test_the_graph_is_plain_and_holds_no_normalisation_and_no_path(graph: StudentGraph) -> None:
    model = onnx.load_from_string(graph.onnx)
    assert {node.op_type for node in model.graph.node} <= PLAIN
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert b".py" not in graph.onnx


def test_the_reference_is_what_the_runtime_gives(graph: StudentGraph, session: ort.InferenceSession) -> None:
    found = run(session, graph.reference_inputs)
    for name, expected in graph.reference_outputs.items():
        np.testing.assert_allclose(found[name], expected, atol=1e-5)


def test_float16_holds_every_input_of_the_reference(graph: StudentGraph) -> None:
    for value in graph.reference_inputs.values():
        np.testing.assert_array_equal(value.astype(np.float16).astype(np.float32), value)
        assert value.std() > 0


@pytest.mark.parametrize("streams", [1, 3])
def test_a_stream_through_the_graph_equals_the_module_on_the_whole_window(
    student: Student, graph: StudentGraph, session: ort.InferenceSession, streams: int
) -> None:
    frames = torch.randn(streams, 40, 3, HEIGHT, WIDTH)
    with torch.inference_mode():
        expected = torch.sigmoid(student.survey(frames)).numpy()
    feeds = {spec.name: np.zeros((streams, *map(int, spec.shape[1:])), np.float32) for spec in graph.inputs}
    for t in range(frames.shape[1]):
        feeds["frames"] = frames[:, t].numpy()
        found = run(session, feeds)
        feeds |= {entry.input: found[entry.output] for entry in graph.state}
        np.testing.assert_allclose(found["scores"], expected[:, t], atol=1e-5)


def test_exporting_leaves_the_module_as_it_was(student: Student, graph: StudentGraph) -> None:
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in student.modules())
    assert graph.onnx
