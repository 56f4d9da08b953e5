"""How patient the reasoner's process is beside its parent, as Linux has it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edge_sdk.bundle import Bundle
from edge_sdk.explaining import ReasonerProcess, ReasonerSettings

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux has /proc")

# Numbers of the fields of /proc/PID/stat, from 1: proc(5).
NICE, POLICY = 19, 41
BATCH = 3


def fields(stat: Path) -> list[str]:
    """The fields from the third on; the second is the name, which may hold anything."""
    return stat.read_text().rpartition(")")[2].split()


@pytest.mark.parametrize("priority", [0, 3])
def test_each_of_its_threads_gives_way_and_it_goes_first_when_memory_runs_out(asking: Bundle, priority: int) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with ReasonerProcess(asking, ReasonerSettings(priority=priority, threads=2)) as process, process.begin():
        place = Path(f"/proc/{process.pid}")
        stats = [fields(each / "stat") for each in (place / "task").iterdir()]
        score = int((place / "oom_score_adj").read_text())
    assert len(stats) >= 3, "one works, one listens, one says that it is alive"
    assert {int(stat[NICE - 3]) for stat in stats} == {min(19, own + priority)}
    assert {int(stat[POLICY - 3]) for stat in stats} == {BATCH}
    # A container may give every process more than the 900 that are taken elsewhere.
    assert score == max(900, int(Path("/proc/self/oom_score_adj").read_text()))


def test_ten_is_added_where_nobody_says_how_much() -> None:
    assert ReasonerSettings().priority == 10
