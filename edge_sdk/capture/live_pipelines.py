"""Pipeline text for live sources, made from values by pure functions; reading and testing them needs no GStreamer.

Encoded units are never dropped, because a decoder that misses one shows broken pictures until the next key picture.
Pictures are dropped after decoding, in queues of one, before anything copies or touches their pixels. So the picture
pulled is always the newest, and only pictures that are used are brought into system memory. Luma is scaled as for files
(`pipelines.py`), so that the student sees the same pixels. Locations, credentials and device paths never enter the
text: the player sets them.
"""

from __future__ import annotations

from edge_sdk.capture.codecs import Codec
from edge_sdk.capture.pipelines import UPRIGHT, Scaler, joined, luma_text, rate_text, rgb_text
from edge_sdk.capture.platforms import JETSON, Features, choose, choose_encoder, settings_of
from edge_sdk.capture.settings import CaptureSettings, HistorySettings
from edge_sdk.capture.uri import CsiSource, LiveUri, RtspSource, V4l2Source
from edge_sdk.errors import MissingDependencyError
from edge_sdk.types import Value

_NEWEST = "queue leaky=downstream max-size-buffers=1 max-size-bytes=0 max-size-time=0"
# Room for the burst after a hiccup of the network. A decoder that is always slower than the stream fills it and then
# holds the stream back, so that pictures do not get older than this. The limit in bytes is for cameras whose time
# stamps stand still or go back: by time alone the queue would never be full. No camera sends that much in a second.
_BURST = "queue max-size-buffers=0 max-size-bytes=32000000 max-size-time=1000000000"
# Units are collected many times a second. If 600 of them have not been collected, the stream is held back.
_UNITS = "queue max-size-buffers=8 max-size-bytes=0 max-size-time=0 ! appsink name=units sync=false max-buffers=600"
# Raw pictures may be dropped if the encoder is too slow for them.
_ENCODER_QUEUE = "queue leaky=downstream max-size-buffers=4 max-size-bytes=0 max-size-time=0"
# A sink that waits for a first picture would block a branch that is added while the pipeline starts, and the pipeline
# with it. Without `wait-on-eos=false`, a sink reports the end only after everything that it holds has been pulled.
_SINK_END = "async=false wait-on-eos=false enable-last-sample=false"
# A connection on which nothing comes for this long is broken; the supervisor's own time-outs are usually shorter.
_TCP_TIMEOUT_US = 5_000_000
# Room for history pictures that wait to be collected: 3 s at 20 per second.
_HISTORY_BUFFERS = 64

# For encoding here: a key picture each second, and enough bits to keep number plates readable (1080p30: 6 Mbit/s).
_GOP_S = 1.0
_BITS_PER_PIXEL = 0.1
_USUAL = (1280, 720, 30.0)

_DEPAYLOADERS = {"h264": "rtph264depay", "h265": "rtph265depay", "mjpeg": "rtpjpegdepay"}


class LivePlan(Value, frozen=True, kw_only=True):
    """Everything that determines the pipeline of a live source."""

    source: LiveUri
    settings: CaptureSettings
    features: Features
    scaler: Scaler


def source_text(plan: LivePlan) -> str:
    """Pipeline text up to the branch; for RTSP the element `source` alone, whose pads come when the server answers.

    The caller sets what is not in the text: `location`, `user-id` and `user-pw` for RTSP, `device` for V4L2, `caps`
    for `push`. Raises `MissingDependencyError` for a CSI camera if there is no Argus.
    """
    source = plan.source
    if isinstance(source, RtspSource):
        return _rtsp(plan)
    if isinstance(source, V4l2Source):
        return joined("v4l2src name=source io-mode=mmap", _camera_caps(source))
    if isinstance(source, CsiSource):
        return _csi(source, plan.features)
    return "appsrc name=source is-live=true format=time"


def branch_text(plan: LivePlan, codec: Codec | None) -> str:
    """Pipeline text from an encoded pad (raw pictures if `codec` is None) to the sinks.

    The sink pad of the first element is left unlinked. The identities `received` and `decoded` count; the sinks are
    `frames`, `units` and `history`, as far as they are asked for. Raises `ConfigError` or `MissingDependencyError` if
    nothing can decode or encode.
    """
    return _raw_branch(plan) if codec is None else _encoded_branch(plan, codec)


def camera_format(media: frozenset[str]) -> str:
    """The `format` to use for a V4L2 camera that offers these media types, if none is asked for.

    MJPEG comes first, because it is the only format that most USB cameras offer at their full size and rate.
    """
    known = {"image/jpeg": "mjpeg", "video/x-h264": "h264", "video/x-h265": "h265"}
    return next((name for kind, name in known.items() if kind in media), "raw")


def _rtsp(plan: LivePlan) -> str:
    live = plan.settings.live
    # Packets over TCP come in order. After a pause of this process many come at once, and none of them may be dropped.
    drops = "true" if live.protocol == "udp" else "false"
    values = f"protocols={live.protocol} latency={live.jitter_ms} drop-on-latency={drops} tcp-timeout={_TCP_TIMEOUT_US}"
    return f"{settings_of('rtspsrc', plan.features)} name=source {values}"


def _camera_caps(source: V4l2Source) -> str:
    media = {"mjpeg": "image/jpeg", "h264": "video/x-h264", "h265": "video/x-h265"}.get(source.format or "raw")
    size = {"width": source.width, "height": source.height}
    parts = [media or "video/x-raw", *(f"{key}={value}" for key, value in size.items() if value is not None)]
    if source.rate_hz is not None:
        parts.append(f"framerate={rate_text(source.rate_hz)}")
    return ",".join(parts)


def _csi(source: CsiSource, features: Features) -> str:
    needed = ("nvarguscamerasrc", JETSON.after.split()[0])
    missing = [name for name in needed if name not in features.elements]
    if missing:
        raise MissingDependencyError(
            f"csi:// needs {' and '.join(missing)}, which a Jetson has with JetPack (package nvidia-l4t-gstreamer); "
            "on other boards open the camera as v4l2:///dev/video0"
        )
    size = f"width={source.width},height={source.height},framerate={rate_text(source.rate_hz)}"
    return f"nvarguscamerasrc name=source sensor-id={source.sensor} ! video/x-raw(memory:NVMM),format=NV12,{size}"


def _encoded_branch(plan: LivePlan, codec: Codec) -> str:
    choice = choose(codec, plan.features, plan.settings.decoder)
    decoder = settings_of(choice.element, plan.features)
    if choice.platform is JETSON and codec.name == "mjpeg":
        decoder += " mjpeg=true"
    head = joined(
        _depayloader(codec, plan.features) if isinstance(plan.source, RtspSource) else "",
        _units(codec),
        "identity name=received silent=true",
    )
    decode = joined(_BURST, f"{decoder} name=decoder", "identity name=decoded silent=true")
    pictures = _pictures(plan, choice.platform.after)
    if not plan.settings.live.pre_roll_s:
        return joined(head, decode, pictures)
    units = f"encoded. ! {_UNITS} {_SINK_END}"
    return f"{head} ! tee name=encoded {units} encoded. ! {joined(decode, pictures)}"


def _raw_branch(plan: LivePlan) -> str:
    """The branch for raw pictures, where `decoder` only shows their caps. CSI pictures are in NVMM memory."""
    nvmm = isinstance(plan.source, CsiSource)
    head = "identity name=received silent=true"
    counted = "identity name=decoder silent=true ! identity name=decoded silent=true"
    pictures = _pictures(plan, JETSON.after if nvmm else "")
    if not plan.settings.live.pre_roll_s:
        return joined(head, counted, pictures)
    units = f"raw. ! {joined(_ENCODER_QUEUE, _encoder(plan, nvmm), _UNITS)} {_SINK_END}"
    return f"{head} ! tee name=raw {units} raw. ! {joined(counted, pictures)}"


def _depayloader(codec: Codec, features: Features) -> str:
    """The depayloader, set to give whole units: with pieces, a parser would hold each unit until the next one comes."""
    whole = f"{codec.media},stream-format=byte-stream,alignment=au" if codec.name != "mjpeg" else ""
    return joined(settings_of(_DEPAYLOADERS[codec.name], features), whole)


def _units(codec: Codec) -> str:
    """The parser, set to give whole units, each key picture with its parameter sets so that a clip can begin there."""
    if codec.name == "mjpeg":
        return f"{codec.parser} ! {codec.media}"
    return f"{codec.parser} config-interval=-1 ! {codec.media},stream-format=byte-stream,alignment=au"


def _encoder(plan: LivePlan, nvmm: bool) -> str:
    """Pipeline text from raw pictures to H.264 units."""
    choice = choose_encoder(plan.features)
    source = plan.source
    asked = [getattr(source, name, None) for name in ("width", "height", "rate_hz")]
    width, height, rate_hz = (value or usual for value, usual in zip(asked, _USUAL, strict=True))
    bps = round(_BITS_PER_PIXEL * width * height * rate_hz)
    pace = choice.platform.pace.format(gop=max(1, round(_GOP_S * rate_hz)), bps=bps, kbps=max(1, bps // 1000))
    upload = choice.platform.upload
    if nvmm:
        upload = "" if choice.platform is JETSON else joined(JETSON.after, upload)
    return joined(
        upload,
        f"{settings_of(choice.element, plan.features)} name=encoder {pace}",
        "h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au",
    )


def _pictures(plan: LivePlan, after: str) -> str:
    settings, history = plan.settings, plan.settings.live.history
    scaled = luma_text(settings, UPRIGHT, plan.scaler) if settings.pixels == "luma" else rgb_text(settings, UPRIGHT)
    sink = f"appsink name=frames sync=false max-buffers=1 drop=true {_SINK_END}"
    frames = joined(_NEWEST, after, scaled, sink)
    if history is None:
        return frames
    return f"tee name=pictures pictures. ! {frames} pictures. ! {_history(history, after)}"


def _history(history: HistorySettings, after: str) -> str:
    """RGB pictures at a lower rate, each at its own time and none twice.

    Cameras declare any rate, or none, and `videorate` drops pictures only if the declared rate is above the asked one.
    So the rate is overridden with 1,000 per second, and `videorate` goes by the pictures' times.
    """
    return joined(
        _NEWEST,
        "capssetter caps=video/x-raw,framerate=1000/1",
        "videorate name=history-rate drop-only=true skip-to-first=true",
        f"video/x-raw(ANY),framerate={rate_text(history.rate_hz)}",
        after,
        "videoscale name=history-scale method=bilinear2 add-borders=true",
        f"video/x-raw,width={history.width},height={history.height},pixel-aspect-ratio=1/1",
        "videoconvert ! video/x-raw,format=RGB",
        f"appsink name=history sync=false max-buffers={_HISTORY_BUFFERS} drop=true {_SINK_END}",
    )
