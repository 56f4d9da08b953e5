"""The demo clip as a camera would give it: its pictures or H.264 units, by another decoder, pushed in real time."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle import default_bundle
from edge_sdk.capture import Feed

CLIP = default_bundle() / "demo" / "clip.mp4"
# By the scene's truth, seconds of the clip; a little later its event is open.
CRASH_S: float = json.loads(CLIP.with_suffix(".json").read_text())["crash_start_s"]
AMID_S = CRASH_S + 1.2
_AUD = b"\x00\x00\x00\x01\x09"
_H264 = "-c:v libx264 -preset veryfast -tune zerolatency -crf 20 -x264-params aud=1:repeat-headers=1:scenecut=0"


def decoded(rate_hz: float, until_s: float = 60.0) -> NDArray[np.uint8]:
    """Its pictures as RGB at a rate, those before `until_s`."""
    made = _made(f"-vf fps={rate_hz:g} -t {until_s} -f rawvideo -pix_fmt rgb24")
    return np.frombuffer(made, np.uint8).reshape(-1, 240, 400, 3)


def broken_off(folder: Path) -> Path:
    """A file of it in `folder` that ends in the middle of its event."""
    path = folder / "broken-off.mp4"
    path.write_bytes(_made(f"-t {AMID_S} -c:v libx264 -qp 10 -movflags frag_keyframe+empty_moov -f mp4"))
    return path


def units(rate_hz: int, gop_s: float, still_s: float) -> list[bytes]:
    """Access units of it, a key unit every `gop_s`, behind its first picture held for `still_s`."""
    held = f"-vf tpad=start_duration={still_s}:start_mode=clone,fps={rate_hz}"
    made = _made(f"{held} {_H264}:keyint={round(rate_hz * gop_s)}:min-keyint={round(rate_hz * gop_s)} -f h264")
    before, *found = made.split(_AUD)
    assert before == b""
    return [_AUD + each for each in found]


@contextmanager
def playing(
    feed: Feed, pictures: Sequence[bytes] | NDArray[np.uint8], rate_hz: float, *, ends: bool = True
) -> Iterator[None]:
    """Push pictures or units in real time from another thread, then the end, unless the camera just dies."""

    def push() -> None:
        started_s = time.monotonic()
        for number, picture in enumerate(pictures):
            time.sleep(max(0.0, started_s + number / rate_hz - time.monotonic()))
            feed.push(picture)
        if ends:
            feed.end()

    thread = threading.Thread(target=push, daemon=True)
    thread.start()
    yield
    thread.join(timeout=20)


def _made(words: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-i", str(CLIP), *words.split(), "-"]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
