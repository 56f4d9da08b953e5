"""The gate: every kind of graph that is exported, at true widths with two layers, before it meets a board.

Native graphs are compiled ahead of time by TensorRT-RTX, decomposed ones held against what TensorRT 10.3 parses; run by
hand, the decomposed ones are compiled too. What was compiled is remembered in pytest's cache by the graph's hash.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

from gate_cases import TINY, TWELVE, Case, compiled

from edge_sdk.export.parser_check import check_decomposed
from edge_sdk.types import Dialect, DType


@pytest.fixture
def gate_cache(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    kept = getattr(request.config, "cache", None)
    return kept.mkdir("edge-gate") if kept else tmp_path


@pytest.mark.parametrize("case", TWELVE, ids="-".join)
@pytest.mark.parametrize("dialect", ["native", pytest.param("decomposed", marks=pytest.mark.slow)])
def test_the_twelve_graphs_compile(tmp_path: Path, gate_cache: Path, dialect: Dialect, case: Case) -> None:
    file = case.weights("float16")
    result = compiled(case, case.graph(file, dialect), file, tmp_path, gate_cache)
    # An engine carries its weights once, whatever the number of profiles.
    assert 0.7 * file.size_bytes < result.engine_bytes < 1.3 * file.size_bytes


@pytest.mark.parametrize("case", TWELVE, ids="-".join)
def test_the_twelve_decomposed_graphs_are_taken_by_tensorrt_10_3(case: Case) -> None:
    check_decomposed(case.graph(case.weights("float16"), "decomposed").model)


@pytest.mark.parametrize("case", TINY, ids="-".join)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("dialect", ["native", "decomposed"])
def test_tiny_graphs_compile_in_every_type(
    tmp_path: Path, gate_cache: Path, dialect: Dialect, dtype: DType, case: Case
) -> None:
    file = case.weights(dtype)
    assert compiled(case, case.graph(file, dialect), file, tmp_path, gate_cache).layers > 10
