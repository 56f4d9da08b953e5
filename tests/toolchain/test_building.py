"""`build` on a board: which engine is taken, compared and removed, and which one the device then opens."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from host_board import AGX_ORIN, ORIN_NX, Board

from edge_sdk.bundle import open_bundle
from edge_sdk.errors import EngineError
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import SessionOptions
from edge_sdk.toolchain.building import BuildOptions, BuiltEngine, build


def built(cache: Path, **options: object) -> BuiltEngine:
    (engine,) = build(None, "trt", cache=cache, options=BuildOptions(**options), quiet=True).engines  # type: ignore[arg-type]
    return engine


def open_student(cache: Path) -> None:
    graph, path = open_bundle().graph("student")
    with closing(open_runtime("trt").open(path, graph, SessionOptions(engines=cache))):
        pass


def test_an_engine_of_another_orin_is_refused_and_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All Orins have one compute capability; a cache is copied from the large one to a small one."""
    board = Board(monkeypatch, AGX_ORIN)
    assert not built(tmp_path).cached
    open_student(tmp_path)
    board.device = ORIN_NX
    with pytest.raises(EngineError, match="built for 16 multiprocessors, here are 8: another board, or another power"):
        open_student(tmp_path)
    assert not built(tmp_path).cached
    open_student(tmp_path)
    board.device = AGX_ORIN
    assert built(tmp_path).cached
    timings = sorted(path.name for path in tmp_path.glob("timings.*"))
    assert timings == ["timings.10.16.2.87.16.cache", "timings.10.16.2.87.8.cache"]
