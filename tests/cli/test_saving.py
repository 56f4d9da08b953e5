"""`edge-sdk run --save`: a real camera, a button, signals, disks that are full, small or do not answer."""

from __future__ import annotations

import hashlib
import json
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from command_line import SDK, sdk
from demo_pictures import CLIP
from pushing import encode, until
from saved_files import pictures_in, shown_s, silent_disk
from watched_events import event as made_up

from edge_sdk.benchmarks.live.server import RtspServer, Stream
from edge_sdk.capture import Feed, LiveSettings, muxing
from edge_sdk.capture.patience import Patience
from edge_sdk.cli import saving
from edge_sdk.cli.saving import EventSaver, Saving, saving_of, with_ring
from edge_sdk.events import by_hand
from edge_sdk.saving import SaveSettings
from edge_sdk.unit import Unit

CAMERA = Stream(width=320, height=192, rate_hz=15.0, kbit_s=400, gop_s=0.5)


# Any: JSON of any depth.
def press(
    folder: Path,
    log: Path,
    *words: str,
    on_event: Callable[[subprocess.Popen[str], dict[str, Any]], None],
    prepare: Callable[[], None] | None = None,
) -> tuple[int, list[dict[str, Any]]]:
    """How `run` ends whose button is pressed 3 s after the camera's first picture, and all that it prints.

    `on_event` is given the process and the event by hand.
    """
    told: list[dict[str, Any]] = []
    with RtspServer(CAMERA) as server, log.open("w") as complaints:
        command = [str(SDK), "run", server.uri, "--save", str(folder), *words, "--json"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, preexec_fn=prepare
        ) as process:
            assert process.stdout is not None
            patience = threading.Timer(100.0, process.kill)
            patience.start()
            for line in process.stdout:
                told.append(json.loads(line))
                if told[-1].get("source_state", {}).get("state") == "live":
                    threading.Timer(3.0, process.send_signal, [signal.SIGUSR1]).start()
                if told[-1].get("state") == "confirmed" and told[-1]["trigger"] == "manual":
                    on_event(process, told[-1])
            patience.cancel()
    return process.returncode, told


def run_with_a_button(
    folder: Path, log: Path, *words: str, prepare: Callable[[], None] | None = None
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The event by hand, what became of it, and the summary; the student may see others in what the camera draws.

    SIGTERM comes half a second after it is an event.
    """

    def stop(process: subprocess.Popen[str], _: dict[str, Any]) -> None:
        threading.Timer(0.5, process.send_signal, [signal.SIGTERM]).start()

    code, told = press(folder, log, *words, on_event=stop, prepare=prepare)
    assert code == 0, log.read_text()
    closed = [each for each in told if each.get("state") == "closed"]
    saved = {each["saved"]["event"]: each["saved"] for each in told if "saved" in each}
    assert set(saved) == {each["id"] for each in closed}
    assert sum(told[-1]["clips"].values()) == len(closed)
    (by_hand,) = [each for each in closed if each["trigger"] == "manual"]
    return by_hand, saved[by_hand["id"]], told[-1]


@pytest.mark.native
def test_a_button_and_a_signal_leave_a_clip_that_plays(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    words = ("--pre-roll", "1", "--post-roll", "30", "--save-mb", "100")
    closed, saved, summary = run_with_a_button(folder, tmp_path / "log", *words)
    assert closed["clip"] is None
    page = (Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8")
    (example,) = [
        json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if '{"saved"' in block
    ]
    assert (example["saved"].keys(), example["saved"]["clip"].keys()) == (saved.keys(), saved["clip"].keys())
    assert (saved["event"], saved["source"], saved["reason"]) == (closed["id"], closed["source"], "")
    assert summary["clips"]["lost"] == 0
    path = folder / f"{closed['id']}.mp4"
    assert len(list(folder.iterdir())) == 2 * summary["clips"]["saved"]
    assert json.loads(path.with_suffix(".json").read_text()) == closed | {"clip": saved["clip"]}
    assert saved["clip"]["uri"] == path.as_uri()
    assert saved["clip"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert 1.0 <= saved["clip"]["pre_s"] < 2.2
    assert 0.2 < saved["clip"]["post_s"] < 2.0, "the run was stopped, so its post-roll was not waited for"
    shown = shown_s(path)
    assert shown[-1] == pytest.approx(saved["clip"]["pre_s"] + saved["clip"]["post_s"], abs=0.01)
    assert len(pictures_in(path)) == len(shown) > shown[-1] * CAMERA.rate_hz / 2
    assert closed["id"] not in (tmp_path / "log").read_text(), "there is nothing to complain about"


@pytest.mark.native
def test_a_clip_that_the_disk_does_not_take_is_told_and_counted(tmp_path: Path) -> None:
    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    folder = tmp_path / "events"
    *_, closed, said, summary = run_with_a_button(folder, tmp_path / "log", "--pre-roll", "1", prepare=no_large_files)
    why = f"its clip is lost: {folder / closed['id']}.mp4: File too large"
    assert said == {"schema": 1, "event": closed["id"], "source": closed["source"], "clip": None, "reason": why}
    assert summary["clips"]["saved"] == 0
    assert f"edge-sdk: warning: event {closed['id']}: {why}" in (tmp_path / "log").read_text()
    assert {path.suffix for path in folder.iterdir()} == {".json"}
    assert json.loads((folder / f"{closed['id']}.json").read_text()) == closed


@pytest.mark.native
def test_a_power_cut_leaves_what_led_to_the_event_and_the_event(tmp_path: Path) -> None:
    """SIGKILL comes as soon as the early file is told of, ten seconds before the event is closed."""

    def cut(process: subprocess.Popen[str], event: dict[str, Any]) -> None:
        told_in = tmp_path / "events" / f"{event['id']}.json"
        until(lambda: told_in.exists() and json.loads(told_in.read_text())["clip"])
        process.kill()

    _, told = press(tmp_path / "events", tmp_path / "log", "--pre-roll", "1", on_event=cut)
    (confirmed,) = [each for each in told if each.get("state") == "confirmed" and each["trigger"] == "manual"]
    assert not [each for each in told if each.get("id") == confirmed["id"] and each["state"] == "closed"]
    path = tmp_path / "events" / f"{confirmed['id']}.json"
    found, file = json.loads(path.read_text()), path.with_suffix(".mp4")
    assert found == confirmed | {"clip": found["clip"]}
    assert found["clip"]["uri"] == file.as_uri()
    assert found["clip"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    shown = shown_s(file)
    assert len(pictures_in(file)) == len(shown)
    assert found["clip"]["pre_s"] >= 1.0
    assert 1.0 <= confirmed["triggered_s"] - found["clip"]["start_s"] <= shown[-1] + 0.001


@pytest.mark.native
def test_the_ring_takes_no_more_memory_than_it_may(tmp_path: Path) -> None:
    """Not a unit of this camera is as small."""
    assert saving_of(tmp_path, None, None, None, 128.0) == Saving(tmp_path, SaveSettings(), 128.0)
    assert saving_of(tmp_path, None, None, None, None) == Saving(tmp_path, SaveSettings(), None)
    _, said, summary = run_with_a_button(tmp_path / "events", tmp_path / "log", "--ring-mb", "0.0001")
    assert (said["clip"], said["reason"]) == (None, "no picture of that time was kept")
    assert summary["clips"]["saved"] == 0


def test_options_that_say_nothing_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    nowhere, unsaved = "rtsp://127.0.0.1:1/nothing", "without --save nothing is saved"
    for words, told in (
        ((nowhere, "--pre-roll", "5"), f"{unsaved}; --pre-roll would have no effect: leave it out"),
        ((nowhere, "--ring-mb", "128"), f"{unsaved}; --ring-mb would have no effect: leave it out"),
        (
            (nowhere, "--save", str(tmp_path / "a"), "--ring-mb", "0"),
            "--ring-mb must be above 0, found 0; leave it out",
        ),
        ((str(CLIP), "--save", str(tmp_path / "a")), "--save is for live sources, found only files"),
        ((nowhere, "--save", str(file)), f"{file} cannot be a folder"),
        ((nowhere, "--save", str(tmp_path / "a"), "--post-roll", "-1"), "post_roll_s must be 0 s or more, found -1"),
        ((nowhere, "--save", str(tmp_path / "a"), "--save-mb", "0"), "limit_mb must be above 0, found 0"),
    ):
        done = sdk("run", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert told in done.stderr
    assert list(tmp_path.iterdir()) == [file]


def test_events_of_files_beside_a_camera_are_not_saved(tmp_path: Path) -> None:
    """The camera never comes, so the run is ended when the clip has been read."""
    folder = tmp_path / "events"
    command = [str(SDK), "run", str(CLIP), "rtsp://127.0.0.1:1/nothing", "--save", str(folder), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            told.append(json.loads(line))
            if told[-1].get("state") == "closed":
                process.send_signal(signal.SIGTERM)
    assert any(each.get("state") == "closed" for each in told)
    assert told[-1]["clips"] == {"saved": 0, "lost": 0}
    assert not folder.exists()


def writes() -> bool:
    return any(thread.name.startswith("edge-sdk writing") for thread in threading.enumerate())


@pytest.mark.native
def test_a_disk_that_does_not_answer_holds_up_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The early file hangs, sixteen events wait, three are lost at once; the end waits no longer than it says."""
    monkeypatch.setattr(by_hand, "POST_S", 0.5)
    monkeypatch.setattr(saving, "_END_S", 0.3)
    monkeypatch.setattr(muxing, "_patience", Patience(30.0))
    feed, dead, complaints = Feed("mjpeg", name="front"), threading.Event(), list[str]()
    noise = np.random.default_rng(1).integers(0, 255, (10, 192, 320)).astype(np.uint8)
    jpegs = [data for data, _ in encode(noise, "mjpeg")]

    def play() -> None:
        number = 0
        while not dead.wait(0.05):
            feed.push(jpegs[number % len(jpegs)])
            number += 1

    settings = SaveSettings(pre_roll_s=1.0, post_roll_s=0.0)
    threading.Thread(target=play, daemon=True).start()
    live = with_ring(LiveSettings(), Saving(tmp_path, settings))
    with Unit(feed, live=live) as unit, silent_disk(tmp_path, monkeypatch):
        with EventSaver(unit, Saving(tmp_path, settings), complaints.extend) as saver:
            closed, confirmed, after, missed = None, None, 0, 0
            for step in unit.steps():
                if step.frame.sequence == 20:
                    unit.trigger()
                for event in step.events:
                    saver.notice(event)
                    closed = event if event.state == "closed" else closed
                    confirmed = event if event.state == "confirmed" else confirmed
                if closed is not None and confirmed is not None and not after and writes():
                    missed = unit.missed_rounds
                    for _ in range(18):
                        saver.notice(confirmed)
                        saver.notice(closed)
                after += closed is not None and writes()
                if after == 30:
                    break
            missed = unit.missed_rounds - missed
            begun_s = time.monotonic()
        assert time.monotonic() - begun_s < 3.0
        assert missed < 20, "of the 30 in which the disk was silent"
        dead.set()
    assert closed is not None
    assert (saver.counts.saved, saver.counts.lost) == (0, 19)
    assert sum("16 events already wait to be written: the disk is too slow" in text for text in complaints) == 3
    assert sum("the disk did not write it within 0.3 s after the end" in text for text in complaints) == 16
    assert len(capsys.readouterr().out.splitlines()) == 19


def test_only_confirmed_and_closed_events_of_live_sources_are_saved(tmp_path: Path) -> None:
    complaints: list[str] = []
    with Unit(Feed("mjpeg")) as unit, EventSaver(unit, Saving(tmp_path, SaveSettings()), complaints.extend) as saver:
        for state in ("provisional", "refined", "rejected"):
            saver.notice(made_up("a" * 32, state))  # type: ignore[arg-type]
        saver.notice(msgspec.structs.replace(made_up("a" * 32, "confirmed"), source="file:///clip.mp4"))
        saver.notice(msgspec.structs.replace(made_up("a" * 32, "closed"), source="file:///clip.mp4"))
    assert (saver.counts.saved, saver.counts.lost, complaints) == (0, 0, [])
    assert list(tmp_path.iterdir()) == []
