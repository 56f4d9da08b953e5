"""Work that may hang is given so long, and is done all the same where there can be no thread for it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from edge_sdk.capture.patience import Patience
from edge_sdk.errors import SourceError

AT_EXIT = """
import atexit
from edge_sdk.capture.patience import Patience
atexit.register(lambda: print(Patience(5.0).do("stop", lambda: "taken down")))
"""


def test_what_is_taken_down_when_the_program_ends_is_taken_down() -> None:
    """Python 3.12.0 to 3.12.2 start no thread then."""
    found = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stdout) == (0, "taken down\n"), found.stderr


def test_work_is_done_in_place_where_no_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    patience, where = Patience(0.1), []

    def fail() -> None:
        raise ValueError("as it was")

    assert patience.do("stop", lambda: where.append(threading.current_thread()) or "done") == "done"
    assert where == [threading.main_thread()]
    with pytest.raises(ValueError, match="as it was"):
        patience.do("stop", fail)


def test_work_that_takes_too_long_is_left_and_what_it_gives_is_not_lost() -> None:
    given: list[str] = []
    with pytest.raises(SourceError, match=r"opening took more than 0\.1 s"):
        Patience(0.1).do("opening", lambda: time.sleep(0.3) or "late", given.append)
    time.sleep(0.5)
    assert given == ["late"]
