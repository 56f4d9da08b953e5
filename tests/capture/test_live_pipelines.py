"""Text of live pipelines, compared with text written by hand. Those of platforms that are not here await a board."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Set

import pytest

from edge_sdk.capture.codecs import CODECS
from edge_sdk.capture.live_pipelines import LivePlan, branch_text, camera_format, source_text
from edge_sdk.capture.pipelines import Scaler
from edge_sdk.capture.platforms import (
    LIVE_CODECS,
    PLATFORMS,
    PROPERTIES,
    STARTED,
    Features,
    choose,
    choose_encoder,
)
from edge_sdk.capture.settings import CaptureSettings, HistorySettings, LiveSettings
from edge_sdk.capture.uri import CsiSource, LiveUri, PushSource, RtspSource, V4l2Source
from edge_sdk.errors import ConfigError, MissingDependencyError, UnknownNameError

CODEC = {codec.name: codec for codec in CODECS}
FFMPEG = {"avdec_h264", "avdec_h265", "avdec_mjpeg", "jpegdec", "openh264dec", "openh264enc", "libde265dec"}
FFMPEG_KNOBS = {"avdec_h264.thread-type", "avdec_h265.thread-type", "openh264enc.complexity"}
KEYFRAMES = {"rtph264depay.wait-for-keyframe", "rtph264depay.request-keyframe"}
STAMPS = {"rtspsrc.add-reference-timestamp-meta"}


def features(elements: Set[str], properties: Set[str], broken: Set[str] = frozenset()) -> Features:
    return Features(elements=frozenset(elements), properties=frozenset(properties), broken=frozenset(broken))


JETPACK = {"nvv4l2decoder", "nvvidconv", "nvv4l2h264enc", "nvarguscamerasrc"} | FFMPEG
JETPACK_KNOBS = {"nvv4l2decoder.enable-max-performance", "nvv4l2decoder.disable-dpb", "nvv4l2h264enc.maxperf-enable"}
# GStreamer 1.20, Orin.
ORIN_6 = features(JETPACK, JETPACK_KNOBS | FFMPEG_KNOBS | KEYFRAMES | {"nvv4l2decoder.image/jpeg"})
# GStreamer 1.24; Thor has no JPEG decoder, Orin Nano no encoder.
THOR_7 = features(JETPACK, JETPACK_KNOBS | FFMPEG_KNOBS | KEYFRAMES | STAMPS)
NANO_7 = features(JETPACK - {"nvv4l2h264enc"}, THOR_7.properties | ORIN_6.properties, {"nvv4l2h264enc"})
NVIDIA = features(
    {"nvh264dec", "nvh265dec", "cudadownload", "nvh264enc"} | FFMPEG,
    {"nvh264dec.max-display-delay", "nvh264enc.zerolatency"} | FFMPEG_KNOBS | KEYFRAMES | STAMPS,
)
VA = features({"vah264dec", "vah265dec", "vapostproc", "vah264enc"} | FFMPEG, FFMPEG_KNOBS | KEYFRAMES | STAMPS)
SOFTWARE = features(FFMPEG, FFMPEG_KNOBS | KEYFRAMES | STAMPS)

NEWEST = "queue leaky=downstream max-size-buffers=1 max-size-bytes=0 max-size-time=0"
BURST = "queue max-size-buffers=0 max-size-bytes=32000000 max-size-time=1000000000"
SINK = "async=false wait-on-eos=false enable-last-sample=false"
UNITS = (
    f"queue max-size-buffers=8 max-size-bytes=0 max-size-time=0 ! appsink name=units sync=false max-buffers=600 {SINK}"
)
RECEIVED = "identity name=received silent=true"
DECODED = "identity name=decoded silent=true"
H264 = "video/x-h264,stream-format=byte-stream,alignment=au"
H265 = "video/x-h265,stream-format=byte-stream,alignment=au"
DEPAY = f"rtph264depay wait-for-keyframe=true request-keyframe=true ! {H264}"
PLANES = (
    "videoconvert name=planes ! "
    "video/x-raw,format=(string){GRAY8,I420,YV12,NV12,NV21,Y41B,Y42B,Y444,NV16,NV24,YUY2,UYVY,I420_10LE,"
    "I422_10LE,Y444_10LE,P010_10LE,GRAY10_LE32,I420_12LE,I422_12LE,Y444_12LE}"
)
GRAY = "video/x-raw,format=GRAY8,width=320,height=192,pixel-aspect-ratio=1/1"
FRAMES = f"appsink name=frames sync=false max-buffers=1 drop=true {SINK}"
LUMA = f"{PLANES} ! videoconvertscale name=scale method=bilinear2 add-borders=true ! {GRAY} ! {FRAMES}"
LUMA_1_20 = (
    f"{PLANES} ! videoconvert name=luma ! video/x-raw,format=GRAY8 ! "
    f"videoscale name=scale method=bilinear2 add-borders=true ! {GRAY} ! {FRAMES}"
)
RATE = (
    "capssetter caps=video/x-raw,framerate=1000/1 ! "
    "videorate name=history-rate drop-only=true skip-to-first=true ! video/x-raw(ANY),framerate=10/1"
)
HISTORY = (
    "videoscale name=history-scale method=bilinear2 add-borders=true ! "
    "video/x-raw,width=364,height=196,pixel-aspect-ratio=1/1 ! videoconvert ! video/x-raw,format=RGB ! "
    f"appsink name=history sync=false max-buffers=64 drop=true {SINK}"
)
NVVIDCONV = "nvvidconv ! video/x-raw,format=I420"

RTSP = RtspSource(location="rtsp://camera.example:554/secret-path?token=secret", user="secret-user", password="secret")
PLAIN = LiveSettings()
PRE_ROLL = LiveSettings(pre_roll_s=5.0)
KEPT = LiveSettings(history=HistorySettings(width=364, height=196))
BOTH = LiveSettings(pre_roll_s=5.0, history=HistorySettings(width=364, height=196))


def plan(
    here: Features,
    live: LiveSettings = PLAIN,
    *,
    source: LiveUri = RTSP,
    scaler: Scaler = "videoconvertscale",
    decoder: str | None = None,
) -> LivePlan:
    settings = CaptureSettings(width=320, height=192, policy="latest", decoder=decoder, live=live)
    return LivePlan(source=source, settings=settings, features=here, scaler=scaler)


def text(here: Features, codec: str | None, live: LiveSettings = PLAIN, **given: object) -> str:
    return branch_text(plan(here, live, **given), CODEC[codec] if codec else None)  # type: ignore[arg-type]


def test_rtsp_asks_for_stamps_where_the_element_has_them() -> None:
    tail = "protocols=tcp latency=100 drop-on-latency=false tcp-timeout=5000000"
    assert source_text(plan(SOFTWARE)) == f"rtspsrc add-reference-timestamp-meta=true name=source {tail}"
    assert source_text(plan(ORIN_6)) == f"rtspsrc name=source {tail}"
    udp = LiveSettings(protocol="udp", jitter_ms=40)
    assert "protocols=udp latency=40 drop-on-latency=true" in source_text(plan(SOFTWARE, udp))


def test_software_h264() -> None:
    assert text(SOFTWARE, "h264") == (
        f"{DEPAY} ! h264parse config-interval=-1 ! {H264} ! {RECEIVED} ! {BURST} ! "
        f"avdec_h264 thread-type=slice name=decoder ! {DECODED} ! {NEWEST} ! {LUMA}"
    )


def test_units_and_history_branch_off_before_and_after_the_decoder() -> None:
    assert text(SOFTWARE, "h265", BOTH) == (
        f"rtph265depay ! {H265} ! h265parse config-interval=-1 ! {H265} ! {RECEIVED} ! "
        f"tee name=encoded encoded. ! {UNITS} encoded. ! {BURST} ! "
        f"avdec_h265 thread-type=slice name=decoder ! {DECODED} ! "
        f"tee name=pictures pictures. ! {NEWEST} ! {LUMA} pictures. ! {NEWEST} ! {RATE} ! {HISTORY}"
    )


def test_software_mjpeg_with_units() -> None:
    assert text(SOFTWARE, "mjpeg", PRE_ROLL) == (
        f"rtpjpegdepay ! jpegparse ! image/jpeg ! {RECEIVED} ! tee name=encoded encoded. ! {UNITS} "
        f"encoded. ! {BURST} ! jpegdec name=decoder ! {DECODED} ! {NEWEST} ! {LUMA}"
    )


def test_jetpack_6_copies_only_pictures_that_are_used() -> None:
    assert text(ORIN_6, "h264", KEPT, scaler="videoconvert videoscale") == (
        f"{DEPAY} ! h264parse config-interval=-1 ! {H264} ! {RECEIVED} ! {BURST} ! "
        f"nvv4l2decoder enable-max-performance=true disable-dpb=true name=decoder ! {DECODED} ! "
        f"tee name=pictures pictures. ! {NEWEST} ! {NVVIDCONV} ! {LUMA_1_20} "
        f"pictures. ! {NEWEST} ! {RATE} ! {NVVIDCONV} ! {HISTORY}"
    )


def test_mjpeg_is_decoded_by_the_engine_of_orin_and_by_the_cpu_of_thor() -> None:
    head = f"rtpjpegdepay ! jpegparse ! image/jpeg ! {RECEIVED} ! {BURST} ! "
    assert text(ORIN_6, "mjpeg", scaler="videoconvert videoscale") == (
        f"{head}nvv4l2decoder enable-max-performance=true disable-dpb=true mjpeg=true name=decoder ! {DECODED} ! "
        f"{NEWEST} ! {NVVIDCONV} ! {LUMA_1_20}"
    )
    assert text(THOR_7, "mjpeg") == f"{head}jpegdec name=decoder ! {DECODED} ! {NEWEST} ! {LUMA}"


def test_a_low_latency_mode_is_preferred_to_no_picture_buffer() -> None:
    both = features(THOR_7.elements, THOR_7.properties | {"nvv4l2decoder.low-latency-mode"})
    assert "nvv4l2decoder enable-max-performance=true low-latency-mode=true name=decoder" in text(both, "h265")


def test_a_csi_camera_on_jetpack_7() -> None:
    source = CsiSource(sensor=1, width=1920, height=1080, rate_hz=30.0)
    assert source_text(plan(THOR_7, source=source)) == (
        "nvarguscamerasrc name=source sensor-id=1 ! "
        "video/x-raw(memory:NVMM),format=NV12,width=1920,height=1080,framerate=30/1"
    )
    raw = f"identity name=decoder silent=true ! {DECODED} ! {NEWEST} ! {NVVIDCONV} ! {LUMA}"
    assert text(THOR_7, None, source=source) == f"{RECEIVED} ! {raw}"
    queue = "queue leaky=downstream max-size-buffers=4 max-size-bytes=0 max-size-time=0"
    parsed = f"h264parse config-interval=-1 ! {H264} ! {UNITS}"
    assert text(THOR_7, None, PRE_ROLL, source=source) == (
        f"{RECEIVED} ! tee name=raw raw. ! {queue} ! nvv4l2h264enc maxperf-enable=true name=encoder "
        f"iframeinterval=30 idrinterval=30 bitrate=6220800 ! {parsed} raw. ! {raw}"
    )
    assert text(NANO_7, None, PRE_ROLL, source=source) == (
        f"{RECEIVED} ! tee name=raw raw. ! {queue} ! {NVVIDCONV} ! videoconvert ! video/x-raw,format=I420 ! "
        "openh264enc complexity=low name=encoder gop-size=30 rate-control=bitrate bitrate=6220800 ! "
        f"{parsed} raw. ! {raw}"
    )


def test_discrete_nvidia() -> None:
    assert text(NVIDIA, "h264") == (
        f"{DEPAY} ! h264parse config-interval=-1 ! {H264} ! {RECEIVED} ! {BURST} ! "
        f"nvh264dec max-display-delay=0 name=decoder ! {DECODED} ! {NEWEST} ! cudadownload ! video/x-raw ! {LUMA}"
    )
    assert f"! jpegdec name=decoder ! {DECODED} ! {NEWEST} ! {PLANES}" in text(NVIDIA, "mjpeg")
    assert " nvh264enc zerolatency=true name=encoder gop-size=15 bitrate=1382 !" in text(
        NVIDIA, None, PRE_ROLL, source=V4l2Source(width=1280, height=720, rate_hz=15.0)
    )


def test_va() -> None:
    assert text(VA, "h265", KEPT) == (
        f"rtph265depay ! {H265} ! h265parse config-interval=-1 ! {H265} ! {RECEIVED} ! {BURST} ! "
        f"vah265dec name=decoder ! {DECODED} ! tee name=pictures "
        f"pictures. ! {NEWEST} ! vapostproc ! video/x-raw ! {LUMA} "
        f"pictures. ! {NEWEST} ! {RATE} ! vapostproc ! video/x-raw ! {HISTORY}"
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (V4l2Source(), "video/x-raw"),
        (V4l2Source(format="raw", width=640), "video/x-raw,width=640"),
        (V4l2Source(format="mjpeg", width=1280, height=720, rate_hz=30.0),
         "image/jpeg,width=1280,height=720,framerate=30/1"),
        (V4l2Source(format="h264", rate_hz=29.97), "video/x-h264,framerate=2997/100"),
        (V4l2Source(format="h265", height=1080), "video/x-h265,height=1080"),
    ],
)  # fmt: skip
def test_a_usb_camera_is_asked_for_what_is_given(source: V4l2Source, said: str) -> None:
    assert source_text(plan(SOFTWARE, source=source)) == f"v4l2src name=source io-mode=mmap ! {said}"


@pytest.mark.parametrize(
    ("media", "form"),
    [
        ({"video/x-raw", "image/jpeg", "video/x-h264"}, "mjpeg"),
        ({"video/x-raw", "video/x-h264"}, "h264"),
        ({"video/x-raw", "video/x-h265"}, "h265"),
        ({"video/x-raw", "video/x-bayer"}, "raw"),
        (set(), "raw"),
    ],
)
def test_a_usb_camera_of_which_no_format_is_asked(media: set[str], form: str) -> None:
    assert camera_format(frozenset(media)) == form


def test_pushed_units_need_no_depayloader() -> None:
    source = PushSource(name="host", format="h264")
    assert source_text(plan(SOFTWARE, source=source)) == "appsrc name=source is-live=true format=time"
    assert text(SOFTWARE, "h264", source=source).startswith(f"h264parse config-interval=-1 ! {H264} ! {RECEIVED}")


@pytest.mark.parametrize("here", [ORIN_6, NVIDIA, VA, SOFTWARE])
@pytest.mark.parametrize("codec", LIVE_CODECS)
def test_no_secret_address_or_device_stands_in_the_text(here: Features, codec: str) -> None:
    camera = V4l2Source(device="/dev/secret", format=codec)
    for source in (RTSP, camera):
        given = plan(here, BOTH, source=source)
        assert "secret" not in source_text(given) + branch_text(given, CODEC[codec])


@pytest.mark.parametrize("codec", LIVE_CODECS)
def test_only_properties_that_are_here_are_used(codec: str) -> None:
    bare = features(STARTED, set())
    said = source_text(plan(bare)) + text(bare, codec, BOTH) + text(bare, None, BOTH)
    assert not [name for name in PROPERTIES if f" {name.split('.')[1]}=" in said]


@pytest.mark.parametrize(
    ("here", "codec", "element", "reason"),
    [
        (ORIN_6, "h264", "nvv4l2decoder", "on Jetson's video engine"),
        (THOR_7, "mjpeg", "jpegdec",
         "on the CPU; passed over: nvv4l2decoder unable to decode JPEG, vajpegdec not installed"),
        (features({"nvv4l2decoder"} | FFMPEG, set()), "h264", "avdec_h264",
         "on the CPU; passed over: nvv4l2decoder without nvvidconv, nvh264dec, vah264dec not installed"),
        (features(FFMPEG, set(), {"nvh265dec", "vah265dec"}), "h265", "avdec_h265",
         "on the CPU; passed over: nvv4l2decoder not installed, nvh265dec, vah265dec unable to start"),
        (features({"openh264dec"}, set()), "h264", "openh264dec",
         "on the CPU; passed over: nvv4l2decoder, nvh264dec, vah264dec, avdec_h264 not installed"),
    ],
)  # fmt: skip
def test_the_best_that_works_is_taken_and_the_reason_given(
    here: Features, codec: str, element: str, reason: str
) -> None:
    choice = choose(CODEC[codec], here)
    assert (choice.element, choice.reason) == (element, reason)


def test_a_decoder_can_be_asked_for_by_name() -> None:
    assert choose(CODEC["h264"], ORIN_6, "openh264dec").reason == "on the CPU, as asked"
    assert " openh264dec name=decoder ! " in text(ORIN_6, "h264", decoder="openh264dec")
    with pytest.raises(UnknownNameError, match="unknown decoder for h264 'jpegdec'; known: avdec_h264, nvh264dec"):
        choose(CODEC["h264"], ORIN_6, "jpegdec")
    with pytest.raises(ConfigError, match=r"'vah264dec' does not work here .*vah264dec not installed"):
        choose(CODEC["h264"], ORIN_6, "vah264dec")


@pytest.mark.parametrize("codec", LIVE_CODECS)
def test_without_any_decoder_the_package_is_named(codec: str) -> None:
    with pytest.raises(MissingDependencyError, match=r"not installed.*apt-get install -y gstreamer1.0-"):
        choose(CODEC[codec], Features())


def test_what_cannot_be_live_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"vp9 is decoded from files only"):
        choose(CODEC["vp9"], SOFTWARE)
    with pytest.raises(MissingDependencyError, match=r"nvarguscamerasrc and nvvidconv.*v4l2:"):
        source_text(plan(SOFTWARE, source=CsiSource()))
    with pytest.raises(MissingDependencyError, match=r"pre_roll_s above 0.*nvv4l2h264enc unable to start.*apt-get"):
        choose_encoder(features(FFMPEG - {"openh264enc"}, set(), {"nvv4l2h264enc"}))


def test_no_encoder_under_the_gpl_is_known() -> None:
    encoders = {platform.encoder for platform in PLATFORMS}
    assert encoders == {"nvv4l2h264enc", "nvh264enc", "vah264enc", "openh264enc"}


def test_choosing_loads_no_gstreamer() -> None:
    code = "import sys, edge_sdk.capture.live_pipelines; sys.exit('gi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
