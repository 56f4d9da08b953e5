from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

import edge_sdk
from edge_sdk.benchmarks.live import ages, stamp
from edge_sdk.benchmarks.live.ages import AgeRun, Tally, collect, describe, met, spinning
from edge_sdk.benchmarks.live.faults import FaultRow, table, told_of
from edge_sdk.benchmarks.live.plots import draw_ages
from edge_sdk.benchmarks.live.results import Observer, ages_of, cpu_s, write_result
from edge_sdk.benchmarks.live.server import RtspServer, Stream
from edge_sdk.capture import SourceChange
from edge_sdk.perception.timeline import FrameScores
from edge_sdk.types import Frame
from edge_sdk.unit import Step

DRAWN_NS = 5_000_000_000_000
SMALL = Stream(width=320, height=192, rate_hz=29.97, kbit_s=300)


class SlowObserver(Observer):
    """Holds the reader up for 0.5 s, once a second."""

    _held_up_s = 0.0

    def look(self) -> None:
        if time.monotonic() - self._held_up_s > 1.0:
            time.sleep(0.5)
            self._held_up_s = time.monotonic()


def step(*, own_ms: float | None = 12.0, stamped: bool = True) -> Step:
    luma = np.zeros((180, 320), np.uint8)
    if stamped:
        stamp.draw(luma, DRAWN_NS)
    frame = Frame(pixels=luma, time_s=0.0, sequence=0, captured_s=DRAWN_NS / 1e9)
    return Step(frame, FrameScores(0.0, 0.0, 0.0, 0.0, 0.0), (), 1.0, 2.0, own_ms)


def test_a_tally_takes_the_age_from_the_picture() -> None:
    tally = Tally(16 / 9, 100.0)
    tally.add(step(), DRAWN_NS + 40_000_000)
    assert tally.ages_ms == [pytest.approx(40.0, abs=0.1)]
    assert (tally.own_ms, tally.student_ms) == ([12.0], [2.0])


def test_repeated_and_unreadable_frames_have_no_age_of_fresh_frames() -> None:
    tally = Tally(16 / 9, 100.0)
    tally.add(step(own_ms=None), DRAWN_NS)
    tally.add(step(stamped=False), DRAWN_NS)
    assert (tally.ages_ms, tally.repeated, tally.unreadable) == ([], 1, 1)


def test_every_due_round_has_an_age_though_its_frame_is_repeated_or_missed() -> None:
    tally = Tally(16 / 9, 100.0)
    tally.add(step(), DRAWN_NS + 40_000_000)
    tally.add(step(own_ms=None), DRAWN_NS + 140_000_000)
    tally.miss(2)
    tally.add(step(), DRAWN_NS + 50_000_000)
    assert tally.ages_ms == pytest.approx([40.0, 50.0], abs=0.1)
    assert tally.shown_ms == pytest.approx([40.0, 140.0, 240.0, 340.0, 50.0], abs=0.1)
    assert (tally.repeated, tally.missed, tally.fresh(5.0)) == (1, 2, 0.4)


def run_of(ages_ms: list[float], shown_ms: list[float]) -> AgeRun:
    told = ages_of(ages_ms)
    return AgeRun(
        rate_hz=10.0, seconds=20.0, spinning_threads=0, age=told, shown=ages_of(shown_ms), own=told,
        fresh=len(ages_ms) / 200, student_p50_ms=2.0, repeated=0, unreadable=0, missed_rounds=0, target_p95_ms=100.0,
        setting=Observer().setting(Stream(), None, 0.2),
    )  # fmt: skip


def test_a_target_is_missed_where_rounds_have_no_fresh_frame() -> None:
    assert met(run_of([40.0] * 200, [40.0] * 200))
    assert not met(run_of([40.0] * 180, [40.0] * 200)), "one round in ten without a fresh frame"
    assert not met(run_of([40.0] * 199, [40.0] * 180 + [140.0] * 20)), "old frames are shown"
    assert "90.0% fresh" in describe(run_of([40.0] * 180, [40.0] * 200))


def test_a_unit_that_misses_rounds_tells_its_tally(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally(16 / 9, 50.0)
    with (
        RtspServer(SMALL) as server,
        edge_sdk.open(server.uri, rate_hz=20.0) as unit,
        pytest.MonkeyPatch.context() as p,
    ):
        p.setattr(ages, "WARM_UP_S", 2.0)
        collect(unit, [tally], SlowObserver(), 4.0)
        missed = unit.missed_rounds
    assert 0 < tally.missed < missed, "rounds that were missed in the warm-up are left out"
    assert len(tally.shown_ms) == len(tally.ages_ms) + tally.repeated + tally.missed
    assert max(tally.shown_ms) > 300.0
    assert tally.fresh(80.0) < 0.9


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--seconds", "10"], "expected 13.3 to 86400 s at 10 rounds a second"),
        (["--seconds", "inf"], "found inf s"),
        (["--seconds", "nan"], "found nan s"),
        (["--rate", "inf"], "expected a rate above 0"),
        (["--rate", "nan"], "expected a rate above 0"),
        (["--rate", "0"], "expected a rate above 0"),
        (["--spin", "-1"], "expected --spin and --questions of at least 0, found -1 and 0"),
    ],
)
def test_a_run_that_proves_nothing_is_refused(words: list[str], says: str, tmp_path: Path, capsys: Any) -> None:
    assert ages.main([*words, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


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
