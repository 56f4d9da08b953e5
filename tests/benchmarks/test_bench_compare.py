from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_sdk.benchmarks.compare import compare
from edge_sdk.benchmarks.measure import Samples
from edge_sdk.benchmarks.report import (
    MachineState,
    MemoryMb,
    Method,
    Report,
    Span,
    Spread,
    Subject,
    read_report,
    table,
    write_report,
)
from edge_sdk.benchmarks.run import latency_ms
from edge_sdk.errors import ConfigError

Write = Callable[..., Path]

MACHINE = MachineState(
    target="cpu",
    os="Debian",
    kernel="6",
    cpu_model="CPU",
    cores=2,
    memory_total_mb=None,
    power_mode=None,
    governor=None,
    clocks_locked=None,
    jetpack=None,
    tensorrt=None,
    versions={"edge-sdk": "0"},
    cpu_mhz=Spread(min=None, p50=None),
    gpu_mhz=Spread(min=None, p50=None),
    temperature_c=Span(start=None, end=None),
    throttled=None,
    load_1min=None,
    other_cores=0.4,
)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a report of log-normal latencies around `median_ms`."""

    def make(stem: str, median_ms: float, n: int = 700, scenario: str = "single", threads: int = 1) -> Path:
        rng = np.random.default_rng(len(stem) + round(median_ms * 100))
        latency = (median_ms * 1e6 * np.exp(rng.normal(0, 0.05, n))).astype(np.int64)
        samples = Samples(np.cumsum(latency), latency, {"run": latency})
        report = Report(
            subject=Subject(
                model="m", bundle_sha256="ab" * 32, commit=None, runtime="ort", precision={"frames": "float32"},
                input_shape={"frames": ("streams", 3)}, batch=1,
            ),
            machine=MACHINE,
            method=Method(
                scenario=scenario, fps=None, warmup_s=1, duration_s=60.0, samples=n, threads=threads, timer="t",
                inside=("run",), started_utc="2026-01-01T00:00:00Z",
            ),
            latency_ms=latency_ms(samples, None),
            memory_mb=MemoryMb(peak_process=100.0, available_drop=None, engine_on_disk=2.0),
            validity=("clocks not locked",),
            raw=f"{stem}.samples.npz",
        )  # fmt: skip
        return write_report(report, samples, tmp_path, stem)

    return make


def test_a_slower_run_fails_and_a_like_one_passes(write: Write) -> None:
    old, slower, like = write("old", 8.0), write("slower", 8.8), write("like", 8.02)
    found = compare(old, slower)
    assert [change.percentile for change in found.changes] == ["p50", "p95"]
    assert not found.ok
    assert found.changes[0].relative == pytest.approx(0.1, abs=0.02)
    assert found.changes[0].lo < found.changes[0].relative < found.changes[0].hi
    assert "SLOWER" in str(found)
    assert compare(old, like).ok
    assert compare(slower, old).ok


def test_a_limit_may_be_chosen(write: Write) -> None:
    old, slower = write("old", 8.0), write("slower", 8.8)
    assert compare(old, slower, fail=("p50:15%",)).ok
    assert not compare(old, slower, fail=("p50:15%", "p90:2.5%")).ok


def test_a_difference_that_is_not_sure_does_not_fail(tmp_path: Path, write: Write) -> None:
    path = write("old", 8.0, n=12), write("new", 8.3, n=12)
    found = compare(*path, fail=("p50:0.1%",))
    assert found.changes[0].relative > 0.001
    assert found.ok == (found.changes[0].lo <= 0)


def test_the_interval_covers_the_true_change(write: Write) -> None:
    covered = 0
    for k in range(10):
        change = compare(write(f"a{'x' * k}", 8.0), write(f"b{'y' * k}", 8.4), fail=("p50:1%",)).changes[0]
        covered += change.lo <= 0.05 <= change.hi
    assert covered >= 8


def test_percentiles_without_samples_and_other_scenarios_are_refused(write: Write) -> None:
    few = write("few", 8.0, n=100)
    with pytest.raises(ConfigError, match="p95 needs 130 samples, one run has 100"):
        compare(write("old", 8.0), few)
    with pytest.raises(ConfigError, match="cannot be compared"):
        compare(write("old", 8.0), write("paced", 8.0, scenario="paced"))
    with pytest.raises(ConfigError, match="p50:3%"):
        compare(few, few, fail=("max:3%",))


def test_conditions_that_differ_are_told(write: Write) -> None:
    assert compare(write("one", 8.0), write("two", 8.0, threads=2)).differences == ("threads: 1 and 2",)


def test_a_report_is_json_with_units_and_withheld_percentiles(write: Write) -> None:
    path = write("few", 8.0, n=100)
    plain = msgspec.json.decode(path.read_bytes())
    assert plain["schema"] == 1
    assert plain["latency_ms"]["p95"] is None
    assert plain["latency_ms"]["p99.9"] is None
    assert plain["latency_ms"]["p50"] == pytest.approx(8.0, rel=0.05)
    assert plain["energy"] is None
    assert read_report(path).method.samples == 100


def test_the_table_has_a_row_and_the_conditions_under_it(write: Write) -> None:
    text = table([write("few", 8.0, n=100), write("many", 8.0)])
    rows = [line for line in text.splitlines() if line.startswith("| cpu")]
    assert len(rows) == 2
    assert rows[0].count("n/a") == 2
    assert "clocks not locked" in text
    assert "n = 700" in text


def test_unreadable_measurements_name_the_file(write: Write, tmp_path: Path) -> None:
    path = write("old", 8.0)
    (tmp_path / "old.samples.npz").write_bytes(b"broken")
    with pytest.raises(ConfigError, match=r"old\.samples\.npz"):
        compare(path, path)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"other\.json is not a measurement"):
        read_report(tmp_path / "other.json")
    with pytest.raises(ConfigError, match="cannot read"):
        read_report(tmp_path / "absent.json")


@pytest.mark.parametrize("kept", [0, 200])
def test_raw_values_that_were_cut_short_are_named(write: Write, kept: int) -> None:
    """As a copy from a board that was interrupted."""
    whole, cut = write("old", 8.0), write("new", 8.0)
    raw = cut.with_name("new.samples.npz")
    raw.write_bytes(raw.read_bytes()[:kept])
    with pytest.raises(ConfigError, match=r"raw values .*new\.samples\.npz of new\.json cannot be read"):
        compare(whole, cut)


def test_long_runs_are_compared_in_little_memory(write: Write) -> None:
    """A thousand resamples of 20,000 samples at once would be 160 MB, and several times over."""
    reports = write("old", 8.0, n=20_000), write("new", 8.0, n=20_000)
    tracemalloc.start()
    try:
        compare(*reports)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()
