"""The example of docs/live.md that writes an event as a file: it holds the crash, and what was asked before it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from demo_pictures import CLIP, CRASH_S, decoded, playing, units
from numpy.typing import NDArray
from pushing import encode, until
from watched_events import event

import edge_sdk
from edge_sdk.capture import Feed, LiveSettings
from edge_sdk.events import CrashTimeline
from edge_sdk.types import Estimate
from edge_sdk.unit import Unit

RATE_HZ, GOP_S, STILL_S, PRE_ROLL_S = 30, 1.0, 4.0, 2.0
SECTION = (
    (Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8").partition("## An event as a file\n")[2]
)


def block(kind: str) -> str:
    """The first block of the section that is written in `kind`."""
    found = re.search(rf"```{kind}\n(.*?)```", SECTION, re.DOTALL)
    assert found
    return found[1]


def pictures_of(path: Path) -> NDArray[np.int16]:
    """Small grey pictures of a file, by FFmpeg."""
    words = f"-v error -i {path} -vf scale=100:60 -fps_mode passthrough -f rawvideo -pix_fmt gray -"
    made = subprocess.run(["ffmpeg", *words.split()], capture_output=True, check=True, timeout=60)
    return np.frombuffer(made.stdout, np.uint8).reshape(-1, 60, 100).astype(np.int16)


def time_s(picture: NDArray[np.int16], known: NDArray[np.int16]) -> float:
    """When the demo clip shows this picture."""
    return float(np.abs(known - picture).mean(axis=(1, 2)).argmin()) / RATE_HZ


@pytest.mark.native
def test_the_example_writes_what_led_to_the_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed = Feed("h264", rate_hz=RATE_HZ)

    def watch(_: str, **settings: Any) -> Unit:
        return Unit(feed, **settings)

    monkeypatch.setattr(edge_sdk, "open", watch)
    monkeypatch.chdir(tmp_path)
    # The page's ten seconds are more than lie before the crash of the demo.
    example, changed = re.subn(r"pre_roll_s=10\.0,", f"pre_roll_s={PRE_ROLL_S},", block("python"), count=1)
    assert changed
    names: dict[str, Any] = {}
    with playing(feed, units(RATE_HZ, GOP_S, STILL_S), RATE_HZ):
        exec(compile(example, "docs/live.md", "exec"), names)
    (path,) = tmp_path.glob("events/*.mp4")
    assert path.stem in capsys.readouterr().out
    shown, known = pictures_of(path), pictures_of(CLIP)
    assert len(known) == len(decoded(RATE_HZ))
    times_s = [time_s(picture, known) for picture in shown]
    first_s, last_s = times_s[0], times_s[-1]
    # Whole GOPs: a little more than was asked; the student finds the crash to half a second.
    assert CRASH_S - PRE_ROLL_S - GOP_S - 0.5 <= first_s <= CRASH_S - PRE_ROLL_S + 0.5
    assert last_s >= CRASH_S
    # None is missing; what may come before is the picture that was held.
    moving = sum(shown_s > first_s + 2 / RATE_HZ for shown_s in times_s)
    assert moving == pytest.approx((last_s - first_s) * RATE_HZ - 2, abs=3)


def codec_by_ffprobe(path: Path) -> str:
    """What FFmpeg takes the content of a file for, whatever its name is."""
    words = f"-v error -select_streams v:0 -show_entries stream=codec_name -of csv=p=0 {path}"
    return subprocess.run(["ffprobe", *words.split()], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(("kind", "codec", "known"), [("rgb", "h264", "h264"), ("h265", "h265", "hevc"),
                                                      ("mjpeg", "mjpeg", "mjpeg")])  # fmt: skip
def test_a_clip_says_what_its_units_are(kind: Any, codec: str, known: str, tmp_path: Path) -> None:
    luma = [np.full((96, 128), 40 + 2 * number, np.uint8) for number in range(40)]
    pictures = (
        [np.repeat(each[..., None], 3, 2) for each in luma] if kind == "rgb" else [u for u, _ in encode(luma, kind)]
    )
    size = {"width": 128, "height": 96} if kind == "rgb" else {}
    feed = Feed(kind, rate_hz=10, **size)
    with Unit(feed, live=LiveSettings(pre_roll_s=5.0)) as unit, playing(feed, pictures, 10):  # type: ignore[arg-type]
        next(unit.frames())
        start = Estimate(t=0.0, lo=0.0, hi=0.0)
        about = msgspec.structs.replace(
            event("a", "closed"), source=unit.sources[0].uri, timeline=CrashTimeline(crash_start=start)
        )
        until(lambda: len(unit.clip(about, 1.0).units) > 5, 10.0)
        clip = unit.clip(about, 1.0)
    assert clip.codec == codec
    path = tmp_path / "clip"
    path.write_bytes(b"".join(each.data for each in clip.units))
    assert codec_by_ffprobe(path) == known
