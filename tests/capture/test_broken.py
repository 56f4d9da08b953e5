"""Files that are not what they should be: the frames that can be decoded and a warning, or one clear error, soon."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.capture import CaptureSettings, open_source
from edge_sdk.errors import ConfigError, SourceError

Make = Callable[[str], Path]
Studio = Any  # its class is in conftest.py, which pytest loads under a name of its own

SIZE = CaptureSettings(width=160, height=96)


def refused(path: Path, settings: CaptureSettings = SIZE) -> str:
    """The message with which `path` is refused, within two seconds."""
    begun_s = time.monotonic()
    with pytest.raises(SourceError) as caught:
        open_source(str(path), settings)
    assert time.monotonic() - begun_s < 2.0
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_what_is_no_file_is_said_to_be_none(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "nothing.mp4")
    assert "folder" in refused(tmp_path)
    (tmp_path / "zero.mp4").touch()
    assert "empty (0 bytes)" in refused(tmp_path / "zero.mp4")
    assert "cannot be read" in refused(tmp_path / ("long" * 100))
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "device" in refused(tmp_path / "pipe.mp4")


@pytest.mark.parametrize("size", [1, 11, 4000])
def test_text_and_noise_are_not_video(tmp_path: Path, size: int) -> None:
    text, noise = tmp_path / "text.mp4", tmp_path / "noise.mkv"
    text.write_text("not a video " * size)
    noise.write_bytes(np.random.default_rng(5).bytes(size * 10))
    for path in (text, noise):
        assert "expected a video file" in refused(path)


@pytest.mark.parametrize(("muxer", "found"), [("mp4mux", "audio/mpeg"), ("matroskamux", "audio/mpeg")])
def test_a_file_of_sound_alone_has_no_video_track(studio: Studio, muxer: str, found: str) -> None:
    text = f"audiotestsrc num-buffers=20 ! audioconvert ! avenc_aac ! aacparse ! {muxer}"
    path = studio.launch(f"sound.{muxer}.bin", text)
    assert f"it has no video track (found: {found})" in refused(path)


def test_a_codec_that_is_not_decoded_is_named_with_those_that_are(studio: Studio) -> None:
    path = studio.launch("theora.mkv", "videotestsrc num-buffers=3 ! theoraenc ! matroskamux")
    assert "its video is video/x-theora, which is not among h264, h265, vp9, mjpeg" in refused(path)


@pytest.mark.parametrize("kept", [0.01, 0.02, 0.5, 0.99])
def test_an_mp4_without_its_index_says_that_it_was_cut_off(counted_clip: Make, tmp_path: Path, kept: float) -> None:
    data = counted_clip("h264.mp4").read_bytes()
    index = data.index(b"moov")
    assert data.index(b"mdat") < index, "the index stands at the end"
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: max(8, int(index * kept))])
    for _ in range(5):
        message = refused(path)
        assert "cut off" in message or "does not recognise" in message


@pytest.mark.parametrize("kind", ["h264.mp4", "h264.mkv", "h264.ts", "mjpeg.avi", "vp9.webm"])
@pytest.mark.parametrize("rate_hz", [None, 10.0])
def test_a_file_cut_off_in_its_data_gives_the_frames_before_the_cut(
    studio: Studio, tmp_path: Path, kind: str, rate_hz: float | None
) -> None:
    chain = studio.chains[kind].replace("mp4mux", "mp4mux faststart=true")
    whole = studio.folder / f"whole-{kind}"
    if not whole.exists():
        rng = np.random.default_rng(1)
        busy = [np.clip(studio.counted(n) + rng.normal(0, 8, (192, 320)), 16, 235).astype(np.uint8) for n in range(60)]
        studio.encode(whole.name, busy, [n / 30 for n in range(60)], chain)
    path = tmp_path / kind
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with open_source(str(path), CaptureSettings(width=160, height=96, rate_hz=rate_hz)) as source:
        frames = list(source)
        stats = source.stats
    every = 1 if rate_hz is None else 3
    assert 10 <= stats.decoded <= 50
    numbers = [studio.read(frame.pixels) for frame in frames[:-2]]  # the picture at the cut may be damaged
    assert numbers == [every * k for k in range(len(numbers))]
    assert frames[-1].time_s <= stats.decoded / 30 + 0.1
    if kind in ("h264.mp4", "h264.mkv", "vp9.webm"):  # the others do not declare how long they are
        assert len(stats.warnings) == 1
        assert "cut off" in stats.warnings[0]
        assert "2.00 s" in stats.warnings[0]


@pytest.mark.parametrize("kind", ["h264.mp4", "h264.mkv", "h264.ts", "h265.mp4", "mjpeg.avi", "vp9.webm"])
def test_broken_bytes_in_the_middle_do_not_end_a_file(
    counted_clip: Make, tmp_path: Path, studio: Studio, kind: str
) -> None:
    data = bytearray(counted_clip(kind).read_bytes())
    at = int(len(data) * 0.45)
    data[at : at + 40] = np.random.default_rng(3).bytes(40)
    path = tmp_path / kind
    path.write_bytes(data)
    with open_source(str(path), SIZE) as source:
        frames = list(source)
    assert len(frames) >= 20
    assert studio.read(frames[0].pixels) == 0
    assert studio.read(frames[-1].pixels) == 29


def test_a_file_of_which_many_pictures_cannot_be_decoded_says_how_many(studio: Studio, tmp_path: Path) -> None:
    """Every picture is a keyframe; those in the middle are no pictures any more."""
    chain = "x264enc tune=zerolatency key-int-max=1 threads=1 ! h264parse ! video/x-h264,stream-format=avc ! mp4mux"
    path = studio.encode("keyed.mp4", [studio.counted(n) for n in range(60)], [n / 30 for n in range(60)], chain)
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + 4
    size = int.from_bytes(data[begin - 8 : begin - 4], "big") - 8
    for place in range(begin + size // 3, begin + 2 * size // 3):
        data[place] ^= 0x5A
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    with open_source(str(damaged), SIZE) as source:
        decoded = sum(1 for _ in source)
        (warning,) = source.stats.warnings
    assert decoded <= 45
    told = f"about {60 - decoded} of the 60 pictures of its declared rate are missing"
    assert warning == f"{told}: the rate varies, or the file is damaged"


@pytest.mark.parametrize("kind", ["h264.mp4", "h264.mkv", "h264.ts", "mjpeg.avi", "vp9.webm"])
@pytest.mark.parametrize("rate_hz", [None, 10.0])
def test_a_short_whole_file_misses_no_pictures(studio: Studio, kind: str, rate_hz: float | None) -> None:
    for frames in (20, 31, 60):
        path = studio.folder / f"short-{frames}-{kind}"
        if not path.exists():
            pictures = [studio.counted(n) for n in range(frames)]
            studio.encode(path.name, pictures, [n / 30 for n in range(frames)], studio.chains[kind])
        with open_source(str(path), CaptureSettings(width=160, height=96, rate_hz=rate_hz)) as source:
            assert list(source)
            assert source.stats.warnings == ()


def test_any_single_cut_or_error_ends_in_frames_or_in_one_error(counted_clip: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    path = tmp_path / "any.bin"
    for kind in ("h264.mp4", "h264.mkv", "h264.ts", "mjpeg.avi"):
        whole = counted_clip(kind).read_bytes()
        for _ in range(6):
            data = bytearray(whole[: rng.integers(1, len(whole))])
            at = rng.integers(0, len(data))
            data[at : at + 4] = rng.bytes(4)
            path.write_bytes(data)
            begun_s = time.monotonic()
            try:
                with open_source(str(path), CaptureSettings(width=160, height=96, rate_hz=10.0)) as source:
                    times_s = [frame.time_s for frame in source]
            except SourceError:
                times_s = [0.0]
            assert times_s[0] == 0.0
            assert times_s == sorted(times_s)
            assert time.monotonic() - begun_s < 5.0


def test_settings_that_do_not_fit_a_file_are_refused(counted_clip: Make) -> None:
    path = str(counted_clip("h264.mp4"))
    with pytest.raises(ConfigError, match="'latest' is for live sources"):
        open_source(path, CaptureSettings(width=160, height=96, policy="latest"))
    with pytest.raises(ConfigError, match=r"no decoder 'vp9dec' works here for h264; known: .*avdec_h264"):
        open_source(path, CaptureSettings(width=160, height=96, decoder="vp9dec"))
