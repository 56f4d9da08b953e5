"""A plan of this machine comes true on this machine. Wants a core to itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from plan_measured import MEMORY_SHARE, TIME_SHARE, compare


@pytest.mark.slow
def test_times_within_thirty_and_memory_within_fifteen_per_cent(tmp_path: Path) -> None:
    for row in compare(tmp_path):
        assert abs(row.off) <= (MEMORY_SHARE if row.unit == "MB" else TIME_SHARE), row
