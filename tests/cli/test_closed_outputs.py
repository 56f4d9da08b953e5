"""Readers of the command's output that are gone, stall or were never there, disks that are full, poor encodings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pytest
from command_line import SDK
from demo_pictures import CLIP
from pushing import until

from edge_sdk.benchmarks.live.server import RtspServer, Stream
from edge_sdk.cli.printing import ROOM, Printer

CAMERA = Stream(width=320, height=192, rate_hz=15.0, kbit_s=400, gop_s=0.5)
NOWHERE = "rtsp://127.0.0.1:1/nothing"


@contextmanager
def running(
    *words: str, stdout: int = subprocess.PIPE, stderr: int | TextIO = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """`edge-sdk` with `words`, killed after 100 s in any case."""
    with subprocess.Popen([SDK, *words], stdout=stdout, stderr=stderr, text=True) as process:
        patience = threading.Timer(100.0, process.kill)
        patience.start()
        try:
            yield process
        finally:
            patience.cancel()
            process.kill()


# Any: JSON of any depth.
def watching(lines: TextIO) -> list[dict[str, Any]]:
    """The lines up to 3 s after a camera's first picture, when an event can be triggered."""
    told: list[dict[str, Any]] = []
    for line in lines:
        told.append(json.loads(line))
        if told[-1].get("source_state", {}).get("state") == "live":
            time.sleep(3.0)
            return told
    raise AssertionError(f"the camera has shown nothing: {told}")


def saved_in(folder: Path) -> list[dict[str, Any]]:
    """The events by hand in `folder` whose clips are there too; the student may see others in what the camera draws."""
    found = [json.loads(path.read_text()) for path in folder.glob("[!.]*.json")] if folder.is_dir() else []
    return [event for event in found if event["trigger"] == "manual" and event["clip"] is not None]


@pytest.mark.native
def test_a_reader_that_goes_costs_no_clip(tmp_path: Path) -> None:
    folder, log = tmp_path / "events", tmp_path / "log"
    with (
        RtspServer(CAMERA) as server,
        log.open("w") as complaints,
        running("run", server.uri, "--save", str(folder), "--pre-roll", "1", "--json", stderr=complaints) as process,
    ):
        assert process.stdout is not None
        watching(process.stdout)
        process.stdout.close()
        process.send_signal(signal.SIGUSR1)
        until(lambda: saved_in(folder) and "events are saved" in log.read_text(), 20.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 3
    assert {event["state"] for event in saved_in(folder)} == {"closed"}
    assert [line for line in log.read_text().splitlines() if "stdout" in line] == [
        "edge-sdk: warning: stdout: Broken pipe; events are saved, but not printed",
        "edge-sdk: stdout: Broken pipe; the lines that followed are lost: keep the reader running, or free space",
    ]


def test_a_run_goes_on_without_the_reader_of_its_warnings() -> None:
    """The camera that never comes is why a warning is written at the button."""
    told: list[dict[str, Any]] = []
    with running("run", str(CLIP), NOWHERE, "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.close()
        for line in process.stdout:
            told.append(json.loads(line))
            if told[-1].get("state") == "confirmed":
                process.send_signal(signal.SIGTERM if told[-1]["trigger"] == "manual" else signal.SIGUSR1)
        assert process.wait() == 3
    assert told[-1]["output_errors"] == ["stderr: Broken pipe"]
    assert told[-1]["dropped_lines"] == 0


def fill(pipe: int) -> None:
    """Write to a pipe until it takes no more, through an opening that waits for nothing."""
    again = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(again, b"{}\n" * 16)
    except BlockingIOError:
        os.close(again)


@pytest.mark.native
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux opens a pipe again by its number")
def test_a_reader_that_stalls_holds_up_neither_saving_nor_the_end(tmp_path: Path) -> None:
    folder, log = tmp_path / "events", tmp_path / "log"
    reading, writing = os.pipe()
    with (
        RtspServer(CAMERA) as server,
        log.open("w") as complaints,
        os.fdopen(reading) as lines,
        running(
            "run", server.uri, "--save", str(folder), "--pre-roll", "1", "--json", stdout=writing, stderr=complaints
        ) as process,
    ):
        watching(lines)
        fill(writing)
        process.send_signal(signal.SIGUSR1)
        until(lambda: saved_in(folder), 20.0)
        by_hand = (event for event in map(json.loads, lines) if event.get("trigger") == "manual")
        assert [next(by_hand)["state"] for _ in range(2)] == ["provisional", "confirmed"]
        fill(writing)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
        os.close(writing)
        assert {line for line in lines if '"trigger":"manual"' in line} == set(), "nothing was read since the last fill"
    assert {event["state"] for event in saved_in(folder)} == {"closed"}
    assert "lines of stdout were dropped, because its reader stalled\n" in log.read_text()


@contextmanager
def piped() -> Iterator[tuple[TextIO, TextIO]]:
    """Both ends of a pipe."""
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as source, os.fdopen(writing, "w", encoding="utf-8") as sink:
        yield source, sink


def test_a_stalled_reader_costs_the_oldest_lines_and_no_order() -> None:
    """The pipe holds 64 KiB; each line has 100 bytes."""
    asked = 4 * ROOM
    with piped() as (source, sink):
        printer = Printer(sink, threading.Lock())
        begun_s = time.monotonic()
        for number in range(asked):
            printer.put(f"{number:99d}\n")
        assert time.monotonic() - begun_s < 2.0
        dropped = printer.dropped
        numbers = [int(source.readline()) for _ in range(asked - dropped)]
        printer.finish(5.0)
    assert printer.dropped == dropped > 0
    assert numbers == sorted(numbers)
    assert numbers[-ROOM:] == list(range(asked - ROOM, asked))


def test_the_end_waits_no_longer_than_it_says() -> None:
    with piped() as (source, sink):
        printer = Printer(sink, threading.Lock())
        for number in range(2 * ROOM):
            printer.put(f"{number:99d}\n")
        begun_s = time.monotonic()
        printer.finish(0.3)
        assert time.monotonic() - begun_s < 2.0
        print("goes to the null device", file=sink, flush=True)
        whole = [line for line in source if line.endswith("\n")]
    assert len(whole) + printer.dropped in (2 * ROOM, 2 * ROOM + 1), "the line under way may end yet"


def test_what_was_given_up_goes_into_no_file_that_is_opened_later() -> None:
    """The number of a closed file is the next one's, and a write that hung may go on when its reader does."""
    with piped() as (source, sink), piped() as (later, other):
        printer = Printer(sink, threading.Lock())
        printer.put("x" * 1_000_000 + "\n")
        printer.put("y\n")
        time.sleep(0.2)
        printer.finish(0.1)
        os.dup2(other.fileno(), sink.fileno())
        assert len(source.read()) == 1_000_001
        time.sleep(0.2)
        for each in (sink, other):
            each.close()
        assert later.read() == ""


def test_a_healthy_reader_gets_every_byte_at_once() -> None:
    with piped() as (source, sink):
        printer = Printer(sink, threading.Lock())
        for text in ("{}\n", '{"name": "größer ł 車"}\n', "x" * 300_000 + "\n"):
            printer.put(text)
            assert source.readline() == text
        printer.finish(5.0)
    assert (printer.dropped, printer.failure) == (0, None)


@pytest.mark.parametrize(
    "words", [("--version",), ("--help",), ("nonsense",), ("bundle", "show"), ("run", str(CLIP), "--json")]
)
def test_a_closed_pipe_ends_any_verb_silently(words: tuple[str, ...], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    log = tmp_path / "log"
    streams = {"stdout": writing} if words != ("nonsense",) else {"stderr": writing}
    with log.open("w") as other:
        kept = {"stdout": other, "stderr": other} | streams
        done = subprocess.run([SDK, *words], **kept, timeout=100, check=False)  # type: ignore[call-overload]
    os.close(writing)
    assert (done.returncode, log.read_text()) == (141, "")


def test_a_full_disk_behind_stdout_ends_a_run_that_saves_nothing() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [SDK, "run", CLIP, "--json"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=100, check=False
        )
    assert done.returncode == 3
    assert done.stderr.startswith("edge-sdk: stdout: No space left on device; the lines that followed are lost")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_outputs_that_are_closed_from_the_start_are_done_without(closed: str) -> None:
    for words in ("bundle show", "run 'test://gradient?duration=1'"):
        done = subprocess.run(["sh", "-c", f"{SDK} {words} {closed}"], capture_output=True, timeout=100, check=False)
        assert (done.returncode, done.stderr) == (0, b""), words


def test_what_an_encoding_lacks_is_escaped_as_json_reads_it() -> None:
    """Latin-1 has ö alone of these."""
    words = "Köln łuk 車 😀"
    body = f"run_script(lambda: say('\"{words}\"') or warn(['{words}']) or 0)"
    done = subprocess.run(
        [sys.executable, "-c", f"from edge_sdk.console import run_script, say, warn; {body}"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "latin-1:strict"},
        timeout=60,
        check=False,
    )
    assert (done.returncode, json.loads(done.stdout.decode("latin-1"))) == (0, words)
    assert done.stderr.decode("latin-1") == f"edge-sdk: warning: Köln {json.dumps('łuk 車 😀')[1:-1]}\n"
