"""`build`, then `verify --runtime trt`, as docs/jetson.md has them, of a bundle with a video LLM."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from checkpoint_makers import save
from host_board import Board
from language_bundles import Assembly, speaking_model

from edge_sdk.benchmarks.campaign.checks import Chosen, outputs
from edge_sdk.benchmarks.campaign.order import QUICK, Order
from edge_sdk.benchmarks.campaign.rows import Lines
from edge_sdk.bundle import Bundle
from edge_sdk.errors import EngineError, VerificationError
from edge_sdk.export.verify import verify_against
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import SessionOptions
from edge_sdk.toolchain.building import BuildOptions, build
from edge_sdk.verify import VerifyReport, require, verify

SMALL, LARGE = "decoder.640.native", "decoder.704.native"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One with two decoders that hold the reference's clip; a build makes the larger."""
    folder = tmp_path_factory.mktemp("bundle")
    checkpoint = save(speaking_model(seed=1), folder / "model")
    return Assembly(checkpoint, folder / "parts", slots=(640, 704)).write(folder / "b")


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    return Board(monkeypatch)


def made(bundle: Bundle, cache: Path, *graphs: str) -> list[str]:
    options = BuildOptions(graphs=graphs)
    report = build(bundle.folder, "trt", cache=cache, options=options, quiet=True)
    assert all(each.verified for each in report.engines)
    return [each.graph for each in report.engines]


def verified(bundle: Bundle, cache: Path) -> VerifyReport:
    return verify(bundle, "trt", SessionOptions(engines=cache))


@pytest.mark.usefixtures("board")
def test_what_was_built_is_compared_and_what_was_not_is_named(bundle: Bundle, tmp_path: Path) -> None:
    graphs = made(bundle, tmp_path)
    assert LARGE in graphs
    report = verified(bundle, tmp_path)
    assert report.ok, str(report)
    require(report)
    assert sorted({check.graph for check in report.outputs}) == sorted(graphs)
    assert [each.graph for each in report.answers] == [LARGE]
    assert report.not_built.keys() == {SMALL}
    line = f"{SMALL}: not compared, no engine for the graph '{SMALL}' is in {tmp_path}; run: edge-sdk build --bundle "
    assert f"{line}BUNDLE --graph {SMALL}" in str(report).splitlines()
    assert msgspec.json.decode(msgspec.json.encode(report), type=VerifyReport) == report


@pytest.mark.usefixtures("board")
def test_what_the_error_says_to_run_makes_the_engine(bundle: Bundle, tmp_path: Path) -> None:
    made(bundle, tmp_path)
    graph, path = bundle.graph(SMALL)
    told = rf"no engine for the graph '{SMALL}'.*build --bundle BUNDLE --graph {SMALL}$"
    with pytest.raises(EngineError, match=told):
        open_runtime("trt").open(path, graph, SessionOptions(engines=tmp_path))
    assert made(bundle, tmp_path, SMALL) == [SMALL]
    report = verified(bundle, tmp_path)
    assert report.ok
    assert report.not_built == {}
    assert [each.graph for each in report.answers] == [SMALL]


@pytest.mark.usefixtures("board")
def test_an_answer_without_all_of_its_graphs_is_not_compared(bundle: Bundle, tmp_path: Path) -> None:
    made(bundle, tmp_path, LARGE)
    report = verified(bundle, tmp_path)
    assert report.ok
    assert {check.graph for check in report.outputs} == {LARGE}
    assert (report.answers, report.adapters_not_compared) == ((), ("base",))
    assert "answer of base: no reference in these dialects, or graphs that are not built, not compared" in str(report)


def test_without_an_engine_that_fits_nothing_is_compared_and_the_report_says_why(
    bundle: Bundle, tmp_path: Path, board: Board
) -> None:
    empty = verified(bundle, tmp_path)
    assert not empty.ok
    assert str(empty).endswith("speaking on trt: FAILED: nothing is built that could be compared")
    assert all(why.endswith("run: edge-sdk build --bundle BUNDLE") for why in empty.not_built.values())
    made(bundle, tmp_path)
    board.device = msgspec.structs.replace(board.device, driver="13.4")
    stale = verified(bundle, tmp_path)
    assert not stale.ok
    assert "built under driver 13.2, here is 13.4" in stale.not_built[LARGE]
    with pytest.raises(VerificationError, match=r"'trt': .*built under driver 13\.2, here is 13\.4"):
        require(stale)


def test_a_wrong_engine_is_still_a_failure(bundle: Bundle, tmp_path: Path, board: Board) -> None:
    made(bundle, tmp_path)
    board.wrong = {BuildOptions().level}
    report = verified(bundle, tmp_path)
    assert not report.ok
    assert not any(check.ok for check in (*report.outputs, *report.answers))


def test_a_damaged_engine_is_an_error_not_one_that_was_never_built(
    bundle: Bundle, tmp_path: Path, board: Board
) -> None:
    made(bundle, tmp_path)
    (engine,) = tmp_path.glob(f"{LARGE}.*.engine")
    engine.write_bytes(engine.read_bytes()[:-1])
    with pytest.raises(EngineError, match=r"build it again: edge-sdk build .* --rebuild"):
        verified(bundle, tmp_path)


@pytest.mark.usefixtures("board")
def test_the_comparison_with_a_checkpoint_leaves_it_out_too(bundle: Bundle, tmp_path: Path) -> None:
    made(bundle, tmp_path)
    options = SessionOptions(engines=tmp_path)
    report = verify_against(bundle, bundle.folder.parent / "model", runtime="trt", options=options)
    assert report.ok, str(report)
    exported = report.stages[-1]
    assert exported.not_built.keys() == {SMALL}
    assert [each.graph for each in exported.answers] == [LARGE]
    assert f"{SMALL}: not compared, no engine for the graph" in str(report)


@pytest.mark.usefixtures("board")
def test_what_a_campaign_chose_must_have_its_engines(bundle: Bundle, tmp_path: Path) -> None:
    made(bundle, tmp_path / "engines", LARGE)
    order = Order(
        runtime="trt",
        folder=str(bundle.folder),
        subject="it",
        seconds=60.0,
        target=None,
        amounts=QUICK,
        engines=str(tmp_path / "engines"),
    )
    chosen = Chosen(dialect="native", vision="vision.96f.native", decoder=LARGE, slots=704)
    (row,) = outputs(bundle, order, Lines(tmp_path / "rows", "trt", "it", 60.0), chosen)
    assert row.ok is False
    assert "vision.96f.native: no engine for the graph 'vision.96f.native'" in row.found
