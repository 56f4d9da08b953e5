"""`edge-sdk run` as a process: lines on stdout, a clean end on signals."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from command_line import SDK

from edge_sdk.bundle import default_bundle

CLIP = default_bundle() / "demo" / "clip.mp4"
NOWHERE = "rtsp://user:secret@127.0.0.1:1/nothing"
DOCS = Path(__file__).parents[2] / "docs"


def start(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen([SDK, "run", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def shown(kind: str, page: str) -> list[str]:
    """The blocks of a page that are written in `kind`."""
    return re.findall(rf"```{kind}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


# Any: JSON of any depth.
def keys(document: Any) -> Any:
    """The keys of a document and of what is in it, but for the first sign of a crash, which may be null."""
    if not isinstance(document, dict):
        return None
    return {key: keys(value) for key, value in document.items() if key != "pre_crash_start"}


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGTERM, "SIGTERM", 0), (signal.SIGINT, "SIGINT", 130)])
def test_a_signal_ends_a_live_run_cleanly(number: signal.Signals, name: str, code: int) -> None:
    process = start(NOWHERE, "--json")
    assert process.stdout is not None
    first = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [change["source_state"]["state"] for change in first] == ["connecting", "backoff"]
    example = json.loads(shown("json", "live.md")[1])
    assert example["source_state"] | {"at_s": 0} == first[1]["source_state"] | {"at_s": 0}
    process.send_signal(number)
    said, complaints = process.communicate(timeout=15)
    assert process.returncode == code
    *later, summary = lines(said)
    assert {change["source_state"]["source"] for change in [*first, *later]} == {"rtsp://127.0.0.1:1/nothing"}
    assert summary["signal"] == name
    assert summary["sources"][0]["stats"]["delivered"] == 0
    assert "secret" not in said + complaints
    assert "Traceback" not in complaints


def test_sigusr1_triggers_an_event_on_every_source_that_shows_pictures(tmp_path: Path) -> None:
    """Beside a camera that never comes the clip is read in real time; that camera only says why not."""
    log = tmp_path / "log"
    words, told = [SDK, "run", str(CLIP), NOWHERE, "--json"], list[dict[str, Any]]()
    with (
        log.open("w") as complaints,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=complaints, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            told.append(json.loads(line))
            if told[-1].get("state") == "confirmed":
                process.send_signal(signal.SIGTERM if told[-1]["trigger"] == "manual" else signal.SIGUSR1)
    assert process.returncode == 0
    *news, summary = told
    events: dict[str, list[dict[str, Any]]] = {"manual": [], "student": []}
    for each in news:
        if "trigger" in each:
            events[each["trigger"]].append(each)
    by_hand, student = events["manual"], events["student"]
    assert [each["state"] for each in by_hand] == ["provisional", "confirmed", "closed"]
    assert len({each["id"] for each in by_hand}) == 1
    assert by_hand[0]["id"] != student[0]["id"]
    assert {each["source"] for each in by_hand} == {CLIP.absolute().as_uri()}
    assert student[0]["timeline"]["crash_start"]["t"] <= by_hand[0]["triggered_s"] < 7.0
    assert student[-1]["state"] == "closed"
    assert summary["signal"] == "SIGTERM"
    said = log.read_text()
    assert "no event was triggered: rtsp://127.0.0.1:1/nothing: expected a live source, found it" in said
    assert "secret" not in said


def test_a_second_signal_ends_the_run_at_once() -> None:
    process = start(NOWHERE, "--json")
    assert process.stdout is not None
    process.stdout.readline()
    # Both wait for a process that stands still, so that the second comes before the first has been acted upon.
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        process.send_signal(number)
    said, complaints = process.communicate(timeout=15)
    assert process.returncode == 130
    assert not any("signal" in line for line in lines(said))
    assert "Traceback" not in complaints


def test_warnings_do_not_wait_for_the_end_of_a_run_without_a_status_line() -> None:
    """On a terminal they come within a second; the camera that never comes keeps the run alive."""
    ours, theirs = pty.openpty()
    words = [SDK, "run", "test://ball?duration=1000&rate=5", NOWHERE, "--json"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=theirs) as process, os.fdopen(ours) as terminal:
        os.close(theirs)
        patience = threading.Timer(60.0, process.kill)
        patience.start()
        told = terminal.readline()
        patience.cancel()
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
    assert "it has 5 pictures a second, but the student needs 10" in told
    assert "frames" not in told


def test_two_files_end_by_themselves() -> None:
    process = start(CLIP, "test://gradient?duration=2", "--json")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    *events, summary = lines(said)
    assert events[-1]["state"] == "closed"
    assert keys(json.loads(shown("json", "live.md")[0])) == keys(events[-1])
    assert summary["events"] == len(events)
    assert [source["state"] for source in summary["sources"]] == ["ended", "ended"]
    assert summary["signal"] is None


def program_of_the_page(cameras: Path) -> list[str]:
    """What docs/jetson.md shows, with the demo's bundle on ONNX Runtime and the addresses in `cameras`."""
    (program,) = shown("python", "jetson.md")
    for there, here in (
        ("/etc/edge/cameras", str(cameras)),
        ("/opt/bundles/current", str(default_bundle())),
        ('"trt"', '"ort"'),
    ):
        assert there in program
        program = program.replace(there, here)
    return [sys.executable, "-c", program]


def test_a_program_may_read_the_addresses_from_a_file(tmp_path: Path) -> None:
    cameras = tmp_path / "cameras"
    cameras.write_text(f"{CLIP}\n")
    done = subprocess.run(program_of_the_page(cameras), capture_output=True, text=True, timeout=60, check=True)
    assert lines(done.stdout)[-1]["state"] == "closed"


def test_that_program_leaves_with_the_codes_of_run(tmp_path: Path) -> None:
    cameras = tmp_path / "cameras"
    missing = subprocess.run(program_of_the_page(cameras), capture_output=True, text=True, timeout=60, check=False)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr == f"-c: {cameras}: No such file or directory; check the path and its permissions\n"
    cameras.write_text(f"{NOWHERE}\n")
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 0)):
        process = subprocess.Popen(
            program_of_the_page(cameras), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        _, complaints = process.communicate(timeout=15)
        assert process.returncode == code
        assert "Traceback" not in complaints


def test_options_of_live_sources_are_refused_with_files_alone() -> None:
    for option, told in (("--rate-hz", "rate_hz is the rate of live sources"), ("--stall-timeout-s", "live settings")):
        process = start(CLIP, option, "5")
        said, complaints = process.communicate(timeout=60)
        assert (process.returncode, said) == (2, "")
        assert told in complaints


def test_an_unknown_transport_is_refused() -> None:
    process = start(NOWHERE, "--protocol", "pigeon")
    _, complaints = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "tcp or udp" in complaints
