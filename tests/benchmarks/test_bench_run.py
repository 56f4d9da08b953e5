from __future__ import annotations

import math
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_sdk.benchmarks.conditions import Watch, commit, validity
from edge_sdk.benchmarks.gate import promises_of
from edge_sdk.benchmarks.pipeline import FileTimes, decode_only_s, time_file
from edge_sdk.benchmarks.report import read_report, read_samples
from edge_sdk.benchmarks.run import run_bench
from edge_sdk.bundle import default_bundle, open_bundle
from edge_sdk.errors import ConfigError, SourceError, UnknownNameError


def test_a_run_writes_its_numbers_raw_values_and_conditions(tmp_path: Path) -> None:
    path = run_bench(
        default_bundle(), runtime="null", scenario="paced", fps=100.0, warmup_s=0.1, duration_s=0.3, min_samples=20,
        out=tmp_path / "results",
    )  # fmt: skip
    report = read_report(path)
    samples = read_samples(path, report)
    assert report.subject.bundle_sha256 == open_bundle(default_bundle()).sha256
    assert (report.method.scenario, report.method.fps, report.subject.runtime) == ("paced", 100.0, "null")
    assert report.method.samples == samples.latency.size >= 20
    assert report.latency_ms.p50 == pytest.approx(np.median(samples.latency) / 1e6)
    assert report.subject.precision == {"student": "fp32"}
    assert report.latency_ms.p99 is None
    assert any("p99 (needs 662)" in note for note in report.validity)
    assert report.latency_ms.late_share is not None
    assert report.memory_mb.peak_process is not None
    assert sorted(file.name for file in path.parent.iterdir()) == sorted([path.name, report.raw])
    assert msgspec.json.decode(path.read_bytes())["cold_start_ms"] is None


def test_an_unknown_scenario_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="scenario 'soak'"):
        run_bench(tmp_path / "no bundle", scenario="soak")


@pytest.mark.parametrize(
    "wrong",
    [{"warmup_s": math.nan}, {"duration_s": math.inf}, {"scenario": "paced", "fps": math.inf}],
    ids=["warm-up", "duration", "fps"],
)
def test_numbers_that_never_end_are_refused_before_anything_is_opened(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="finite"):
        run_bench(tmp_path / "no bundle", **wrong)


def test_load_of_others_is_seen_and_told() -> None:
    watch = Watch()
    with subprocess.Popen(["python3", "-c", "while True: pass"]) as other:
        time.sleep(1.2)
        watch.look()
        state = watch.state({})
        other.kill()
    assert state.other_cores is not None
    assert state.other_cores > 0.4
    assert len(watch.readings) == 3
    assert any("other processes used" in note for note in validity(state))


def test_a_quiet_machine_with_locked_clocks_has_nothing_to_note() -> None:
    found = Watch().state({})
    state = msgspec.structs.replace(found, clocks_locked=True, throttled=(), other_cores=0.02, cpu_quota=None)
    assert validity(state) == []
    hot = msgspec.structs.replace(state, throttled=("CPU clock was down to 900 of 2000 MHz",), clocks_locked=False)
    assert validity(hot) == ["clocks not locked", "CPU clock was down to 900 of 2000 MHz"]


@pytest.mark.skipif(shutil.which("git") is None, reason="asks git, which is not installed")
def test_the_commit_is_that_of_the_checkout(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("one")
    for words in (["init", "-q"], ["add", "file"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    found = commit(tmp_path)
    assert found is not None
    assert head.startswith(found)
    (tmp_path / "file").write_text("two")
    assert commit(tmp_path) == f"{found}+dirty"
    installed = tmp_path / ".venv" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "conditions.py").write_text("")
    assert commit(installed) is None


def test_the_median_round_is_held_against_the_margin() -> None:
    times = [FileTimes(7.0, 10.0), FileTimes(5.0, 10.0), FileTimes(6.0, 10.0)]
    student, share, file = promises_of([70.0, 90.0, 200.0], [0.9, 0.7, 0.6], times)
    assert (student.found, student.asserted, student.ok) == (90.0, 85.0, True)
    assert (file.found, file.asserted, file.ok) == (pytest.approx(0.6), pytest.approx(0.595), True)
    assert (share.found, share.asserted, share.ok) == (0.7, pytest.approx(0.68), True)
    assert not any(each.ok for each in promises_of([84.0], [0.67], [FileTimes(5.9, 10.0)]))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    words = "videotestsrc num-buffers=150 pattern=smpte ! video/x-raw,width=640,height=360,framerate=30/1 ! x264enc"
    subprocess.run(
        ["gst-launch-1.0", "-q", *words.split(), "!", "mp4mux", "!", "filesink", f"location={path}"], check=True
    )
    return path


def test_both_sides_of_the_file_ratio_run(video: Path) -> None:
    found = time_file(video, open_bundle(default_bundle()))
    assert 0 < found.decode_s < 30
    assert found.whole_s > 0
    assert found.ratio == pytest.approx(found.decode_s / found.whole_s)


def test_decoding_what_is_no_video_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(SourceError, match=r"a\.mp4"):
        decode_only_s(tmp_path / "a.mp4")
