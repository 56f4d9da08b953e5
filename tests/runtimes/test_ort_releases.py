"""Which graphs a release of ONNX Runtime reads, and what is said where it lacks an operator."""

from __future__ import annotations

from typing import Any

import onnxruntime
import pytest
from onnx import helper

from edge_sdk.errors import RuntimeFailure
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import SessionOptions
from edge_sdk.types import TensorSpec


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.23.2", ("decomposed",)),
        ("1.24.4", ("decomposed",)),
        ("1.25.0", ("native", "decomposed")),
        ("1.32.0+cu12", ("native", "decomposed")),
        ("2.0.0", ("native", "decomposed")),
    ],
)
def test_the_release_decides_which_graphs_are_read(
    monkeypatch: pytest.MonkeyPatch, version: str, expected: tuple[str, ...]
) -> None:
    """Each release was tried with a native decoder; see benchmarks/results/2026-11-29."""
    monkeypatch.setattr(onnxruntime, "__version__", version)
    assert open_runtime("ort").dialects == expected


def test_a_release_that_lacks_an_operator_says_which_has_it(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator that no release has stands for one that a release lacks."""
    ends = [TensorSpec(name=name, dtype="float32", shape=("n",)) for name in ("a", "b")]
    toy = build([helper.make_node("Neg", ["a"], ["b"])], ends[:1], ends[1:])
    toy.path.write_bytes(toy.path.read_bytes().replace(b"Neg", b"Nag"))
    monkeypatch.setattr(onnxruntime, "__version__", "1.26.0")
    with pytest.raises(RuntimeFailure, match=r"refused toy\.onnx: ") as newest:
        open_runtime("ort").open(toy.path, toy.graph, SessionOptions(threads=1))
    monkeypatch.setattr(onnxruntime, "__version__", "1.23.2")
    with pytest.raises(RuntimeFailure, match=r"1\.23\.2 refused toy\.onnx .*>=1\.25.*--dialect decomposed") as older:
        open_runtime("ort").open(toy.path, toy.graph, SessionOptions(threads=1))
    assert "1.25" not in str(newest.value)
    assert "Nag" in str(older.value)
