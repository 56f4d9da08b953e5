"""What a report says of the model that ran: its engine, its precision, its files and its memory."""

from __future__ import annotations

from pathlib import Path

import msgspec
import onnx
import pytest
from onnx import TensorProto, helper

from edge_sdk.benchmarks import conditions, run, subject
from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.benchmarks.report import Report, read_report
from edge_sdk.benchmarks.run import run_bench
from edge_sdk.benchmarks.subject import PROVIDERS, model_bytes, on_gpu, used_versions
from edge_sdk.bundle import default_bundle, open_bundle
from edge_sdk.engine.cache import EngineKey, default_cache
from edge_sdk.hardware import Conditions, observe
from edge_sdk.perception.recogniser import Recogniser
from edge_sdk.runtimes import ort

ENGINE = b"engine" * 1000


def bench(out: Path, runtime: str = "null") -> Report:
    path = run_bench(default_bundle(), runtime=runtime, warmup_s=0.0, duration_s=0.1, min_samples=12, out=out)
    return read_report(path)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The digest of an engine in the cache, which every recogniser says to have opened."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    key = EngineKey(
        graph="student", graph_sha256="a" * 64, weights_sha256="b" * 64, flavour="trt", version="10.3.0", sm=87,
        multiprocessors=16, driver="12.6", precision="float32+tf32", profiles=(), level=3,
    )  # fmt: skip
    default_cache().write(key, ENGINE, built_utc="2026-01-01T00:00:00Z", build_s=1.0)
    (record,) = default_cache().records()
    monkeypatch.setattr(
        Recogniser, "engine_sha256", property(lambda self: record.sha256, lambda self, value: None), raising=False
    )
    return record.sha256


def test_an_engine_is_told_by_digest_precision_and_size(engine: str, tmp_path: Path) -> None:
    found = bench(tmp_path / "out")
    assert found.subject.engine_sha256 == engine
    assert found.subject.precision == {"student": "fp32", "engine": "float32+tf32"}
    assert found.memory_mb.engine_on_disk == len(ENGINE) / 1e6


def test_weights_beside_the_graph_count_as_the_model(tmp_path: Path) -> None:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [1000], b"\0" * 4000, raw=True)
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1000])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["out"])], "g", [], [out], [weights])
    path = tmp_path / "graph.onnx"
    onnx.save(helper.make_model(graph), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    recogniser = Recogniser(open_bundle(default_bundle()), "null")
    assert model_bytes(path, recogniser) == path.stat().st_size + 4000
    recogniser.close()


def test_memory_is_compared_with_that_before_the_model_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_mb = [5000.0]

    class Large(Recogniser):
        """Takes 2 GB, and gives nearly all of it back when it is closed."""

        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **named)  # type: ignore[arg-type]
            free_mb[0] = 3000.0

        def close(self) -> None:
            super().close()
            free_mb[0] = 4900.0

    def look() -> Conditions:
        return msgspec.structs.replace(observe(), memory_available_mb=free_mb[0])

    monkeypatch.setattr(run, "Recogniser", Large)
    monkeypatch.setattr(conditions, "observe", look)
    assert bench(tmp_path).memory_mb.available_drop == 2000.0


def test_the_lowest_reading_is_what_the_model_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    free_mb = [5000.0, 3000.0, 3500.0]
    monkeypatch.setattr(conditions, "INTERVAL_S", 0.0)
    monkeypatch.setattr(
        conditions, "observe", lambda: msgspec.structs.replace(observe(), memory_available_mb=free_mb.pop(0))
    )
    watch = Watch()
    watch.look()
    watch.state({})
    assert watch.memory(1_000_000).available_drop == 2000.0


def test_the_providers_are_those_that_compute(tmp_path: Path) -> None:
    assert {device: ", ".join(names) for device, names in ort.PROVIDERS.items()} == PROVIDERS
    assert bench(tmp_path, "ort").machine.versions["providers"] == "CPUExecutionProvider"
    assert used_versions({"runtime": "null"}, "cpu") == {"runtime": "null"}


def test_runs_on_a_gpu_are_known_as_such() -> None:
    assert [on_gpu(name, "cpu") for name in ("null", "ort", "trt", "rtx")] == [False, False, True, True]
    assert on_gpu("ort", "cuda")


@pytest.mark.parametrize(("commit", "noted"), [("0123456789ab+dirty", True), ("0123456789ab", False), (None, False)])
def test_code_that_differs_from_its_commit_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commit: str | None, noted: bool
) -> None:
    monkeypatch.setattr(subject, "commit", lambda folder: commit)
    assert any("0123456789ab+dirty" in note for note in bench(tmp_path).validity) == noted
