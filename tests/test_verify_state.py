"""Verification of graphs with state: what the file leaves out, where more inputs come from, and what is read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from edge_sdk.bundle import Bundle, write_bundle
from edge_sdk.bundle.manifest import Graph, ReferenceCase
from edge_sdk.errors import BundleError, RuntimeFailure, UnknownNameError
from edge_sdk.runtime import Array, SessionOptions
from edge_sdk.types import StateSpec, TensorSpec
from edge_sdk.verify import VerifyReport, verify
from edge_sdk.verify.reference_files import reference_bytes

X = np.arange(6, dtype=np.float32).reshape(1, 3, 2) / 8
AT = np.array([2], np.int64)
GAIN = np.array([3.0], np.float32)
PAST = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 8, 2)
GRAPH = Graph(
    file="loop.onnx",
    dialects=("native", "decomposed"),
    opset=17,
    inputs=(
        TensorSpec(name="x", dtype="float32", shape=(1, "q", 2)),
        TensorSpec(name="at", dtype="int64", shape=(1,)),
        TensorSpec(name="gain", dtype="float32", shape=(1,)),
        TensorSpec(name="past", dtype="float32", shape=(1, 8, 2)),
        TensorSpec(name="calls", dtype="float32", shape=("streams", 2)),
        TensorSpec(name="step", dtype="float32", shape=("streams", 2)),
    ),
    outputs=(
        TensorSpec(name="total", dtype="float32", shape=(1, 2)),
        TensorSpec(name="new", dtype="float32", shape=(1, "q", 2)),
        TensorSpec(name="calls_out", dtype="float32", shape=("streams", 2)),
    ),
    state=(
        StateSpec(input="past", output="new", kind="append", axis=1, index="at"),
        StateSpec(input="calls", output="calls_out", kind="alias"),
    ),
)
STEP = np.full((5, 2), 2.0, np.float32)


def onnx_bytes() -> bytes:
    """total = sum of past and new; new = x * gain; calls_out = calls + step."""
    nodes = [
        helper.make_node("Mul", ["x", "gain"], ["new"]),
        helper.make_node("ReduceSum", ["past", "one"], ["before"], keepdims=0),
        helper.make_node("ReduceSum", ["new", "one"], ["now"], keepdims=0),
        helper.make_node("Add", ["before", "now"], ["sum"]),
        helper.make_node("Cast", ["at"], ["position"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["sum", "position"], ["total"]),
        helper.make_node("Add", ["calls", "step"], ["calls_out"]),
    ]
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    inputs, outputs = (
        [helper.make_tensor_value_info(spec.name, kinds[spec.dtype], spec.shape) for spec in specs]
        for specs in (GRAPH.inputs, GRAPH.outputs)
    )
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    graph = helper.make_graph(nodes, "loop", inputs, outputs, [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def verified(
    folder: Path, inputs: dict[str, Array], outputs: dict[str, Array], more: bytes | None = None
) -> VerifyReport:
    case = ReferenceCase(
        file="reference/loop.safetensors", inputs_from="more.safetensors" if more else None, max_relative_error=1e-6
    )
    graphs = {"loop": Graph(**{name: getattr(GRAPH, name) for name in GRAPH.__struct_fields__} | {"reference": case})}
    files: dict[str, Path | bytes] = {"loop.onnx": onnx_bytes(), case.file: reference_bytes(inputs, outputs)}
    if more:
        files["more.safetensors"] = more
    bundle = write_bundle(folder, name="loop", version="1", graphs=graphs, files=files)
    return verify(Bundle.open(bundle.folder), "ort", SessionOptions(threads=1))


FED = {"x": X, "at": AT, "gain": GAIN, "step": STEP}
RIGHT = {"total": (X * 3).sum(1) + 2, "new": X * 3, "calls_out": STEP}


def test_state_that_the_file_leaves_out_begins_as_zeros_and_is_read_back(tmp_path: Path) -> None:
    report = verified(tmp_path / "b", FED, RIGHT)
    assert report.ok, str(report)
    assert {check.output for check in report.outputs} == RIGHT.keys()


def test_state_that_the_file_gives_is_where_the_graph_begins(tmp_path: Path) -> None:
    given = FED | {"past": PAST, "calls": STEP * 10}
    expected = {"total": PAST.sum(1) + (X * 3).sum(1) + 2, "new": X * 3, "calls_out": STEP * 11}
    assert verified(tmp_path / "b", given, expected).ok
    assert not verified(tmp_path / "c", FED, expected).ok
    assert not verified(tmp_path / "d", given, RIGHT).ok


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_each_wrong_output_is_found(tmp_path: Path, name: str) -> None:
    wrong = RIGHT | {name: RIGHT[name] + np.float32(0.5)}
    report = verified(tmp_path / "b", FED, wrong)
    assert [check.output for check in report.outputs if not check.ok] == [name]


def test_more_inputs_come_from_another_file_which_overrides_none(tmp_path: Path) -> None:
    less = {name: array for name, array in FED.items() if name != "gain"}
    more = save({"gain": GAIN, "other": X, "step": STEP * 7})
    assert verified(tmp_path / "b", less, RIGHT, more).ok
    with pytest.raises(RuntimeFailure, match=r"missing: \['gain'\]"):
        verified(tmp_path / "c", less, RIGHT)
    with pytest.raises(BundleError, match=r"more\.safetensors is not a safetensors file"):
        verified(tmp_path / "d", less, RIGHT, b"not safetensors")


def test_float16_inputs_are_widened_and_no_others(tmp_path: Path) -> None:
    assert verified(tmp_path / "b", FED | {"x": X.astype(np.float16)}, RIGHT).ok
    for wrong in (X.astype(np.float64), X.astype(np.int64)):
        with pytest.raises(RuntimeFailure, match="'x': expected float32"):
            verified(tmp_path / wrong.dtype.name, FED | {"x": wrong}, RIGHT)


def test_rows_that_do_not_fit_the_state_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match="3 rows at index"):
        verified(tmp_path / "b", FED | {"at": np.array([6], np.int64)}, RIGHT)


def test_a_graph_that_the_bundle_does_not_have(tmp_path: Path) -> None:
    bundle = write_bundle(
        tmp_path / "b", name="l", version="1", graphs={"loop": GRAPH}, files={"loop.onnx": onnx_bytes()}
    )
    with pytest.raises(UnknownNameError, match="unknown graph 'lop'; known: loop"):
        verify(bundle, "ort", graphs=["lop"])
    nothing = verify(bundle, "ort", graphs=["loop"])
    assert not nothing.ok
    assert nothing.without_reference == ("loop",)
