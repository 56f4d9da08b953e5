from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_sdk.benchmarks.compare import compare
from edge_sdk.benchmarks.differences import differences
from edge_sdk.benchmarks.measure import Samples
from edge_sdk.benchmarks.report import (
    MachineState,
    MemoryMb,
    Method,
    Quota,
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


SUBJECT = Subject(
    model="m",
    bundle_sha256="ab" * 32,
    commit=None,
    runtime="ort",
    precision={"frames": "float32"},
    input_shape={"frames": ("streams", 3)},
    batch=1,
)
NOTHING: dict[str, Any] = {}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a report of log-normal latencies around `median_ms`; `machine` and `subject` replace fields of theirs."""

    def make(
        stem: str,
        median_ms: float,
        n: int = 700,
        scenario: str = "single",
        threads: int = 1,
        warmup_s: float = 1.0,
        machine: dict[str, Any] = NOTHING,
        subject: dict[str, Any] = NOTHING,
    ) -> Path:
        rng = np.random.default_rng(len(stem) + round(median_ms * 100))
        latency = (median_ms * 1e6 * np.exp(rng.normal(0, 0.05, n))).astype(np.int64)
        samples = Samples(np.cumsum(latency), latency, {"run": latency})
        report = Report(
            subject=msgspec.structs.replace(SUBJECT, **subject),
            machine=msgspec.structs.replace(MACHINE, **machine),
            method=Method(
                scenario=scenario, fps=None, warmup_s=warmup_s, duration_s=60.0, samples=n, threads=threads, timer="t",
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


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ({"input_shape": {"frames": ("streams", 4)}}, r"input shape is \{'frames': \('streams', 3\)\} and .*4"),
        ({"batch": 2}, "batch is 1 and 2; measure both in the same way"),
    ],
)
def test_runs_on_other_inputs_are_refused(write: Write, subject: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compare(write("old", 8.0), write("new", 8.0, subject=subject))


def test_conditions_that_differ_are_told(write: Write) -> None:
    found = compare(write("one", 8.0), write("two", 8.0, threads=2, warmup_s=0.5), fail=("p50:3%",))
    assert found.differences == ("threads: 1 and 2", "warm-up: 1 s and 0.5 s")
    assert "not the same: threads: 1 and 2" in str(found)
    # Nothing in the numbers can show what differs from run to run.
    assert "frames within this pair of runs" in str(found)


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ({"os": "Ubuntu"}, "system: Debian and Ubuntu"),
        ({"kernel": "7"}, "kernel: 6 and 7"),
        ({"l4t": "36.4.3"}, "L4T: not recorded and 36.4.3"),
        ({"cores": 4}, "cores: 2 and 4"),
        ({"governor": "schedutil"}, "governor: not recorded and schedutil"),
        ({"clocks_locked": True}, "clocks locked: not recorded and yes"),
        ({"throttled": ()}, "throttled: cannot be seen and no"),
        ({"throttled": ("CPU clock was down to 1 of 2 MHz",)}, "throttled: cannot be seen and CPU clock was down to"),
        ({"other_cores": 0.05}, "other load: 0.4 cores and none"),
        ({"cpu_mhz": Spread(min=900, p50=900)}, "CPU clock: not recorded and 900 MHz"),
        ({"gpu_mhz": Spread(min=300, p50=900)}, "GPU clock: not recorded and 900 MHz"),
        ({"gpu": "Orin"}, "GPU: not recorded and Orin"),
        ({"gpu_driver": "540.4.0"}, "GPU driver: not recorded and 540.4.0"),
        ({"cpu_quota": Quota(cores=0.5, held_back=0, held_back_s=0)}, "CPU limit: not recorded and 0.5 cores"),
        ({"versions": {"edge-sdk": "0", "onnxruntime": "1"}}, "version of onnxruntime: not recorded and 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_machine_in_another_state_is_told(write: Write, new: dict[str, Any], said: str) -> None:
    told = differences(read_report(write("one", 8.0)), read_report(write("two", 8.0, machine=new)))
    assert len(told) == 1
    assert told[0].startswith(said)


def test_another_engine_of_the_same_bundle_is_told(write: Write) -> None:
    old = write("one", 8.0, subject={"engine_sha256": "12" * 32})
    other = {"engine_sha256": "34" * 32, "precision": {"frames": "float16"}}
    told = differences(read_report(old), read_report(write("two", 8.0, subject=other)))
    assert told == ("engine: 121212121212 and 343434343434", "precision: frames float32 and frames float16")


def test_a_clock_read_at_another_moment_is_the_same_clock(write: Write) -> None:
    old = write("one", 8.0, machine={"cpu_mhz": Spread(min=900, p50=2596.1)})
    new = write("two", 8.0, machine={"cpu_mhz": Spread(min=300, p50=2580.0)})
    assert differences(read_report(old), read_report(new)) == ()


def test_reports_of_an_older_version_are_compared() -> None:
    """They lack the fields that came later."""
    folder = Path(__file__).parents[2] / "benchmarks" / "results"
    old = next((folder / "2026-11-22").glob("*-single.json"))
    new = next((folder / "2026-11-29").glob("*-single.json"))
    told = compare(old, new, fail=("p50:3%",)).differences
    assert "kernel: 6.18.44-fc-v657 and 6.18.44-fc-v509" in told
    assert any(line.startswith("bundle: ") for line in told)


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
