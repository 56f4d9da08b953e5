"""Files of every codec and container: each decoded picture is the one that was drawn, at the time it was given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.capture import CaptureSettings, open_source

SIZE = CaptureSettings(width=160, height=96)
Make = Callable[[str], Path]
Studio = Any  # its class is in conftest.py, which pytest loads under a name of its own


def numbers_and_times(studio: Studio, path: Path, settings: CaptureSettings) -> tuple[list[int], list[float]]:
    with open_source(str(path), settings) as source:
        frames = list(source)
    assert [frame.sequence for frame in frames] == list(range(len(frames)))
    return [studio.read(frame.pixels) for frame in frames], [frame.time_s for frame in frames]


KINDS = ["h264.mp4", "h264.mkv", "h264.ts", "h264.flv", "h264.avi", "h265.mp4", "mjpeg.avi", "mjpeg.mov", "mjpeg.mkv",
         "vp9.webm"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_arrives_in_order_at_its_own_time(studio: Studio, counted_clip: Make, kind: str) -> None:
    numbers, times_s = numbers_and_times(studio, counted_clip(kind), SIZE)
    assert numbers == list(range(30))
    # FLV and Matroska keep milliseconds.
    assert times_s == pytest.approx(np.arange(30) / 30, abs=1.1e-3)


@pytest.mark.parametrize(
    ("kind", "decoder"),
    [("h264.mp4", "openh264dec"), ("h265.mp4", "libde265dec"), ("vp9.webm", "vp9dec"), ("mjpeg.avi", "avdec_mjpeg")],
)
def test_the_second_decoder_of_a_codec_gives_the_same_frames(
    studio: Studio, counted_clip: Make, kind: str, decoder: str
) -> None:
    settings = CaptureSettings(width=160, height=96, decoder=decoder)
    with open_source(str(counted_clip(kind)), settings) as source:
        assert source.info.decoder == decoder
        assert [studio.read(frame.pixels) for frame in source] == list(range(30))


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "mjpeg"])
def test_info_says_what_is_in_the_file(counted_clip: Make, codec: str) -> None:
    path = counted_clip({"h264": "h264.mp4", "h265": "h265.mp4", "vp9": "vp9.webm", "mjpeg": "mjpeg.avi"}[codec])
    with open_source(str(path), SIZE) as source:
        info = source.info
    assert (info.codec, info.width, info.height, info.rotation_deg) == (codec, 320, 192, 0)
    assert info.rate_hz == pytest.approx(30.0, abs=0.05)
    assert info.duration_s == pytest.approx(1.0, abs=0.04)
    assert info.start_time_s == pytest.approx(0.0, abs=1e-3)
    assert info.uri == path.as_uri()


@pytest.mark.parametrize("kind", ["h264.mp4", "h264.mkv", "h264.ts", "vp9.webm", "mjpeg.avi"])
def test_a_reduced_rate_shows_the_picture_of_each_instant(studio: Studio, counted_clip: Make, kind: str) -> None:
    settings = CaptureSettings(width=160, height=96, rate_hz=10.0)
    numbers, times_s = numbers_and_times(studio, counted_clip(kind), settings)
    assert times_s == pytest.approx(np.arange(len(times_s)) / 10, abs=1e-6)
    assert len(times_s) in (10, 11)
    drawn_s = np.array(numbers) / 30
    assert np.abs(drawn_s - times_s)[:10].max() <= 0.5 / 30 + 1e-3


@pytest.mark.parametrize(("source_hz", "rate_hz"), [(25, 10.0), (30, 12.0), (5, 10.0), (30, 7.0), (24, 24000 / 1001)])
def test_the_grid_holds_the_nearest_picture_at_any_ratio_of_rates(
    studio: Studio, source_hz: int, rate_hz: float
) -> None:
    count = source_hz * 2
    drawn_s = [number / source_hz for number in range(count)]
    path = studio.encode(f"{source_hz}to{rate_hz:.2f}.mkv", map(studio.counted, range(count)), drawn_s,
                         studio.chains["mjpeg.mkv"], caps=f"framerate={source_hz}/1")  # fmt: skip
    settings = CaptureSettings(width=160, height=96, rate_hz=rate_hz)
    with open_source(str(path), settings) as source:
        frames = list(source)
        stats = source.stats
    times_s = np.array([frame.time_s for frame in frames])
    shown_s = np.array([drawn_s[studio.read(frame.pixels)] for frame in frames])
    assert times_s == pytest.approx(np.arange(len(frames)) / rate_hz, abs=1e-6)
    assert times_s[-1] == pytest.approx(drawn_s[-1], abs=1 / rate_hz + 1e-3)
    inside = times_s <= drawn_s[-1]
    assert np.abs(shown_s - times_s)[inside].max() <= 0.5 / source_hz + 1e-3
    assert (stats.decoded, stats.delivered) == (count, len(frames))
    assert stats.delivered == stats.decoded - stats.dropped + stats.repeated
    assert (stats.repeated > 0) == (rate_hz > source_hz)


def test_uneven_times_are_kept_and_put_on_the_grid(studio: Studio) -> None:
    steps_s = np.tile([0.02, 0.05, 0.011, 0.4, 0.033], 6)
    drawn_s = [0.0, *np.cumsum(steps_s)]
    path = studio.encode("uneven.mkv", map(studio.counted, range(31)), drawn_s, studio.chains["h264.mkv"],
                         caps="framerate=0/1")  # fmt: skip
    numbers, times_s = numbers_and_times(studio, path, SIZE)
    assert numbers == list(range(31))
    assert times_s == pytest.approx(drawn_s, abs=1.1e-3)
    numbers, times_s = numbers_and_times(studio, path, CaptureSettings(width=160, height=96, rate_hz=10.0))
    assert times_s == pytest.approx(np.arange(len(times_s)) / 10, abs=1e-6)
    for number, time_s in zip(numbers, times_s, strict=True):
        nearest_s = min(abs(drawn - time_s) for drawn in drawn_s)
        assert abs(drawn_s[number] - time_s) <= nearest_s + 2.2e-3


@pytest.mark.parametrize("kind", ["h264.mkv", "h264.ts", "h264.mp4"])
@pytest.mark.parametrize("rate_hz", [None, 10.0])
def test_a_file_that_begins_late_still_begins_at_zero(studio: Studio, kind: str, rate_hz: float | None) -> None:
    drawn_s = [2.5 + number / 30 for number in range(30)]
    path = studio.folder / f"late-{kind}"
    if not path.exists():
        studio.encode(path.name, map(studio.counted, range(30)), drawn_s, studio.chains[kind])
    settings = CaptureSettings(width=160, height=96, rate_hz=rate_hz)
    with open_source(str(path), settings) as source:
        frames = list(source)
    assert frames[0].time_s == 0.0
    assert studio.read(frames[0].pixels) == 0
    if kind == "h264.mkv":  # the muxers of the others write times that begin at 0
        assert source.info.start_time_s == pytest.approx(2.5)
    step_s, every = (1 / 30, 1) if rate_hz is None else (0.1, 3)
    assert [frame.time_s for frame in frames[:10]] == pytest.approx([k * step_s for k in range(10)], abs=1.1e-3)
    assert [studio.read(frame.pixels) for frame in frames[:10]] == [k * every for k in range(10)]


@pytest.mark.parametrize(("rate_hz", "step_s"), [(None, 1 / 30), (10.0, 0.1)])
@pytest.mark.parametrize("muxer", ["mp4mux", "matroskamux"])
def test_a_picture_that_starts_after_the_sound_says_how_late(
    studio: Studio, rate_hz: float | None, step_s: float, muxer: str
) -> None:
    path = studio.launch(
        f"late-picture.{muxer}",
        "audiotestsrc num-buffers=90 ! audioconvert ! avenc_aac ! aacparse ! queue ! out. "
        "videotestsrc num-buffers=30 timestamp-offset=1000000000 ! video/x-raw,width=160,height=96,framerate=30/1 ! "
        f"x264enc tune=zerolatency threads=1 ! h264parse ! queue ! {muxer} name=out",
    )
    with open_source(str(path), CaptureSettings(width=160, height=96, rate_hz=rate_hz)) as source:
        times_s = [frame.time_s for frame in source]
    assert source.info.start_time_s == pytest.approx(1.0, abs=0.05)
    assert source.info.duration_s == pytest.approx(2.1, abs=0.1)
    assert len(times_s) - round(1.0 / step_s) in (0, 1)
    assert times_s == pytest.approx(np.arange(len(times_s)) * step_s, abs=1.1e-3)


@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("muxer", ["qtmux", "matroskamux"])
def test_the_last_picture_of_a_file_is_on_the_grid(studio: Studio, count: int, muxer: str) -> None:
    times_s = [number / 30 for number in range(count)]
    path = studio.encode(f"{count}.{muxer}", map(studio.counted, range(count)), times_s, f"jpegenc ! {muxer}")
    numbers, _ = numbers_and_times(studio, path, CaptureSettings(width=160, height=96, rate_hz=30.0))
    assert numbers == list(range(count))


@pytest.mark.parametrize("muxer", ["mp4mux", "matroskamux", "mpegtsmux"])
def test_audio_tracks_are_left_alone(studio: Studio, muxer: str) -> None:
    tone = "audiotestsrc num-buffers=60 ! audioconvert ! avenc_aac ! aacparse ! out."
    video = (
        "videotestsrc num-buffers=30 pattern=smpte ! video/x-raw,width=160,height=96,framerate=30/1 ! "
        f"x264enc speed-preset=ultrafast threads=1 ! h264parse ! queue ! {muxer} name=out"
    )
    path = studio.launch(f"sound.{muxer}", f"{tone} {tone} {video}")
    with open_source(str(path), SIZE) as source:
        assert sum(1 for _ in source) == 30
        assert source.stats.warnings == ()


def test_a_test_pattern_is_the_same_every_time() -> None:
    settings = CaptureSettings(width=64, height=48, rate_hz=None)
    runs = []
    for _ in range(2):
        with open_source("test://ball?duration=0.5&width=128&height=96&rate=20", settings) as source:
            assert (source.info.codec, source.info.rate_hz, source.info.start_time_s) == ("raw", 20.0, 0.0)
            runs.append([(frame.time_s, frame.pixels.tobytes()) for frame in source])
    assert len(runs[0]) == 10
    assert runs[0] == runs[1]
    assert len({pixels for _, pixels in runs[0]}) == 10


@pytest.mark.parametrize("name", ["a b'\"!#%20 ü 事故.mp4", "-n=1 ! fakesink.mp4"])
def test_any_file_name_can_be_opened(studio: Studio, counted_clip: Make, name: str) -> None:
    path = studio.folder / name
    path.write_bytes(counted_clip("h264.mp4").read_bytes())
    for text in (str(path), path.as_uri()):
        with open_source(text, SIZE) as source:
            assert studio.read(next(source).pixels) == 0


def test_real_clips_decode_to_their_declared_end(shared_data: Path) -> None:
    clips = sorted((shared_data / "clips").glob("*.mp4"))
    for path in clips[:: max(1, len(clips) // 5)][:5]:
        with open_source(str(path), CaptureSettings(width=320, height=192, rate_hz=10.0)) as source:
            frames = list(source)
            assert source.info.duration_s is not None
            assert frames[-1].time_s == pytest.approx(source.info.duration_s, abs=0.3)
            assert source.stats.warnings == ()
        assert np.std([frame.pixels.mean() for frame in frames[:5]]) < 60
