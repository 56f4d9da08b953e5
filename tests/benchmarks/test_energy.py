from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_sdk.benchmarks import energy, run
from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.benchmarks.energy import Meter
from edge_sdk.benchmarks.measure import Samples
from edge_sdk.benchmarks.report import read_report, table
from edge_sdk.benchmarks.run import run_bench
from edge_sdk.bundle import default_bundle
from edge_sdk.hardware import Draw, read_draw

MONITOR = "sys/class/hwmon/hwmon1"


def drawing(root: Path, current_ma: float) -> None:
    """A module's monitor that shows this current at 5 V."""
    (root / MONITOR).mkdir(parents=True, exist_ok=True)
    files = {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": 5000, "curr1_input": current_ma}
    for name, text in files.items():
        part = root / MONITOR / f".{name}"
        part.write_text(f"{text}\n")
        part.rename(root / MONITOR / name)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(energy, "read_draw", partial(read_draw, tmp_path / "board"))
    monkeypatch.setattr(energy, "IDLE_S", 0.1)
    monkeypatch.setattr(energy, "INTERVAL_S", 0.01)
    return tmp_path / "board"


def test_joules_are_the_mean_power_of_the_run_for_the_time_of_a_frame(board: Path) -> None:
    """What is read before and after the run is not of it."""
    drawing(board, 800)
    with Meter(Watch()) as meter:
        time.sleep(0.1)
        drawing(board, 1200)
        time.sleep(0.05)
        begin_ns = time.perf_counter_ns()
        time.sleep(0.3)
        end_ns = time.perf_counter_ns()
        time.sleep(0.05)
        drawing(board, 400)
        time.sleep(0.1)
    last_ns = 50_000_000
    begins = np.array([begin_ns, end_ns - last_ns], np.int64)
    found = meter.energy(Samples(begins, np.array([last_ns, last_ns], np.int64), {}))
    assert found is not None
    assert (found.mean_w, found.idle_w, found.rail) == (pytest.approx(6.0), pytest.approx(4.0), "VDD_IN")
    assert 10 <= found.readings <= (end_ns - begin_ns) / 1e7 + 2
    # 6 W for as long as two frames took, 4 W of which would have been drawn for nothing.
    run_s = (end_ns - begin_ns) / 1e9
    assert found.joule_per_frame * 2 == pytest.approx(6.0 * run_s)
    assert found.joule_per_frame_above_idle * 2 == pytest.approx(2.0 * run_s)


def test_a_run_on_a_board_says_what_it_drew(board: Path, tmp_path: Path) -> None:
    drawing(board, 800)
    path = run_bench(
        default_bundle(), runtime="null", scenario="paced", fps=50.0, warmup_s=0.0, duration_s=0.5, min_samples=20,
        out=tmp_path / "out",
    )  # fmt: skip
    found = read_report(path).energy
    assert found is not None
    assert found.joule_per_frame == pytest.approx(4.0 / 50.0, rel=0.2)
    told = table([path])
    assert "| J/frame |" in told
    assert "4.00 W at VDD_IN, idle 4.00 W; " in told
    assert msgspec.json.decode(path.read_bytes())["energy"]["rail"] == "VDD_IN"


@pytest.mark.parametrize("monitored", [True, False])
def test_no_power_is_spent_on_polling_where_power_is_measured(
    board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, monitored: bool
) -> None:
    """The wait for a picture ends in a sleep, and only elsewhere with a loop that reads the clock."""
    if monitored:
        drawing(board, 800)
    monkeypatch.setattr(run, "SLEEP_SLACK_S", 0.15)
    sleep, slept = time.sleep, list[float]()

    def remember(seconds: float) -> None:
        slept.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", remember)
    run_bench(
        default_bundle(), runtime="null", scenario="paced", fps=5.0, warmup_s=0.0, duration_s=0.5, min_samples=1,
        out=tmp_path / "out",
    )  # fmt: skip
    assert (max(slept) > 0.1) == monitored


def test_power_is_not_read_at_a_fixed_rate(board: Path) -> None:
    """Readings at the rate of a camera would all fall into the same part of a frame."""
    drawing(board, 800)
    at_ns: list[int] = []

    def read() -> Draw | None:
        at_ns.append(time.perf_counter_ns())
        return read_draw(board)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(energy, "INTERVAL_S", 0.1)
        with Meter(Watch()):
            patched.setattr(energy, "read_draw", read)
            time.sleep(1.5)
    apart_s = np.diff(at_ns) / 1e9
    assert apart_s.size >= 5
    assert apart_s.max() - apart_s.min() > 0.02


def test_without_a_monitor_nothing_is_waited_for_or_told(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "IDLE_S", 60.0)
    begin_s = time.monotonic()
    with Meter(Watch()) as meter:
        pass
    assert meter.energy(Samples(np.zeros(1, np.int64), np.ones(1, np.int64), {})) is None
    assert time.monotonic() - begin_s < 30
