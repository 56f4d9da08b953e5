"""A small bundle with every kind of entry, and ways to break it; shared by the tests of bundles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_sdk.bundle import Bundle, write_bundle
from edge_sdk.bundle.manifest import Graph, OperatingPoint, Student
from edge_sdk.errors import (
    BundleError,
)
from edge_sdk.types import StateSpec, TensorSpec

Edit = Callable[[dict[str, Any]], None]

GRAPH = Graph(
    file="graphs/student.onnx",
    dialects=("native", "decomposed"),
    opset=17,
    inputs=(
        TensorSpec(name="x", dtype="float32", shape=("n", 4)),
        TensorSpec(name="s", dtype="float32", shape=("n", 3)),
    ),
    outputs=(
        TensorSpec(name="y", dtype="float32", shape=("n", 3)),
        TensorSpec(name="s2", dtype="float32", shape=("n", 3)),
    ),
    state=(StateSpec(input="s", output="s2", kind="alias"),),
)
STUDENT = Student(
    rate_hz=10.0,
    height=96,
    width=160,
    lags=(1, 4),
    scores=("crash", "pre_crash"),
    heat_delay_frames=5,
    operating_point=OperatingPoint(),
)


def onnx_bytes(location: str = "student.weights") -> bytes:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 3], np.zeros(12, np.float32).tobytes(), raw=True)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Add", ["s", "y"], ["s2"])]
    rows = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("s", "y", "s2")}
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    graph = helper.make_graph(nodes, "toy", [x, rows["s"]], [rows["y"], rows["s2"]], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def files() -> dict[str, Path | bytes]:
    return {
        "graphs/student.onnx": onnx_bytes(),
        "graphs/student.weights": np.arange(12, dtype=np.float32).tobytes(),
        "notes.txt": b"made for a test\n",
    }


def write(folder: Path, **changes: Any) -> Bundle:
    fields: dict[str, Any] = {
        "name": "toy",
        "version": "1",
        "graphs": {"student": GRAPH},
        "student": STUDENT,
        "files": files(),
        "provenance": {"recipe": "toy.toml", "metrics": {"f1": 0.5}},
        "created_utc": "2026-01-02T03:04:05Z",
    }
    return write_bundle(folder, **(fields | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "toy").folder


def edit(folder: Path, change: Edit) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def refused(folder: Path, kind: type[BundleError], *words: str) -> None:
    """Opening raises exactly `kind`, and the message names each of `words`."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder)
    assert type(caught.value) is kind, caught.value
    for word in words:
        assert word in str(caught.value)
