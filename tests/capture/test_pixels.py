"""Pixels: range, colour, scaling, borders, rotation and odd sizes, against Pillow and against arithmetic."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import gi
import numpy as np
import pytest
from PIL import Image

from edge_sdk.capture import CaptureSettings, open_source
from edge_sdk.capture.pipelines import ORIENTATIONS

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402 - the version must be chosen first

Studio = Any  # its class is in conftest.py, which pytest loads under a name of its own
Array = np.ndarray[Any, np.dtype[Any]]


def first(path: Path, width: int, height: int, **more: Any) -> Array:
    with open_source(str(path), CaptureSettings(width=width, height=height, **more)) as source:
        return next(source).pixels


def smooth_picture(width: int, height: int) -> Array:
    """RGB without sharp edges, which every JPEG decoder reads alike."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    planes = [40 + 170 * x, 60 + 150 * y, 120 + 100 * np.sin(6 * x * y)]
    return np.stack(planes, axis=-1).round().astype(np.uint8)


def jpeg(picture: Array, path: Path, **options: Any) -> Array:
    """Write a JPEG at `path`; returns Pillow's reading of it as RGB."""
    written = io.BytesIO()
    Image.fromarray(picture).save(written, "JPEG", quality=95, **options)
    path.write_bytes(written.getvalue())
    return np.asarray(Image.open(written).convert("RGB"))


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"keep_rgb": True}], ids=["420", "444", "rgb"])
@pytest.mark.parametrize(("width", "height"), [(128, 96), (65, 49)])
def test_jpeg_pixels_are_those_that_pillow_reads(
    tmp_path: Path, options: dict[str, Any], width: int, height: int
) -> None:
    path = tmp_path / "picture.jpg"
    rgb = jpeg(smooth_picture(width, height), path, **options)
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    assert np.abs(first(path, width, height) - luma).mean() < 1.5
    assert np.abs(first(path, width, height, pixels="rgb").astype(int) - rgb).mean() < 3.0


def test_a_grey_jpeg_is_not_widened(tmp_path: Path) -> None:
    path = tmp_path / "grey.jpg"
    levels = np.linspace(0, 255, 64).round().astype(np.uint8)
    jpeg(np.tile(levels, (32, 1)), path)
    assert np.abs(first(path, 64, 32)[16].astype(int) - levels).max() <= 3


@pytest.mark.parametrize("size", [(160, 96), (1280, 768)])  # the default colorimetry changes with the size
@pytest.mark.parametrize("kind", ["h264.mp4", "h265.mp4", "vp9.webm"])
def test_luma_runs_from_black_0_to_white_255(studio: Studio, kind: str, size: tuple[int, int]) -> None:
    width, height = size
    levels = np.array([16, 71, 126, 180, 235], np.uint8)
    bars = np.tile(np.repeat(levels, width // 5), (height, 1))
    path = studio.encode(f"levels-{width}-{kind}", [bars] * 2, [0.0, 1 / 30], studio.chains[kind])
    pixels = first(path, 160, 96)
    assert pixels.shape == (96, 160)
    assert pixels.dtype == np.uint8
    assert pixels.flags.owndata
    assert pixels.flags.writeable
    expected = (levels.astype(float) - 16) * 255 / 219
    assert pixels[48, 16::32] == pytest.approx(expected, abs=3)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg is not installed")
@pytest.mark.parametrize("matrix", [(), ("-colorspace", "bt709")], ids=["untagged", "tagged"])
def test_luma_of_full_range_is_not_widened(matrix: tuple[str, ...], tmp_path: Path) -> None:
    levels = np.array([0, 16, 64, 128, 192, 235, 240, 255], np.uint8)
    picture = np.tile(np.repeat(levels, 20), (96, 1))
    grey = np.full((2, 48, 80), 128, np.uint8)
    words = ["-f", "rawvideo", "-pix_fmt", "yuvj420p", "-s", "160x96", "-r", "10", "-i", "-"]
    coded = ["-c:v", "libx264", "-qp", "1", "-color_range", "pc", *matrix, str(tmp_path / "full.mp4")]
    frame = picture.tobytes() + grey.tobytes()
    subprocess.run(["ffmpeg", "-v", "error", *words, *coded], input=frame, check=True, timeout=60)
    pixels = first(tmp_path / "full.mp4", 160, 96)
    assert pixels[48, 10::20] == pytest.approx(levels, abs=1)


@pytest.mark.parametrize("scaler", ["videoconvertscale", "videoconvert videoscale"])
@pytest.mark.parametrize("height", [384, 1080])
def test_both_scalers_average_and_neither_shifts_levels(
    studio: Studio, scaler: str, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_sdk.capture import gst

    monkeypatch.setattr(gst, "scaler", lambda: scaler)
    width = height * 16 // 9 // 4 * 4
    checks = np.where(np.indices((height, width)).sum(axis=0) % 2, 35, 215).astype(np.uint8)
    checks[:, width // 2 :] = 126
    path = studio.encode(f"checks-{height}.mkv", [checks], [0.0], "jpegenc quality=100 ! matroskamux")
    pixels = first(path, 160, 90)
    reference = np.asarray(Image.fromarray(checks).resize((160, 90), Image.Resampling.BILINEAR)).astype(float)
    away = np.r_[4:76, 84:156]  # not where the halves meet, nor at the sides
    assert np.abs(pixels[4:-4, away] - reference[4:-4, away]).max() <= 6


def test_bars_of_known_colour_keep_it_at_any_size() -> None:
    white, yellow, cyan, green, magenta, red, blue = range(7)
    for size in ("width=320&height=240", "width=1920&height=1080"):
        with open_source(
            f"test://smpte100?duration=0.1&{size}", CaptureSettings(width=280, height=160, pixels="rgb")
        ) as source:
            picture = next(source).pixels.astype(int)
        left, right = (0, 280) if "1920" in size else (33, 247)
        centres = [left + (right - left) * (2 * bar + 1) // 14 for bar in range(7)]
        row = picture[40, centres]
        assert row[white].min() >= 230
        assert row[red] == pytest.approx([255, 0, 0], abs=25)
        assert row[green] == pytest.approx([0, 255, 0], abs=25)
        assert row[blue] == pytest.approx([0, 0, 255], abs=25)
        for bar, channels in ((yellow, [255, 255, 0]), (cyan, [0, 255, 255]), (magenta, [255, 0, 255])):
            assert row[bar] == pytest.approx(channels, abs=25)


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (320, 180, (0, 6, 160, 90)),
        (240, 192, (16, 0, 128, 102)),
        (321, 241, (12, 0, 136, 102)),
        (64, 480, (73, 0, 14, 102)),
    ],
)
def test_the_picture_keeps_its_shape_between_black_borders(
    studio: Studio, width: int, height: int, box: tuple[int, int, int, int]
) -> None:
    white = np.full((height, width), 235, np.uint8)
    path = studio.encode(f"white-{width}x{height}.avi", [white], [0.0], "jpegenc quality=95 ! avimux")
    pixels = first(path, 160, 102)
    x, y, w, h = box
    inside = pixels[y + 2 : y + h - 2, x + 2 : x + w - 2]
    assert inside.min() >= 225
    outside = pixels.astype(int)
    outside[max(0, y - 1) : y + h + 1, max(0, x - 1) : x + w + 1] = 0
    assert outside.max() <= 3


@pytest.mark.parametrize(("width", "height"), [(321, 241), (66, 50), (19, 17)])
@pytest.mark.parametrize("pixels", ["luma", "rgb"])
def test_odd_sizes_in_and_out_are_not_sheared(studio: Studio, width: int, height: int, pixels: str) -> None:
    ramp = np.tile(np.linspace(40, 200, width).round().astype(np.uint8), (height, 1))
    path = studio.encode(f"ramp-{width}x{height}.mkv", [ramp], [0.0], "jpegenc quality=95 ! matroskamux")
    shown = first(path, width, height, pixels=pixels).astype(int)
    assert shown.shape[:2] == (height, width)
    rows = shown.reshape(height, width, -1).mean(axis=2)
    assert np.abs(rows - rows[height // 2]).max() <= 12
    assert (np.diff(rows[height // 2]) > -6).all()
    assert rows[:, -2].min() - rows[:, 1].max() > 100


def test_pixels_that_are_not_square_are_made_square(studio: Studio) -> None:
    white = np.full((96, 96), 235, np.uint8)
    path = studio.encode("anamorphic.mkv", [white], [0.0], f"{studio.chains['h264.mkv']}",
                         caps="framerate=30/1,pixel-aspect-ratio=2/1")  # fmt: skip
    pixels = first(path, 96, 96)
    assert pixels[28:68].min() >= 225
    assert max(pixels[:20].max(), pixels[76:].max()) <= 3


# ISO/IEC 14496-12 8.3.2: a, b, u, c, d, v, x, y, w; degrees clockwise
MATRICES = {90: (0, 1, 0, -1, 0, 0, 0, 0), 180: (-1, 0, 0, 0, -1, 0, 0, 0), 270: (0, -1, 0, 1, 0, 0, 0, 0)}


@pytest.mark.parametrize("degrees", sorted(MATRICES))
@pytest.mark.parametrize("pixels", ["luma", "rgb"])
def test_a_file_filmed_on_its_side_stands_upright(studio: Studio, degrees: int, pixels: str) -> None:
    coded = np.full((96, 160), 60, np.uint8)
    coded[:32, :48] = 220  # the coded picture's top left corner is bright
    path = studio.encode(f"turned-{degrees}-{pixels}.mp4", [coded] * 2, [0.0, 1 / 30], studio.chains["h264.mp4"])
    _set_matrix(path, MATRICES[degrees])
    width, height = (96, 160) if degrees != 180 else (160, 96)
    with open_source(str(path), CaptureSettings(width=width, height=height, pixels=pixels)) as source:
        shown = next(source).pixels.reshape(height, width, -1).mean(axis=2)
        assert (source.info.rotation_deg, source.info.width, source.info.height) == (degrees, width, height)
    upright = np.rot90(coded, -degrees // 90)
    bright = shown > 150
    assert (bright == (upright > 150)).mean() > 0.97


def _set_matrix(path: Path, rows: tuple[int, ...]) -> None:
    """Replace the matrix of the one video track: fixed point 16.16, and 2.30 in the last place."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd")
    assert data[at + 4] == 0, "version 0 of tkhd"
    values = [value * 0x10000 for value in rows] + [0x40000000]
    data[at + 44 : at + 80] = b"".join((value & 0xFFFFFFFF).to_bytes(4, "big") for value in values)
    path.write_bytes(data)


@pytest.mark.parametrize("tag", sorted(ORIENTATIONS))
def test_orientations_mean_what_gstreamer_means_by_them(tag: str) -> None:
    drawn = np.arange(32, dtype=np.uint8).reshape(4, 8) * 8
    shown = []
    for flip in ("video-direction=auto", f"video-direction={ORIENTATIONS[tag].direction or 'identity'}"):
        pipeline = Gst.parse_launch(
            "appsrc name=in format=time caps=video/x-raw,format=GRAY8,width=8,height=4,framerate=1/1 ! "
            f"taginject tags=image-orientation={tag} ! videoflip {flip} ! appsink name=out sync=false"
        )
        pipeline.set_state(Gst.State.PLAYING)
        buffer = Gst.Buffer.new_wrapped(drawn.tobytes())
        buffer.pts = 0
        pipeline.get_by_name("in").emit("push-buffer", buffer)
        pipeline.get_by_name("in").emit("end-of-stream")
        sample = pipeline.get_by_name("out").emit("try-pull-sample", 5 * Gst.SECOND)
        caps = sample.get_caps()
        _, width = caps.get_structure(0).get_int("width")
        shown.append((width, sample.get_buffer().extract_dup(0, 64)))
        pipeline.set_state(Gst.State.NULL)
    assert shown[0] == shown[1]
    assert (shown[0][1] == drawn.tobytes()) == (tag == "rotate-0")
    assert (shown[0][0] == 4) == ORIENTATIONS[tag].swaps_sides
