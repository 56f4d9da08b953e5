"""`build` on a board: which engine is taken, compared and removed, and which one the device then opens."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from asking_bundles import watching
from host_board import AGX_ORIN, ORIN_NX, Board
from typer.testing import CliRunner

from edge_sdk.cli.entry import app
from edge_sdk.engine import EngineCache
from edge_sdk.engine.shapes import Limits
from edge_sdk.errors import EngineError, RuntimeFailure
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import SessionOptions
from edge_sdk.toolchain.building import BuildOptions, BuiltEngine, build


def built(cache: Path, **options: object) -> BuiltEngine:
    (engine,) = build(watching().folder, "trt", cache=cache, options=BuildOptions(**options), quiet=True).engines  # type: ignore[arg-type]
    return engine


def open_student(cache: Path, streams: int = 1) -> None:
    graph, path = watching().graph("student")
    with closing(open_runtime("trt").open(path, graph, SessionOptions(engines=cache))) as session:
        session.bind_state(graph.state, {"streams": streams})


def levels(cache: Path) -> list[int]:
    return sorted(record.key.level for record in EngineCache(cache).records())


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


def test_the_engine_that_was_asked_for_last_is_compared_and_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(monkeypatch)
    assert [built(tmp_path, level=level).cached for level in (3, 5, 3)] == [False, False, True]
    open_student(tmp_path)
    assert [each.level for each in board.opened] == [3, 5, 3, 3]


def test_a_wrong_engine_alone_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(monkeypatch)
    assert [built(tmp_path, level=level).verified for level in (3, 5)] == [True, True]
    board.wrong = {5}
    assert built(tmp_path, level=3).verified
    assert levels(tmp_path) == [3, 5]
    with pytest.raises(EngineError, match="built, but wrong on this device: student do not give"):
        built(tmp_path, level=5)
    assert levels(tmp_path) == [3]
    open_student(tmp_path)


def test_limits_that_are_asked_for_again_are_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Board(monkeypatch)
    many = Limits(streams=8)
    assert not built(tmp_path, limits=many).cached
    assert not built(tmp_path).cached
    with pytest.raises(RuntimeFailure, match=r"'streams': 8.*edge-sdk build --bundle BUNDLE --streams 8"):
        open_student(tmp_path, streams=8)
    assert built(tmp_path, limits=many).cached
    open_student(tmp_path, streams=8)


def test_the_command_builds_for_as_many_cameras_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Board(monkeypatch)
    words = ["build", "--bundle", str(watching().folder), "--cache", str(tmp_path), "--streams", "6", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    open_student(tmp_path, streams=6)
    with pytest.raises(RuntimeFailure, match="edge-sdk build --bundle BUNDLE --streams 7"):
        open_student(tmp_path, streams=7)
