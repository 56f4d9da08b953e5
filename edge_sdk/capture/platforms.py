"""Choose where live video is decoded and encoded, from what exists on the machine, and say why.

This module is pure functions and data. What exists is passed in as a value, found by trying (`gst.probe.features`); no
version string and no board name is looked at. The best comes first: a hardware decoder leaves the CPU to other work,
and is not slowed down by it.
"""

from __future__ import annotations

from edge_sdk.capture.codecs import PACKAGES, Codec, install_command
from edge_sdk.errors import ConfigError, MissingDependencyError, UnknownNameError
from edge_sdk.types import Value


class Features(Value, frozen=True, kw_only=True):
    """What GStreamer offers on this machine.

    `elements` exist and start; `broken` are installed but do not start. `properties` are those that pipeline text may
    use, as `element.property`, and media types that an element was seen to decode, as `element.image/jpeg`.
    """

    elements: frozenset[str] = frozenset()
    broken: frozenset[str] = frozenset()
    properties: frozenset[str] = frozenset()

    def has(self, name: str) -> bool:
        """Whether there is an element, or an element's property, of that name."""
        return name in self.elements or name in self.properties


class Platform(Value, frozen=True, kw_only=True):
    """A way to decode and encode.

    `decoders` are elements by codec, best first. `after` brings their pictures into system memory. `encoder` is the
    H.264 encoder for raw sources; `pace` is its settings, with placeholders for the pictures in a `{gop}` and for the
    bit rate in `{bps}` or `{kbps}`; `upload` brings pictures from system memory to the encoder.
    """

    name: str
    title: str
    decoders: dict[str, tuple[str, ...]]
    after: str = ""
    encoder: str
    pace: str
    upload: str


class Choice(Value, frozen=True, kw_only=True):
    """The chosen element, and one sentence on why it was chosen and why the better ones were not."""

    platform: Platform
    element: str
    reason: str


JETSON = Platform(
    name="jetson-nvmm",
    title="Jetson's video engine",
    decoders={"h264": ("nvv4l2decoder",), "h265": ("nvv4l2decoder",), "mjpeg": ("nvv4l2decoder",)},
    after="nvvidconv ! video/x-raw,format=I420",
    encoder="nvv4l2h264enc",
    pace="iframeinterval={gop} idrinterval={gop} bitrate={bps}",
    upload="videoconvert ! video/x-raw,format=I420 ! nvvidconv ! video/x-raw(memory:NVMM),format=NV12",
)

PLATFORMS = (
    JETSON,
    Platform(
        name="nvidia",
        title="the NVIDIA card's video engine",
        decoders={"h264": ("nvh264dec",), "h265": ("nvh265dec",)},
        after="cudadownload ! video/x-raw",
        encoder="nvh264enc",
        pace="gop-size={gop} bitrate={kbps}",
        upload="videoconvert ! video/x-raw,format=NV12",
    ),
    Platform(
        name="va",
        title="the GPU's video engine through VA-API",
        decoders={"h264": ("vah264dec",), "h265": ("vah265dec",), "mjpeg": ("vajpegdec",)},
        after="vapostproc ! video/x-raw",
        encoder="vah264enc",
        pace="key-int-max={gop} bitrate={kbps}",
        upload="videoconvert ! video/x-raw,format=NV12",
    ),
    Platform(
        name="software",
        title="the CPU",
        decoders={
            "h264": ("avdec_h264", "openh264dec"),
            "h265": ("avdec_h265", "libde265dec"),
            "mjpeg": ("jpegdec", "avdec_mjpeg"),
        },
        encoder="openh264enc",
        pace="gop-size={gop} rate-control=bitrate bitrate={bps}",
        upload="videoconvert ! video/x-raw,format=I420",
    ),
)

# Codecs that can be decoded from live sources.
LIVE_CODECS = tuple(dict.fromkeys(codec for platform in PLATFORMS for codec in platform.decoders))

# Settings against delay, such as those that make a decoder output each picture at once. From each row, the first
# setting that exists here is used.
#
# Counted with GStreamer 1.22 and FFmpeg 5.1, unit by unit, on streams without B pictures: if the pipeline does not say
# that it is live, FFmpeg's decoders run two frame threads, and each holds one picture back; slice threads hold none.
# openh264dec holds one back unless the stream is baseline, libde265dec two; jpegdec and avdec_mjpeg none. With two B
# pictures in a row, the coding order itself costs two pictures, whatever is set.
#
# As documented, not tried here: NVIDIA's V4L2 decoder waits for its picture buffer to fill unless told that there are
# no B pictures. Cameras hardly ever send them; from one that does, pictures would come out of order. The NVDEC parser
# of GStreamer before 1.24 may hold four back. Decoders on GStreamer's own parsers need nothing in a live pipeline.
SETTINGS: dict[str, tuple[tuple[str, ...], ...]] = {
    "avdec_h264": (("thread-type=slice", "max-threads=1"),),
    "avdec_h265": (("thread-type=slice", "max-threads=1"),),
    "nvv4l2decoder": (("enable-max-performance=true",), ("low-latency-mode=true", "disable-dpb=true")),
    "nvh264dec": (("max-display-delay=0",),),
    "nvh265dec": (("max-display-delay=0",),),
    "nvv4l2h264enc": (("maxperf-enable=true",),),
    "nvh264enc": (("zerolatency=true",),),
    "openh264enc": (("complexity=low",),),
    "rtph264depay": (("wait-for-keyframe=true",), ("request-keyframe=true",)),
    "rtph265depay": (("wait-for-keyframe=true",), ("request-keyframe=true",)),
    "rtspsrc": (("add-reference-timestamp-meta=true",),),
}

# What `Features` covers: elements that are started to see whether they work, elements that need only exist (starting
# one would open a camera), and properties.
STARTED = frozenset(
    name
    for platform in PLATFORMS
    for name in (
        *(element for elements in platform.decoders.values() for element in elements),
        *platform.after.split()[:1],
        platform.encoder,
    )
)
PRESENT = frozenset({"nvarguscamerasrc"})
PROPERTIES = frozenset(
    f"{element}.{setting.partition('=')[0]}" for element, rows in SETTINGS.items() for row in rows for setting in row
)
# The same element decodes JPEG on Orin but not on Thor, whose video engine has no JPEG decoder. So it must be tried.
JPEG_ON_JETSON = "nvv4l2decoder.image/jpeg"


def choose(codec: Codec, features: Features, decoder: str | None = None) -> Choice:
    """The decoder for `codec`; `decoder` names one that must be taken.

    Raises `ConfigError` if the named decoder does not work here or is not for this codec, and for a codec that no live
    source may have; `MissingDependencyError` if nothing here decodes the codec.
    """
    known = [(platform, element) for platform in PLATFORMS for element in platform.decoders.get(codec.name, ())]
    if not known:
        raise ConfigError(f"{codec.name} is decoded from files only; live sources may give {', '.join(LIVE_CODECS)}")
    if decoder is not None and decoder not in [element for _, element in known]:
        raise UnknownNameError(f"decoder for {codec.name}", decoder, [element for _, element in known])
    passed: dict[str, str] = {}
    for platform, element in known:
        if decoder is not None and element != decoder:
            continue
        passed[element] = _why_not(codec, platform, element, features)
        if not passed[element]:
            reason = f"on {platform.title}, as asked" if decoder else _reason(platform, passed)
            return Choice(platform=platform, element=element, reason=reason)
    if decoder is not None:
        raise ConfigError(f"decoder {decoder!r} does not work here ({_told(passed)}); leave it out to take the best")
    package = next(row.package for row in codec.decoders if not row.hardware)
    raise MissingDependencyError(f"no decoder for {codec.name} ({_told(passed)}); run: {install_command(package)}")


def choose_encoder(features: Features) -> Choice:
    """The H.264 encoder for raw sources whose units are to be kept. Raises `MissingDependencyError`.

    x264enc is not considered, because it is under the GPL.
    """
    passed: dict[str, str] = {}
    for platform in PLATFORMS:
        passed[platform.encoder] = _absent(platform.encoder, features)
        if not passed[platform.encoder]:
            return Choice(platform=platform, element=platform.encoder, reason=_reason(platform, passed))
    raise MissingDependencyError(
        f"keeping encoded video of a raw source (pre_roll_s above 0) needs an H.264 encoder ({_told(passed)}); "
        f"run: {install_command(PACKAGES['openh264enc'])}"
    )


def settings_of(element: str, features: Features) -> str:
    """Pipeline text for the element, with those of its settings that exist here."""
    taken = [
        next((setting for setting in row if features.has(f"{element}.{setting.partition('=')[0]}")), "")
        for row in SETTINGS.get(element, ())
    ]
    return " ".join([element, *(setting for setting in taken if setting)])


def _why_not(codec: Codec, platform: Platform, element: str, features: Features) -> str:
    """Why `element` cannot be used, empty if it can."""
    needed = platform.after.partition(" ")[0]
    if absent := _absent(element, features):
        return absent
    if needed and needed not in features.elements:
        return f"without {needed}"
    if platform is JETSON and codec.name == "mjpeg" and not features.has(JPEG_ON_JETSON):
        return "unable to decode JPEG"
    return ""


def _absent(element: str, features: Features) -> str:
    if element in features.elements:
        return ""
    return "unable to start" if element in features.broken else "not installed"


def _reason(platform: Platform, passed: dict[str, str]) -> str:
    told = _told(passed)
    return f"on {platform.title}" + (f"; passed over: {told}" if told else "")


def _told(passed: dict[str, str]) -> str:
    """Elements grouped by why they cannot be used, such as `a, b not installed, c unable to start`."""
    reasons = dict.fromkeys(why for why in passed.values() if why)
    return ", ".join(f"{', '.join(name for name, why in passed.items() if why == each)} {each}" for each in reasons)
