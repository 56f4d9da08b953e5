from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_sdk.benchmarks.live import stamp
from edge_sdk.benchmarks.live.ages import Tally, spinning
from edge_sdk.benchmarks.live.faults import FaultRow, table, told_of
from edge_sdk.benchmarks.live.plots import draw_ages
from edge_sdk.benchmarks.live.results import Observer, ages_of, cpu_s, write_result
from edge_sdk.benchmarks.live.server import Stream
from edge_sdk.capture import SourceChange
from edge_sdk.perception.timeline import FrameScores
from edge_sdk.types import Frame
from edge_sdk.unit import Step

DRAWN_NS = 5_000_000_000_000


def step(*, own_ms: float | None = 12.0, stamped: bool = True) -> Step:
    luma = np.zeros((180, 320), np.uint8)
    if stamped:
        stamp.draw(luma, DRAWN_NS)
    frame = Frame(pixels=luma, time_s=0.0, sequence=0, captured_s=DRAWN_NS / 1e9)
    return Step(frame, FrameScores(0.0, 0.0, 0.0, 0.0, 0.0), (), 1.0, 2.0, own_ms)


def test_a_tally_takes_the_age_from_the_picture() -> None:
    tally = Tally(16 / 9)
    tally.add(step(), DRAWN_NS + 40_000_000)
    assert tally.ages_ms == [pytest.approx(40.0, abs=0.1)]
    assert (tally.own_ms, tally.student_ms) == ([12.0], [2.0])


def test_repeated_and_unreadable_frames_have_no_age() -> None:
    tally = Tally(16 / 9)
    tally.add(step(own_ms=None), DRAWN_NS)
    tally.add(step(stamped=False), DRAWN_NS)
    assert (tally.ages_ms, tally.repeated, tally.unreadable) == ([], 1, 1)


def test_ages_of_few_frames_withhold_their_percentiles() -> None:
    few, many = ages_of([1.0] * 20), ages_of(list(np.arange(1000.0)))
    assert (few.count, few.p50_ms, few.p95_ms, few.max_ms) == (20, 1.0, None, 1.0)
    assert (many.p50_ms, many.p95_ms, many.p99_ms) == pytest.approx((499.5, 949.05, 989.01))
    assert ages_of([]).max_ms is None


@pytest.mark.native  # qemu makes up this process's /proc/PID/stat
def test_spinning_threads_spin_inside_only() -> None:
    before, threads = cpu_s(os.getpid()), threading.active_count()
    deadline_s = time.monotonic() + 30
    with spinning(2):
        assert threading.active_count() == threads + 2
        while cpu_s(os.getpid()) - before <= 0.1:
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
    assert threading.active_count() == threads


def test_a_setting_shows_no_password(tmp_path: Path) -> None:
    setting = Observer().setting(Stream(user="viewer", password="s3cret"), None, 0.2)
    write_result(setting, tmp_path / "setting.json")
    written = (tmp_path / "setting.json").read_text()
    assert "s3cret" not in written
    assert "viewer" not in written
    assert msgspec.json.decode(written)["server_cores"] == 0.2


def test_a_histogram_is_a_picture(tmp_path: Path) -> None:
    draw_ages("ages", [10.0, 20.0, 21.0], {"p50": 20.0, "target": 100.0}, tmp_path / "ages.png")
    with Image.open(tmp_path / "ages.png") as picture:
        assert picture.size == (900, 400)


def test_what_tells_of_a_fault_is_the_first_change_with_a_reason() -> None:
    changes = [
        SourceChange(source="rtsp://a", state="connecting", at_s=1.0),
        SourceChange(source="rtsp://a", state="backoff", at_s=2.0, reason="silent"),
        SourceChange(source="rtsp://a", state="backoff", at_s=3.0, reason="deaf"),
    ]
    told = told_of(changes)
    assert told is not None
    assert told.reason == "silent"
    assert told_of(changes[:1]) is None


def test_the_table_of_faults_says_what_never_came_back() -> None:
    row = FaultRow(fault="killed", hold_s=5.0, told_s=0.05, state="backoff", reason="gone", back_s=None, states=())
    last = table([row]).splitlines()[-1]
    assert [cell.strip() for cell in last.strip("|").split("|")] == ["killed", "backoff", "0.05", "gone", "never"]
