from __future__ import annotations

import json
import sys

from terminal_recording import record

# asciicast version 2: a header of one line, then [seconds, "o", text] a line (asciinema's documentation).
SCRIPT = "import os, sys, time; print('ü', os.get_terminal_size().columns); time.sleep(0.3); print(sys.stdout.isatty())"


def test_a_recording_is_an_asciicast_of_a_real_terminal() -> None:
    cast, status = record([sys.executable, "-c", SCRIPT], columns=90, rows=5, title="t")
    head, *events = map(json.loads, cast.decode().splitlines())
    assert (head["version"], head["width"], head["height"], head["title"], status) == (2, 90, 5, "t", 0)
    assert "".join(text for _, _, text in events) == "ü 90\r\nTrue\r\n"
    assert {kind for _, kind, _ in events} == {"o"}
    times = [at for at, _, _ in events]
    assert times == sorted(times)
    assert 0.2 < times[-1] - times[0] < 5


def test_a_failure_of_the_command_is_told() -> None:
    assert record([sys.executable, "-c", "raise SystemExit(3)"])[1] == 3
