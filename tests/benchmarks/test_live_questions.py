"""A reasoner kept busy beside a benchmark, with a tiny video LLM."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from asking_bundles import make_asking

from edge_sdk.benchmarks.live.questions import asking
from edge_sdk.errors import RuntimeFailure
from edge_sdk.explaining import ReasonerSettings


def test_work_is_counted_from_where_it_is_asked_for(tmp_path: Path) -> None:
    bundle, threads = make_asking(tmp_path), threading.active_count()
    with asking(bundle, 2, ReasonerSettings(priority=0)) as busy:
        until_s = time.monotonic() + 60
        while not busy.answers and time.monotonic() < until_s:
            time.sleep(0.05)
        assert busy.told().answers >= 1
        busy.begin()
        assert busy.frames < 5
        while not busy.frames and time.monotonic() < until_s:
            time.sleep(0.01)
        found = busy.told()
        assert (found.profile, found.priority) == ("96f", 0)
        # One process at work, in ticks of 10 ms over a window that may be as short.
        assert 0 <= found.cores < 3
        busy.frames = 0
        with pytest.raises(RuntimeFailure, match="no frame in all that time"):
            busy.told()
    assert threading.active_count() == threads
