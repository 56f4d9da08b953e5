from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge_sdk.benchmarks import conditions, energy
from edge_sdk.benchmarks.energy import energy_of, idle_draw
from edge_sdk.benchmarks.report import read_report, table
from edge_sdk.benchmarks.run import run_bench
from edge_sdk.bundle import default_bundle
from edge_sdk.hardware import Conditions, Draw, observe

MONITOR = "sys/class/hwmon/hwmon1"


def drawing(root: Path, current_ma: float, voltage_mv: float = 5000) -> None:
    """A module's monitor that shows this current."""
    (root / MONITOR).mkdir(parents=True, exist_ok=True)
    files = {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": voltage_mv, "curr1_input": current_ma}
    for name, text in files.items():
        (root / MONITOR / name).write_text(f"{text}\n")


def test_joules_are_the_mean_power_for_the_time_of_a_frame(tmp_path: Path) -> None:
    seen = []
    for current_ma in (1000, 1400):
        drawing(tmp_path, current_ma)
        seen.append(observe(tmp_path))
    found = energy_of(Draw("VDD_IN", 4.0), seen, frames=300, duration_s=60.0)
    assert found is not None
    assert (found.mean_w, found.idle_w, found.rail, found.readings) == (6.0, 4.0, "VDD_IN", 2)
    # 6 W for a minute are 360 J, of which 240 J would have been drawn for nothing.
    assert found.joule_per_frame * 300 == pytest.approx(360.0)
    assert found.joule_per_frame_above_idle * 300 == pytest.approx(120.0)
    assert energy_of(Draw("VIN", 4.0), seen, frames=300, duration_s=60.0) is None
    assert energy_of(None, seen, frames=300, duration_s=60.0) is None


def test_a_run_on_a_board_says_what_it_drew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = tmp_path / "board"
    drawing(board, 800)

    def read() -> Conditions:
        return observe(board)

    monkeypatch.setattr(energy, "observe", read)
    monkeypatch.setattr(energy, "IDLE_INTERVAL_S", 0.0)
    monkeypatch.setattr(conditions, "observe", read)
    monkeypatch.setattr(conditions, "INTERVAL_S", 0.05)
    path = run_bench(
        default_bundle(), runtime="null", scenario="paced", fps=50.0, warmup_s=0.0, duration_s=0.5, min_samples=20,
        out=tmp_path / "out",
    )  # fmt: skip
    found = read_report(path).energy
    assert found is not None
    assert (found.mean_w, found.idle_w, found.rail) == (pytest.approx(4.0), pytest.approx(4.0), "VDD_IN")
    assert found.readings >= 3
    assert found.joule_per_frame == pytest.approx(4.0 / 50.0, rel=0.2)
    told = table([path])
    assert "| J/frame |" in told
    assert "4.00 W at VDD_IN, idle 4.00 W; " in told
    assert msgspec.json.decode(path.read_bytes())["energy"]["rail"] == "VDD_IN"


def test_without_a_monitor_nothing_is_waited_for_or_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "observe", lambda: observe(tmp_path))
    monkeypatch.setattr(energy, "IDLE_INTERVAL_S", 60.0)
    assert idle_draw() is None
