"""Sampling of whole files against FFmpeg and FFprobe, run as the reference runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from asking_clips import make_clip
from numpy.typing import NDArray

from edge_sdk.bundle.manifest_language import VisionProfile
from edge_sdk.errors import SourceError
from edge_sdk.explaining.sampling import plan_clip, read_clip, slots_of, spread, stamps_s

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg is not installed")

PROFILE = VisionProfile(frames=96, rate_hz=10.0, width=364, height=196, graphs={})
VARIABLE = ("-vf", r"select='not(mod(n\,7))+lt(mod(n\,11)\,3)'", "-vsync", "vfr")
TAGGED = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")


class Sampled(NamedTuple):
    pixels: NDArray[np.uint8]
    times_s: NDArray[np.float64]


def reference(path: Path, size: tuple[int, int], most: int = 96) -> Sampled:
    """The reference's own steps: `fps=10:round=down`, times from the start, `np.linspace` beyond the limit."""
    shown = ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams", "-select_streams", "v:0"]
    told = json.loads(subprocess.run([*shown, str(path)], capture_output=True, check=True, timeout=60).stdout)
    start_s, duration_s = float(told["streams"][0]["start_time"]), float(told["format"]["duration"])
    words = ["-vf", "fps=fps=10:round=down", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), *words], capture_output=True, check=True, timeout=60
    ).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0], 3)
    times_s = np.arange(start_s, start_s + duration_s + 0.1, 0.1)[: len(frames)]
    chosen = np.linspace(0, len(frames) - 1, most, dtype=int) if len(frames) > most else np.arange(len(frames))
    return Sampled(frames[chosen], times_s[chosen])


def ours(path: Path) -> Sampled:
    shown = list(read_clip(path, plan_clip(path, PROFILE)))
    return Sampled(np.stack([frame.pixels for frame in shown]), np.array([frame.time_s for frame in shown]))


def assert_same(found: Sampled, expected: Sampled) -> None:
    """The same pictures at the same times: neighbours differ by far more than two decoders of one picture do."""
    np.testing.assert_array_equal(found.times_s, expected.times_s)
    change = np.abs(found.pixels.astype(int) - expected.pixels)
    assert change.mean() < 1.5
    assert np.quantile(change, 0.999) <= 8


@pytest.mark.parametrize(
    ("name", "seconds", "rate", "after"),
    [
        ("steady.mp4", 1.0, "30", ()),
        ("ntsc.mp4", 10.3, "30000/1001", ()),
        ("long.mkv", 11.0, "25", ()),
        ("slow.mp4", 2.0, "5", ()),
        ("odd.mp4", 2.03, "24", ()),
        ("variable.mp4", 3.0, "30", VARIABLE),
        ("variable.mkv", 3.0, "30", VARIABLE),
        ("reordered.mp4", 2.0, "30", ("-preset", "medium", "-bf", "2")),
    ],
)
def test_pictures_and_times_are_the_reference_s(
    name: str, seconds: float, rate: str, after: tuple[str, ...], tmp_path: Path
) -> None:
    path = make_clip(tmp_path / name, seconds=seconds, rate=rate, after=after)
    assert_same(ours(path), reference(path, (96, 64)))


def test_an_offset_start_is_in_the_times(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "offset.mkv", seconds=2.0, after=("-output_ts_offset", "1.25"))
    found, expected = ours(path), reference(path, (96, 64))
    assert expected.times_s[0] == 1.25
    assert_same(found, expected)


def test_a_file_without_an_edit_list_keeps_its_slots_and_times(tmp_path: Path) -> None:
    """GStreamer drops its last pictures, so the last slots repeat the one before."""
    coded = ("-preset", "medium", "-bf", "2", "-use_editlist", "0")
    path = make_clip(tmp_path / "bare.mp4", seconds=2.03, rate="24", after=coded)
    found, expected = ours(path), reference(path, (96, 64))
    assert expected.times_s[0] == pytest.approx(2 / 24, abs=1e-6)
    np.testing.assert_array_equal(found.times_s, expected.times_s)
    assert_same(Sampled(found.pixels[:-2], found.times_s[:-2]), Sampled(expected.pixels[:-2], expected.times_s[:-2]))


def test_a_name_that_is_not_utf_8_changes_nothing(tmp_path: Path) -> None:
    coded = ("-preset", "medium", "-bf", "2", "-use_editlist", "0")
    path = make_clip(tmp_path / "bare.mp4", seconds=2.03, rate="24", after=coded)
    odd = path.with_name(os.fsdecode(b"b\xff.mp4"))
    shutil.copy(path, odd)
    assert plan_clip(odd, PROFILE)[1:] == plan_clip(path, PROFILE)[1:]


def test_a_clip_of_one_picture_is_one_frame(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "one.mp4", seconds=0.03)
    assert ours(path).times_s.tolist() == [0.0]


def test_a_large_picture_says_its_colours_and_keeps_its_size(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "hd.mp4", seconds=0.2, size=(1280, 720), after=TAGGED)
    assert_same(ours(path), reference(path, (1280, 720)))


VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "4M")


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("untagged.mp4", ()),
        ("full.mp4", ("-color_range", "pc")),
        ("matrix.mp4", ("-colorspace", "smpte170m")),
        ("untagged.mov", ("-c:v", "libx265", "-x265-params", "log-level=none")),
        ("untagged.webm", VP9),
        ("tagged.webm", (*VP9, "-colorspace", "bt709")),
        ("motion.avi", ("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p")),
    ],
)
def test_large_pictures_have_ffmpegs_colours_whatever_they_say_of_them(
    name: str, after: tuple[str, ...], tmp_path: Path
) -> None:
    path = make_clip(tmp_path / name, seconds=0.2, size=(1280, 720), after=after)
    assert_same(ours(path), reference(path, (1280, 720)))


def test_ten_minutes_are_spread_over_the_limit() -> None:
    """6,000 frames at 10 a second: the reference's 96 of them, from the first to the last."""
    times_s = np.arange(6000) / 10
    slots = slots_of(times_s, 600.0, 10.0)
    assert slots == list(range(6000))
    chosen = spread(len(slots), 96)
    assert chosen == np.linspace(0, 5999, 96, dtype=int).tolist()
    assert (chosen[0], chosen[-1], len(chosen)) == (0, 5999, 96)
    np.testing.assert_array_equal(stamps_s(0.0, 6000, 10.0), np.arange(0.0, 600.1, 0.1)[:6000])


@pytest.mark.slow
def test_a_file_of_ten_minutes_gives_the_reference_s_96(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "minutes.mp4", seconds=600.0, rate="10", size=(32, 32))
    found = ours(path)
    assert len(found.times_s) == 96
    assert_same(found, reference(path, (32, 32)))


def test_a_file_is_not_looked_through_when_there_is_no_time(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "half a minute.mp4", seconds=30.0, rate="10", size=(32, 32))
    plan = plan_clip(path, PROFILE, until_s=time.monotonic())
    assert plan.pictures == (0,)
    assert plan.info.duration_s == pytest.approx(30.0, abs=0.1)
    whole = plan_clip(path, PROFILE)
    assert plan_clip(path, PROFILE, until_s=time.monotonic() + 600) == whole
    assert [shown.time_s for shown in read_clip(path, whole, until_s=time.monotonic())] == [0.0]
    assert len(list(read_clip(path, whole, until_s=time.monotonic() + 600))) == 96


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("not a video")
    with pytest.raises(SourceError, match="expected a video file"):
        plan_clip(path, PROFILE)


def far_apart(path: Path, last_s: float) -> Path:
    """A file of three pictures, the last of them at `last_s`."""
    late = ("-vf", f"setpts='if(lt(N,2),N/10,{last_s})/TB'", "-fps_mode", "vfr")
    return make_clip(path, seconds=0.3, rate="10", size=(32, 32), after=late)


def test_a_time_stamp_that_lies_years_ahead_is_refused_at_once(tmp_path: Path) -> None:
    """Ten years: a slot for each tenth of a second of them would take 100 GB."""
    path = far_apart(tmp_path / "years.mkv", 10 * 365 * 86400)
    assert path.stat().st_size < 4096
    begun_s = time.monotonic()
    with pytest.raises(SourceError, match=r"years\.mkv: expected .* at most 24 hours, found .* 87600\.0 hours long"):
        plan_clip(path, PROFILE)
    assert time.monotonic() - begun_s < 5.0


def test_a_last_picture_that_is_shown_for_too_long_is_refused_too(tmp_path: Path) -> None:
    """Five pictures of 20,000 s each, by the declared rate: the last one begins within the 24 hours."""
    slow = ("-vf", "setpts=N*20000/TB", "-r", "1/20000", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p")
    path = make_clip(tmp_path / "slow.mkv", seconds=0.5, rate="10", size=(32, 32), after=slow)
    with pytest.raises(SourceError, match=r"found .* 27\.8 hours long"):
        plan_clip(path, PROFILE)


def test_a_clip_of_most_of_a_day_is_spread_over_the_limit(tmp_path: Path) -> None:
    plan = plan_clip(far_apart(tmp_path / "day.mkv", 80_000), PROFILE)
    assert plan.pictures == (0, *[1] * 94, 2)
    assert plan.times_s[-1] >= 80_000
    ticks = np.arange(0.0, 170_000, 0.1)
    assert set(plan.times_s) <= set(ticks)
