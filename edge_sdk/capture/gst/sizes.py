"""Refuse pictures that are too large to be decoded before a decoder sees them.

Parsers report the size of the coded pictures in their caps, at the start of a stream and when it changes. So the caps
at the decoder's input are checked. For that, Python runs on GStreamer's threads once per stream, never per picture.

The parsers of H.264 and H.265 trust a size given by the container, and read it from the stream only if there is none. A
decoder goes by the stream. So the container's size is removed before these parsers.
"""

from __future__ import annotations

from edge_sdk.capture.gst.binding import GLib, Gst
from edge_sdk.capture.settings import MAX_CODED_SIDE

_DOMAIN = "edge-sdk-coded-size"
_BELIEVING = ("h264parse", "h265parse")


def limit_size(decoder: Gst.Element) -> None:
    """Keep coded pictures above `MAX_CODED_SIDE` from `decoder`; post an error on the bus instead (`too_large`)."""
    pad = decoder.get_static_pad("sink")
    if pad is not None:
        pad.add_probe(Gst.PadProbeType.EVENT_DOWNSTREAM, _look)


def believe_stream(elements: Gst.Bin) -> None:
    """Make the parsers among `elements` report the size that the stream itself gives."""
    for element in elements.children:
        factory, pad = element.get_factory(), element.get_static_pad("sink")
        if factory is not None and factory.get_name() in _BELIEVING and pad is not None:
            pad.add_probe(Gst.PadProbeType.EVENT_DOWNSTREAM, _forget)


def too_large(error: GLib.Error) -> bool:
    """Whether this is the error of `limit_size`; its message is one sentence for people."""
    return error.matches(GLib.quark_from_string(_DOMAIN), 0)


def _forget(pad: Gst.Pad, probe: Gst.PadProbeInfo) -> Gst.PadProbeReturn:
    event = probe.get_event()
    if event is None or event.type != Gst.EventType.CAPS:
        return Gst.PadProbeReturn.OK
    said = event.parse_caps().get_structure(0)
    if not (said.has_field("width") or said.has_field("height")):
        return Gst.PadProbeReturn.OK
    rest = said.copy()
    for name in ("width", "height"):
        rest.remove_field(name)
    caps = Gst.Caps.new_empty()
    caps.append_structure(rest)
    pad.send_event(Gst.Event.new_caps(caps))
    return Gst.PadProbeReturn.DROP


def _look(pad: Gst.Pad, probe: Gst.PadProbeInfo) -> Gst.PadProbeReturn:
    event = probe.get_event()
    if event is None or event.type != Gst.EventType.CAPS:
        return Gst.PadProbeReturn.OK
    said = event.parse_caps().get_structure(0)
    (_, width), (_, height) = said.get_int("width"), said.get_int("height")
    element = pad.get_parent_element()
    # Raw pictures already exist, so their memory has been found.
    if element is None or max(width, height) <= MAX_CODED_SIDE or said.get_name() == "video/x-raw":
        return Gst.PadProbeReturn.OK
    told = (
        f"its pictures are {width} x {height}, above {MAX_CODED_SIDE} x {MAX_CODED_SIDE}; scale them down, or correct "
        "the file or camera that states this size"
    )
    error = GLib.Error.new_literal(GLib.quark_from_string(_DOMAIN), told, 0)
    element.post_message(Gst.Message.new_error(element, error, ""))
    # Pictures are dropped too, because some decoders go by the size in the pictures themselves.
    pad.add_probe(Gst.PadProbeType.BUFFER, _drop)
    return Gst.PadProbeReturn.DROP


def _drop(_pad: Gst.Pad, _probe: Gst.PadProbeInfo) -> Gst.PadProbeReturn:
    return Gst.PadProbeReturn.DROP
