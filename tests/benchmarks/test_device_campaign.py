from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="torch is not installed")

from asking_bundles import watching
from language_bundles import Assembly, save_speaking, speaking_model

from edge_sdk.benchmarks.campaign import jobs
from edge_sdk.benchmarks.campaign.checks import choose, engines
from edge_sdk.benchmarks.campaign.figures import decode_row, prefill_row
from edge_sdk.benchmarks.campaign.jobs import Budget, Job, run_jobs
from edge_sdk.benchmarks.campaign.limits import Cost, gpu_target, limit, settle_targets
from edge_sdk.benchmarks.campaign.order import QUICK, RUNTIMES, Order
from edge_sdk.benchmarks.campaign.results import Campaign
from edge_sdk.benchmarks.campaign.rows import Lines, Row, read_rows
from edge_sdk.benchmarks.campaign.speed import fitting_context
from edge_sdk.benchmarks.device_campaign import main
from edge_sdk.bundle import open_bundle
from edge_sdk.engine import EngineCache
from edge_sdk.errors import ConfigError
from edge_sdk.hardware.cuda import CudaDevice, find_cuda_device
from edge_sdk.hardware.numbers import QWEN_7B

H200 = CudaDevice(name="NVIDIA H200", sm=90, multiprocessors=132, driver="13.0", memory_mb=150_114.0, integrated=False)
ORDER = Order(runtime="ort", folder="", subject="it", seconds=60.0, target="h200", amounts=QUICK)


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny checkpoint and its bundle."""
    folder = tmp_path_factory.mktemp("campaign")
    checkpoint = save_speaking(speaking_model(), folder / "checkpoint")
    Assembly(checkpoint, folder / "parts").write(folder / "bundle")
    return checkpoint, folder / "bundle"


@pytest.fixture(scope="module")
def measured(speaking: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, str]:
    """One campaign of everything but the compiled form, on the CPU, and its tables."""
    checkpoint, bundle = speaking
    out = tmp_path_factory.mktemp("out")
    words = ["--out", str(out), "--bundle", str(bundle), "--bundle", str(watching().folder)]
    words += ["--checkpoint", str(checkpoint), "--forms", "transformers-eager,transformers-sdpa", "--quick"]
    words += ["--target", "x86-cpu", "--threads", "1", "--engines", str(out / "engines")]
    assert main(words) == 0
    return read(out), (out / "campaign.md").read_text()


def read(out: Path) -> Campaign:
    return msgspec.json.decode((out / "campaign.json").read_bytes(), type=Campaign)


def row_of(campaign: Campaign, *key: str) -> Row:
    return next(row for row in campaign.rows if (row.runtime, row.subject, row.what) == key)


def test_every_row_has_a_figure_or_a_reason_and_every_runtime_its_rows(measured: tuple[Campaign, str]) -> None:
    campaign, _ = measured
    assert campaign.finished
    for row in campaign.rows:
        assert (row.reason is None) == (row.value is not None or bool(row.found)), row
    told = {(row.runtime, row.subject, row.what) for row in campaign.rows}
    assert len(told) == len(campaign.rows)
    language = ("outputs", "answers", "vision, 1 frame", "vision, 8 frames", "prefill", "decode")
    for runtime in RUNTIMES:
        assert {(runtime, "speaking", what) for what in language} <= told
        assert {(runtime, "student-demo", what) for what in ("outputs", "student")} <= told
    assert {(runtime, "speaking", "engines") for runtime in ("trt", "rtx")} <= told
    assert ("ort", "speaking", "engines") not in told
    assert [row.what for row in campaign.rows if row.runtime == "transformers-sdpa"] == list(language[2:])


def test_what_runs_on_a_cpu_is_right_and_has_raw_values(measured: tuple[Campaign, str]) -> None:
    campaign, _ = measured
    assert row_of(campaign, "ort", "speaking", "outputs").ok
    assert row_of(campaign, "ort", "speaking", "answers").ok
    assert "8 of 8 tokens equal" in row_of(campaign, "ort", "speaking", "answers").found
    student = row_of(campaign, "ort", "student-demo", "student")
    assert len(student.raw_ms) >= QUICK.student_frames
    assert student.percentiles_ms["p50"] == pytest.approx(np.median(student.raw_ms))
    assert student.percentiles_ms["p99"] is None
    prefill, decode = (row_of(campaign, "ort", "speaking", what) for what in ("prefill", "decode"))
    assert prefill.value == pytest.approx(512e3 * QUICK.passes / sum(prefill.raw_ms))
    assert decode.value == pytest.approx(1e3 * QUICK.tokens / sum(decode.raw_ms))
    assert (prefill.goal, prefill.floor, decode.goal, decode.floor) == (0.5, 0.3, 0.7, 0.5)
    for runtime in ("ort", "transformers-eager", "transformers-sdpa"):
        rows = [row for row in campaign.rows if row.runtime == runtime and row.what in ("prefill", "decode")]
        assert len(rows) == 2
        assert all(row.share is not None and 0 < row.share < 1.5 and "x86-cpu" in row.limit for row in rows)


@pytest.mark.skipif(find_cuda_device() is not None, reason="a GPU is here, on which these run")
def test_without_a_gpu_each_of_its_rows_says_so(measured: tuple[Campaign, str]) -> None:
    campaign, text = measured
    assert campaign.device is None
    rows = [row for row in campaign.rows if row.runtime in ("trt", "rtx", "ort-cuda")]
    assert len(rows) == 3 * (6 + 2) + 2 * 2
    assert all(re.search("CUDA|not installed", row.reason or "") for row in rows)
    assert row_of(campaign, "rtx?", "demo student", "runs the student here").reason is not None
    assert "no GPU: there is no CUDA driver" in text


def test_the_tables_name_the_goals_and_the_conditions(measured: tuple[Campaign, str]) -> None:
    campaign, text = measured
    decode = next(line for line in text.splitlines() if line.startswith("| ort | speaking | decode |"))
    assert "| 0.7 | 0.5 |" in decode
    assert f"commit {campaign.commit}" in text
    assert "p99 (needs 662)" in text
    assert "--quick" in text
    for name, digest in campaign.subjects.items():
        assert f"{name}: {digest}" in text


def test_a_budget_that_is_spent_leaves_rows_that_say_so(speaking: tuple[Path, Path], tmp_path: Path) -> None:
    words = ["--out", str(tmp_path), "--bundle", str(speaking[1]), "--runtimes", "ort", "--budget-s", "0.1"]
    assert main(words) == 0
    campaign = read(tmp_path)
    assert campaign.finished
    assert len(campaign.rows) == 6
    assert all("of the budget were left" in (row.reason or "") for row in campaign.rows)


def test_a_campaign_that_is_killed_keeps_what_it_has(speaking: tuple[Path, Path], tmp_path: Path) -> None:
    words = ["--out", str(tmp_path), "--bundle", str(speaking[1]), "--runtimes", "ort", "--threads", "1"]
    command = [sys.executable, "-m", "edge_sdk.benchmarks.device_campaign", *words, "--context", "512"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    campaign = read(tmp_path)
    assert first.startswith("ort, speaking, outputs")
    assert campaign.rows[0].ok
    assert not campaign.finished
    assert "not finished" in (tmp_path / "campaign.md").read_text()


def in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, budget_s: float = 30.0) -> list[Row]:
    (tmp_path / "stand_in.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found: list[Row] = []
    run_jobs([Job(module="stand_in", order=ORDER, names=("a", "b"))], Budget(budget_s), found.append)
    return found


SAID = """
import sys
open(sys.argv[2], "a").write('{"runtime": "ort", "subject": "it", "what": "a", "value": 1.0}\\n')
"""


def test_a_process_that_dies_keeps_its_rows_and_the_rest_name_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"{SAID}import os\nprint('Myelin: no', flush=True)\nos.kill(os.getpid(), 11)"
    first, second = in_a_process(tmp_path, monkeypatch, code)
    assert (first.value, first.reason) == (1.0, None)
    assert (second.what, second.reason) == ("b", "the process died of SIGSEGV: Myelin: no")


def test_a_process_that_refuses_gives_its_reason_whatever_libraries_say_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys\nprint('campaign refused: no such thing')\nprint('library: goodbye')\nsys.exit(4)"
    assert [row.reason for row in in_a_process(tmp_path, monkeypatch, code)] == ["no such thing"] * 2


def test_a_process_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LEAST_S", 0.5)
    begin_s = time.monotonic()
    first, second = in_a_process(tmp_path, monkeypatch, f"{SAID}import time\ntime.sleep(60)", budget_s=2.0)
    assert time.monotonic() - begin_s < 10
    assert first.value == 1.0
    assert second.reason is not None
    assert second.reason.startswith("stopped: not done after the 2 s")


def test_a_row_that_is_half_written_waits_for_its_end(tmp_path: Path) -> None:
    path, line = tmp_path / "rows", msgspec.json.encode(Row(runtime="ort", subject="it", what="a"))
    path.write_bytes(line + b"\n" + line[:10])
    rows, start = read_rows(path, 0)
    assert [row.what for row in rows] == ["a"]
    path.write_bytes(line + b"\n" + line + b"\n")
    rows, start = read_rows(path, start)
    assert len(rows) == 1
    assert read_rows(path, start)[0] == []


def test_a_7b_in_fp16_at_the_limits_of_an_h200_has_a_share_of_one(tmp_path: Path) -> None:
    cost, lines = Cost(sizes=QWEN_7B, precision="fp16"), Lines(tmp_path / "rows", "trt", "7b", 60.0)
    # 7.07e9 values in the layers' and the head's matrices, 56 KiB of cache a token (Qwen2.5-7B), 4.8 TB/s
    step_s = (7.07e9 * 2 + 8192 * 57_344) / 4.8e12
    row = decode_row(ORDER, lines, [step_s] * 16, cost, 8192, "")
    assert row.share == pytest.approx(1.0, rel=5e-3)
    assert row.value == pytest.approx(1 / step_s)
    # 6.53e9 values in the layers; attention of each token to half of the context: 4 x 28 x 3,584 operations a pair
    pass_s = 8192 * (2 * 6.53e9 + 4 * 28 * 3584 * 4096) / 989.5e12
    assert prefill_row(ORDER, lines, [pass_s] * 3, cost, 8192, "").share == pytest.approx(1.0, rel=5e-3)


def test_a_gpu_is_known_by_compute_capability_and_memory() -> None:
    found = gpu_target(H200)
    assert found is not None
    assert found.name == "h200"
    assert gpu_target(msgspec.structs.replace(H200, memory_mb=85_000.0)) is None
    assert settle_targets(H200, None) == ("h200", None)
    assert settle_targets(H200, "x86-cpu") == ("h200", "x86-cpu")
    with pytest.raises(ConfigError, match="rtx-4090 is sm_89, NVIDIA H200 is sm_90"):
        settle_targets(H200, "rtx-4090")


def test_limits_are_nominal_and_a_thread_has_its_part_of_a_cpu() -> None:
    whole, half = limit("x86-cpu", "fp32"), limit("x86-cpu", "fp32", 1)
    assert whole.rates is not None
    assert half.rates is not None
    assert whole.rates.flops_s == pytest.approx(0.382e12)
    assert half.rates.flops_s == pytest.approx(0.191e12)
    assert limit(None, "fp16").of_peak(1.0, 1.0) == (None, limit(None, "fp16").why)


def test_the_decoder_is_the_smallest_that_holds_the_context(speaking: tuple[Path, Path]) -> None:
    bundle = open_bundle(speaking[1])
    assert choose(bundle, ORDER).slots == 640
    short = msgspec.structs.replace(QUICK, context=32, chunk=16)
    assert choose(bundle, msgspec.structs.replace(ORDER, amounts=short)).slots == 64
    assert fitting_context(640, ORDER) == 512
    with pytest.raises(ConfigError, match="room for a chunk of 512 and 20 tokens in 64 slots"):
        fitting_context(64, ORDER)


def with_unknown_operator(bundle: Path, copy: Path, file: str) -> Path:
    """A copy of `bundle` whose graph `file` has an operator that TensorRT does not parse."""
    shutil.copytree(bundle, copy)
    model = onnx.load(copy / file, load_external_data=False)
    model.graph.node[0].op_type = "Det"
    data = model.SerializeToString()
    (copy / file).write_bytes(data)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"][file] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def test_an_engine_that_is_refused_does_not_keep_the_others_from_being_built(
    speaking: tuple[Path, Path], tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx")
    folder = with_unknown_operator(speaking[1], tmp_path / "bundle", "language/projector.base.native.onnx")
    order = msgspec.structs.replace(ORDER, runtime="rtx", folder=str(folder), engines=str(tmp_path / "engines"))
    bundle, lines = open_bundle(folder), Lines(tmp_path / "rows", "rtx", "speaking", 60.0)
    chosen = choose(bundle, order)
    assert chosen.graphs == ("vision.96f.native", "projector.base.native", "decoder.640.native")
    (row,) = engines(bundle, order, lines, chosen)
    assert row.ok is False
    assert "projector.base.native: TensorRT" in row.found
    lengths = {each.key.graph: each.key.profiles[-1].lengths for each in EngineCache(tmp_path / "engines").records()}
    assert lengths.keys() == {"vision.96f.native", "decoder.640.native"}
    assert lengths["decoder.640.native"]["q"].largest == QUICK.chunk
    assert lengths["vision.96f.native"]["frames"].largest == 8


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--runtimes", "tensorflow"], "unknown runtime 'tensorflow'"),
        (["--target", "abacus"], "unknown target 'abacus'"),
        (["--bundle", "nowhere"], "nowhere"),
        (["--checkpoint", "nowhere"], "nowhere is not a checkpoint"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(words: list[str], says: str, tmp_path: Path, capsys: Any) -> None:
    assert main(["--out", str(tmp_path / "out"), *words]) in (2, 3, 4)
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_compiled_form_decodes_over_a_static_cache(speaking: tuple[Path, Path], tmp_path: Path) -> None:
    words = ["--out", str(tmp_path), "--checkpoint", str(speaking[0]), "--runtimes", "", "--quick"]
    assert main([*words, "--forms", "transformers-compiled"]) == 0
    (row,) = read(tmp_path).rows
    assert row.reason is None
    assert "StaticCache, compiled" in row.method
