"""Find by trying which elements of `codecs.py` and `platforms.py` exist and start on this machine."""

from __future__ import annotations

from functools import cache
from typing import cast

from edge_sdk.capture.codecs import CODECS, PACKAGES, Codec, Decoder, install_command
from edge_sdk.capture.gst.binding import NS, GLib, Gst
from edge_sdk.capture.gst.launch import halt
from edge_sdk.capture.pipelines import Scaler
from edge_sdk.capture.platforms import JPEG_ON_JETSON, PRESENT, PROPERTIES, STARTED, Features
from edge_sdk.capture.settings import DecoderStatus

_TRIAL_S = 3
_JPEG_TRIAL = (
    "videotestsrc num-buffers=2 ! video/x-raw,format=I420,width=640,height=480 ! jpegenc ! jpegparse ! "
    "nvv4l2decoder mjpeg=true ! nvvidconv ! video/x-raw,format=I420 ! fakesink sync=false"
)


def scaler() -> Scaler:
    """The scaling elements of this GStreamer version: `videoconvertscale` is new in 1.22."""
    return "videoconvertscale" if Gst.ElementFactory.find("videoconvertscale") else "videoconvert videoscale"


def decoders(codec: Codec) -> list[Decoder]:
    """The decoders of `codec` that start here, best first."""
    return [decoder for decoder in codec.decoders if not _why_not(decoder)]


def probe() -> tuple[DecoderStatus, ...]:
    """Every known decoder, with whether it works here and why; the first usable one of a codec is used."""
    found: list[DecoderStatus] = []
    for codec in CODECS:
        chosen = next(iter(decoders(codec)), None)
        for decoder in codec.decoders:
            why_not = _why_not(decoder)
            reason = why_not or (
                "used" if decoder is chosen else f"works; {chosen.element if chosen else ''} comes first"
            )
            found.append(DecoderStatus(codec=codec.name, decoder=decoder.element, usable=not why_not, reason=reason))
    return tuple(found)


@cache
def features() -> Features:
    """What live pipelines can be built from here; found once, because starting a hardware decoder takes a moment."""
    elements = {name for name in STARTED if _starts(name)} | {name for name in PRESENT if Gst.ElementFactory.find(name)}
    properties = {name for name in PROPERTIES if _has_property(*name.split("."))}
    if elements.issuperset({"nvv4l2decoder", "nvvidconv"}) and _plays(_JPEG_TRIAL):
        properties.add(JPEG_ON_JETSON)
    broken = {name for name in STARTED - elements if Gst.ElementFactory.find(name)}
    return Features(elements=frozenset(elements), broken=frozenset(broken), properties=frozenset(properties))


def camera_media(device: str) -> frozenset[str]:
    """The media types that the V4L2 camera at `device` offers; empty if it cannot be opened."""
    camera = Gst.ElementFactory.make("v4l2src")
    if camera is None:
        return frozenset()
    camera.set_property("device", device)
    started = camera.set_state(Gst.State.READY)
    try:
        return _media(camera) if started != Gst.StateChangeReturn.FAILURE else frozenset()
    finally:
        camera.set_state(Gst.State.NULL)


def _media(source: Gst.Element) -> frozenset[str]:
    """The media types that a source can currently give."""
    query = Gst.Query.new_caps(Gst.Caps.new_any())
    pad = source.get_static_pad("src")
    caps = query.parse_caps_result() if pad is not None and pad.query(query) else None
    if caps is None or caps.is_any():
        return frozenset()
    return frozenset(caps.get_structure(index).get_name() for index in range(caps.get_size()))


def _starts(name: str) -> bool:
    """Whether the element exists and starts; going to READY opens the device of a hardware decoder."""
    element = Gst.ElementFactory.make(name)
    if element is None:
        return False
    started = element.set_state(Gst.State.READY)
    element.set_state(Gst.State.NULL)
    return started != Gst.StateChangeReturn.FAILURE


def _has_property(name: str, key: str) -> bool:
    element = Gst.ElementFactory.make(name)
    return element is not None and element.find_property(key) is not None


def _plays(text: str) -> bool:
    """Whether a pipeline that ends by itself reaches its end."""
    try:
        pipeline = cast(Gst.Pipeline, Gst.parse_launch(text))
    except GLib.Error:
        return False
    pipeline.set_state(Gst.State.PLAYING)
    done = pipeline.get_bus().timed_pop_filtered(_TRIAL_S * NS, Gst.MessageType.EOS | Gst.MessageType.ERROR)
    halt(pipeline)
    return done is not None and done.type == Gst.MessageType.EOS


@cache
def _why_not(decoder: Decoder) -> str:
    """Why `decoder` cannot be used here, empty if it can. Going to READY opens the device of a hardware decoder."""
    needed = decoder.after.partition(" ")[0]
    if needed and Gst.ElementFactory.find(needed) is None:
        return f"needs {needed}; {install_command(PACKAGES[needed])}"
    if Gst.ElementFactory.find(decoder.element) is None:
        return f"not installed; {install_command(decoder.package)}"
    return "" if _starts(decoder.element) else "does not start on this machine"
