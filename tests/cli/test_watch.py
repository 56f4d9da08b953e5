"""`edge-sdk run` as a process: lines on stdout, a clean end on signals."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest
from command_line import SDK

from edge_sdk.bundle import default_bundle

CLIP = default_bundle() / "demo" / "clip.mp4"
NOWHERE = "rtsp://user:secret@127.0.0.1:1/nothing"


def start(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen([SDK, "run", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGTERM, "SIGTERM", 0), (signal.SIGINT, "SIGINT", 130)])
def test_a_signal_ends_a_live_run_cleanly(number: signal.Signals, name: str, code: int) -> None:
    process = start(NOWHERE, "--json")
    assert process.stdout is not None
    first = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [change["source_state"]["state"] for change in first] == ["connecting", "backoff"]
    process.send_signal(number)
    said, complaints = process.communicate(timeout=15)
    assert process.returncode == code
    *later, summary = lines(said)
    assert {change["source_state"]["source"] for change in [*first, *later]} == {"rtsp://127.0.0.1:1/nothing"}
    assert summary["signal"] == name
    assert summary["sources"][0]["stats"]["delivered"] == 0
    assert "secret" not in said + complaints
    assert "Traceback" not in complaints


def test_two_files_end_by_themselves() -> None:
    process = start(CLIP, "test://gradient?duration=2", "--json")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    *events, summary = lines(said)
    assert events[-1]["state"] == "closed"
    assert summary["events"] == len(events)
    assert [source["state"] for source in summary["sources"]] == ["ended", "ended"]
    assert summary["signal"] is None


def test_an_unknown_transport_is_refused() -> None:
    process = start(NOWHERE, "--protocol", "pigeon")
    _, complaints = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "tcp or udp" in complaints
