"""Pipeline text, compared with text written by hand. Nothing here needs GStreamer."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from edge_sdk.capture.codecs import CODECS, Codec, Container, codec_of, container_of, install_command
from edge_sdk.capture.pipelines import (
    ORIENTATIONS,
    FilePlan,
    Scaler,
    file_text,
    pattern_text,
    untagged_colorimetry,
)
from edge_sdk.capture.settings import CaptureSettings
from edge_sdk.capture.uri import PatternSource
from edge_sdk.errors import ConfigError

PLANES = (
    "videoconvert name=planes ! "
    "video/x-raw,format=(string){GRAY8,I420,YV12,NV12,NV21,Y41B,Y42B,Y444,NV16,NV24,YUY2,UYVY,I420_10LE,"
    "I422_10LE,Y444_10LE,P010_10LE,GRAY10_LE32,I420_12LE,I422_12LE,Y444_12LE}"
)
QUEUE = "queue max-size-buffers=3 max-size-bytes=0 max-size-time=0"
SINK = "appsink name=frames sync=false max-buffers=4 enable-last-sample=false"


def plan(
    settings: CaptureSettings,
    *,
    media: str = "video/quicktime",
    codec: str = "video/x-h264",
    decoder: str = "avdec_h264",
    scaler: Scaler = "videoconvertscale",
    orientation: str = "rotate-0",
) -> FilePlan:
    container, known = container_of(media), codec_of(codec)
    assert isinstance(container, Container)
    assert isinstance(known, Codec)
    return FilePlan(
        container=container,
        codec=known,
        decoder=next(row for row in known.decoders if row.element == decoder),
        settings=settings,
        scaler=scaler,
        orientation=ORIENTATIONS[orientation],
    )


def test_a_file_at_a_reduced_rate_drops_frames_before_it_scales_luma() -> None:
    assert file_text(plan(CaptureSettings(width=320, height=192, rate_hz=10.0))) == (
        "filesrc name=source ! qtdemux name=demux demux. ! video/x-h264 ! h264parse ! avdec_h264 name=decoder ! "
        f"{QUEUE} ! videorate name=rate skip-to-first=true ! video/x-raw,framerate=10/1 ! {PLANES} ! "
        "videoconvertscale name=scale method=bilinear2 add-borders=true ! "
        "video/x-raw,format=GRAY8,width=320,height=192,pixel-aspect-ratio=1/1 ! " + SINK
    )


def test_colours_that_a_file_does_not_say_are_set_behind_its_decoder() -> None:
    settings = CaptureSettings(width=1280, height=720, pixels="rgb")
    said = plan(settings)
    unsaid = msgspec.structs.replace(said, colorimetry=untagged_colorimetry(full_range=False))
    before, after = file_text(said).split("avdec_h264 name=decoder ! ")
    assert file_text(unsaid) == (
        f"{before}avdec_h264 name=decoder ! video/x-raw ! "
        f"capssetter caps=video/x-raw,colorimetry=(string)2:4:0:0 ! {after}"
    )
    assert untagged_colorimetry(full_range=True) == "1:4:0:0"


def test_every_frame_needs_no_grid_and_an_older_gstreamer_takes_the_luma_plane_before_scaling() -> None:
    settings = CaptureSettings(width=320, height=192)
    text = file_text(
        plan(settings, media="video/webm", codec="video/x-vp9", decoder="vp9dec", scaler="videoconvert videoscale")
    )
    assert text == (
        "filesrc name=source ! matroskademux name=demux demux. ! video/x-vp9 ! vp9parse ! vp9dec name=decoder ! "
        f"{QUEUE} ! {PLANES} ! videoconvert name=luma ! video/x-raw,format=GRAY8 ! "
        "videoscale name=scale method=bilinear2 add-borders=true ! "
        "video/x-raw,format=GRAY8,width=320,height=192,pixel-aspect-ratio=1/1 ! " + SINK
    )


def test_rgb_is_scaled_in_the_format_of_the_stream_and_then_converted() -> None:
    settings = CaptureSettings(width=364, height=196, rate_hz=30000 / 1001, pixels="rgb")
    text = file_text(plan(settings, media="video/x-msvideo", codec="image/jpeg", decoder="jpegdec"))
    assert text == (
        "filesrc name=source ! avidemux name=demux demux. ! image/jpeg ! jpegparse ! jpegdec name=decoder ! "
        f"{QUEUE} ! videorate name=rate skip-to-first=true ! video/x-raw,framerate=30000/1001 ! "
        "videoscale name=scale method=bilinear2 add-borders=true ! "
        "video/x-raw,width=364,height=196,pixel-aspect-ratio=1/1 ! videoconvert ! video/x-raw,format=RGB ! " + SINK
    )


def test_a_picture_on_its_side_is_scaled_into_swapped_sides_and_turned_when_small() -> None:
    text = file_text(plan(CaptureSettings(width=320, height=192), orientation="rotate-90"))
    assert "width=192,height=320,pixel-aspect-ratio=1/1 ! videoflip video-direction=90r ! appsink" in text
    text = file_text(plan(CaptureSettings(width=320, height=192), orientation="rotate-180"))
    assert "width=320,height=192,pixel-aspect-ratio=1/1 ! videoflip video-direction=180 ! appsink" in text


def test_jetson_pictures_are_brought_into_system_memory() -> None:
    text = file_text(
        plan(
            CaptureSettings(width=320, height=192), media="video/mpegts", codec="video/x-h265", decoder="nvv4l2decoder"
        )
    )
    assert text.startswith(
        "filesrc name=source ! tsdemux name=demux demux. ! video/x-h265 ! h265parse ! nvv4l2decoder name=decoder ! "
        f"nvvidconv ! video/x-raw,format=I420 ! {QUEUE} ! "
    )


def test_a_bare_stream_has_no_demuxer() -> None:
    text = file_text(plan(CaptureSettings(width=32, height=32), media="video/x-h264"))
    assert text.startswith("filesrc name=source ! h264parse ! avdec_h264 name=decoder ! ")


def test_a_pattern_has_a_fixed_number_of_frames() -> None:
    source = PatternSource(pattern="smpte", duration_s=2.0, width=640, height=360, rate_hz=12.5)
    assert pattern_text(source, CaptureSettings(width=320, height=192), "videoconvertscale").startswith(
        "videotestsrc name=source pattern=smpte num-buffers=25 ! "
        "video/x-raw,format=I420,width=640,height=360,framerate=25/2,colorimetry=bt601 ! identity name=decoder ! "
    )


@pytest.mark.parametrize(
    ("rate_hz", "fraction"), [(10.0, "10/1"), (29.97, "2997/100"), (24000 / 1001, "24000/1001"), (0.5, "1/2")]
)
def test_rates_become_the_fraction_that_was_meant(rate_hz: float, fraction: str) -> None:
    assert f"framerate={fraction} !" in file_text(plan(CaptureSettings(width=8, height=8, rate_hz=rate_hz)))


@pytest.mark.parametrize(
    "values",
    [{"width": 0}, {"height": 20000}, {"rate_hz": 0.0}, {"rate_hz": -1.0}, {"rate_hz": float("nan")},
     {"rate_hz": 2000.0}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(values: dict[str, float]) -> None:
    given = {"width": 320, "height": 192} | values
    with pytest.raises(ConfigError, match=r"must be"):
        CaptureSettings(**given)  # type: ignore[arg-type]


def test_every_codec_asked_for_can_be_decoded_in_software_from_debian_packages() -> None:
    assert {codec.name for codec in CODECS} == {"h264", "h265", "vp9", "mjpeg"}
    for codec in CODECS:
        software = [row for row in codec.decoders if not row.hardware]
        assert software
        assert all(row.package.startswith("gstreamer1.0-") for row in software)


def test_an_install_command_names_a_package_once() -> None:
    assert install_command("b", "a", "b") == "sudo apt-get install -y b a"


def test_importing_the_package_loads_no_gstreamer() -> None:
    code = "import sys, edge_sdk.capture; sys.exit('gi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
