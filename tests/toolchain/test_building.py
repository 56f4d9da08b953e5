"""`build` on a board: which engine is taken, compared and removed, and which one the device then opens."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest
from asking_bundles import watching
from host_board import AGX_ORIN, ORIN_NX, Board
from typer.testing import CliRunner

from edge_sdk.cli.entry import app
from edge_sdk.engine import EngineCache
from edge_sdk.engine.shapes import Limits
from edge_sdk.errors import ConfigError, EngineError, RuntimeFailure
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


def test_a_wrong_engine_alone_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(monkeypatch)
    assert [built(tmp_path, level=level).verified for level in (3, 5)] == [True, True]
    board.wrong = {5}
    assert built(tmp_path, level=3).verified
    assert levels(tmp_path) == [3, 5]
    with pytest.raises(EngineError, match="built, but wrong on this device: student do not give") as told:
        built(tmp_path, level=5)
    (kept,) = tmp_path.glob("*.wrong")
    assert str(kept) in str(told.value)
    # zeros differ from the reference by all of it
    assert re.search(
        r"student/[\w.]+: relative error 1, at most [0-9.e-]+ allowed, and \d+ more outputs.*try another --level",
        str(told.value),
    )
    assert levels(tmp_path) == [3]
    open_student(tmp_path)


def test_a_wrong_engine_with_rounded_factors_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Board(monkeypatch).wrong = {3}
    with pytest.raises(EngineError, match=r"--tf32 rounds .*: leave it out$") as told:
        built(tmp_path, tf32=True)
    assert "--level" not in str(told.value)


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


def test_what_is_there_is_built_again_when_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Board(monkeypatch)
    first = Path(built(tmp_path).file)
    inode = first.stat().st_ino
    assert built(tmp_path, workspace_mb=100.0).cached
    assert first.stat().st_ino == inode
    again = built(tmp_path, rebuild=True)
    assert (again.cached, again.verified, Path(again.file)) == (False, True, first)
    assert first.stat().st_ino != inode
    assert len(list(tmp_path.glob("*.engine"))) == 1


def test_a_damaged_engine_is_mended_by_building_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Board(monkeypatch)
    path = Path(built(tmp_path).file)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EngineError, match=r"build it again: .* --graph student --rebuild"):
        built(tmp_path)
    assert built(tmp_path, rebuild=True).verified
    open_student(tmp_path)


def test_a_disk_without_room_is_told_before_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Board(monkeypatch)
    monkeypatch.setattr("edge_sdk.export.build_needs.free_bytes", lambda place: 1000)
    with pytest.raises(RuntimeFailure, match=r"the engine of .*onnx takes about .* MB, and 0.0 MB are free .*--cache"):
        built(tmp_path / "engines")
    assert not (tmp_path / "engines").exists()
    assert built(tmp_path / "engines", force=True).verified


@pytest.mark.parametrize("workspace_mb", ["nan", "inf", "-5", "0", "1e300"])
def test_a_workspace_is_some_memory(workspace_mb: str) -> None:
    done = CliRunner().invoke(app, ["build", "--workspace-mb", workspace_mb])
    assert isinstance(done.exception, ConfigError)
    assert "--workspace-mb must be above 0, in MB of 10^6 bytes; found" in str(done.exception)


def test_graphs_and_slots_are_not_asked_for_together() -> None:
    done = CliRunner().invoke(app, ["build", "--graph", "student", "--slots", "64"])
    assert isinstance(done.exception, ConfigError)
    assert "--slots has no effect" in str(done.exception)
