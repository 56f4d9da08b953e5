"""The null runtime: zeros in the declared shapes, and the same rules for feeds and state as a real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.bundle.manifest import Graph
from edge_sdk.errors import RuntimeFailure
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import Array, Session, SessionOptions
from edge_sdk.types import StateSpec, TensorSpec

GRAPH = Graph(
    file="toy.onnx",
    dialects=("native",),
    opset=20,
    inputs=(
        TensorSpec(name="x", dtype="float32", shape=("streams", 2)),
        TensorSpec(name="total", dtype="float32", shape=("streams", 2)),
        TensorSpec(name="at", dtype="int64", shape=(1,)),
        TensorSpec(name="rows", dtype="float16", shape=(1, "q")),
        TensorSpec(name="past", dtype="float16", shape=(1, "slots")),
    ),
    outputs=(
        TensorSpec(name="scores", dtype="float32", shape=("streams", 5)),
        TensorSpec(name="new_total", dtype="float32", shape=("streams", 2)),
        TensorSpec(name="new", dtype="float16", shape=(1, "q")),
    ),
    state=(
        StateSpec(input="total", output="new_total", kind="alias"),
        StateSpec(input="past", output="new", kind="append", axis=1, index="at"),
    ),
)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    (tmp_path / "toy.onnx").write_bytes(b"never read")
    return open_runtime("null").open(tmp_path / "toy.onnx", GRAPH, SessionOptions())


def feeds(streams: int = 3, rows: int = 2, at: int = 0) -> dict[str, Array]:
    return {
        "x": np.ones((streams, 2), np.float32),
        "rows": np.ones((1, rows), np.float16),
        "at": np.array([at], np.int64),
    }


def test_zeros_in_the_shapes_that_the_feeds_tell(session: Session) -> None:
    state: dict[str, Array] = {"total": np.ones((3, 2), np.float32), "past": np.ones((1, 8), np.float16)}
    found = session.run(feeds() | state)
    assert {name: (array.shape, array.dtype.name) for name, array in found.items()} == {
        "scores": ((3, 5), "float32"),
        "new_total": ((3, 2), "float32"),
        "new": ((1, 2), "float16"),
    }
    assert not any(array.any() for array in found.values())


def test_both_kinds_of_state_are_kept(session: Session) -> None:
    bound = session.bind_state(GRAPH.state, {"streams": 3, "slots": 8})
    bound.write("total", np.ones((3, 2), np.float32))
    bound.write("past", np.ones((1, 8), np.float16))
    assert set(bound.run(feeds(rows=2, at=3))) == {"scores"}
    assert not bound.read("total").any()
    assert bound.read("past").tolist() == [[1, 1, 1, 0, 0, 1, 1, 1]]
    bound.reset()
    assert not bound.read("past").any()


def test_the_rules_of_a_real_runtime_hold(session: Session) -> None:
    bound = session.bind_state(GRAPH.state, {"streams": 3, "slots": 8})
    with pytest.raises(RuntimeFailure, match="axis 0 must be 3"):
        bound.run(feeds(streams=2))
    with pytest.raises(RuntimeFailure, match=r"2 rows at index \[7\] do not fit its 8 slots"):
        bound.run(feeds(rows=2, at=7))
    with pytest.raises(RuntimeFailure, match=r"missing: \['past', 'total'\]"):
        session.run(feeds())
    with pytest.raises(RuntimeFailure, match="'slots'"):
        session.bind_state(GRAPH.state, {"streams": 3})
    session.close()
    with pytest.raises(RuntimeFailure, match="closed"):
        bound.run(feeds())


def test_a_length_that_no_input_tells(tmp_path: Path) -> None:
    graph = Graph(
        file="toy.onnx",
        dialects=("native",),
        opset=20,
        inputs=(TensorSpec(name="x", dtype="float32", shape=("n",)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("found",)),),
    )
    (tmp_path / "toy.onnx").touch()
    session = open_runtime("null").open(tmp_path / "toy.onnx", graph, SessionOptions())
    with pytest.raises(RuntimeFailure, match=r"'y'.*'found'"):
        session.run({"x": np.zeros(3, np.float32)})


def test_the_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match=r"absent\.onnx"):
        open_runtime("null").open(tmp_path / "absent.onnx", GRAPH, SessionOptions())
