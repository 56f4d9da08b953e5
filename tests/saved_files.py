"""For tests that save clips: what FFmpeg finds in a file, a disk that is full, and one that does not answer."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from pushing import scored, stopping
from watched_events import event as made_up

from edge_sdk.capture import muxing
from edge_sdk.events import Event, EventClip, State
from edge_sdk.unit import Unit

# FFmpeg counts in pictures of a steady rate otherwise, and leaves out the second of two in one of its ticks.
_FINE = ["-enc_time_base", "1:90000"]


def told_in(folder: Path, event: Event) -> Event:
    """The event as the JSON in `folder` tells it."""
    return Event.from_json((folder / f"{event.id}.json").read_bytes())


def shown_s(path: Path) -> list[float]:
    """When each packet of the file is shown, in the order of the file, by FFmpeg."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_entries", "packet=pts_time,dts_time", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout)["packets"]
    if path.suffix == ".mp4":
        decoded = [float(packet["dts_time"]) for packet in found]
        assert decoded == sorted(set(decoded)), "each is decoded after the one before"
        assert all(float(packet["pts_time"]) >= at_s for packet, at_s in zip(found, decoded, strict=True))
    return [float(packet["pts_time"]) for packet in found]


def pictures_in(path: Path, form: str = "") -> list[str]:
    """A hash of each picture that FFmpeg decodes, which finds nothing to complain about."""
    kind = ["-f", form] if form else []
    command = [
        "ffmpeg",
        "-v",
        "error",
        *kind,
        "-i",
        str(path),
        "-fps_mode",
        "passthrough",
        *_FINE,
        "-f",
        "framemd5",
        "-",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert not done.stderr
    return [line.split(",")[-1].strip() for line in done.stdout.splitlines() if not line.startswith("#")]


@contextmanager
def small_disk(folder: Path, kb: int) -> Iterator[Path]:
    """A disk of so many KB; skips where none can be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kb}k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs: run as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def silent_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, clips go into a pipe that nobody empties: it takes 64 KB and then nothing, as a share that is gone."""
    pipe = folder / ".pipe.mkv"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    @contextmanager
    def piped(_: Path) -> Iterator[Path]:
        yield pipe

    try:
        with monkeypatch.context() as patched:
            patched.setattr(muxing, "atomic_path", piped)
            yield
    finally:
        os.close(end)


def event_of(unit: Unit, before_s: float, state: State) -> Event:
    """An event that is triggered so long after the first score, read until it is in the state."""

    def press() -> None:
        with stopping(unit):
            scored(unit)
            time.sleep(before_s)
            unit.trigger()

    thread = threading.Thread(target=press)
    thread.start()
    found = next(unit.events({state}))
    thread.join(timeout=5)
    return found


def saved_before(folder: Path, number: int, mb: float, suffix: str = ".mp4") -> str:
    """An event as an earlier run left it, a minute apart from the next."""
    name = f"{number:032x}"
    (folder / f"{name}{suffix}").write_bytes(bytes(round(mb * 1e6)))
    path = folder / f"{name}.json"
    clip = EventClip(uri="file:///clip", pre_s=1.0, post_s=1.0, gaps_s=(), sha256="0" * 64)
    path.write_text(msgspec.structs.replace(made_up(name, "closed"), clip=clip).to_json())
    os.utime(path, (1e9 + number * 60, 1e9 + number * 60))
    return name
