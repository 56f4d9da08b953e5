"""Link an RTSP source's outputs, which appear when the server has answered: video to a branch, the rest to nothing.

This code runs on GStreamer's threads, once per connection. Nothing in it keeps a reference to the pipeline, because a
callback that does so makes a cycle that is never freed.
"""

from __future__ import annotations

from typing import cast

from edge_sdk.capture.codecs import CODECS
from edge_sdk.capture.gst.binding import Gst
from edge_sdk.capture.gst.launch import branch
from edge_sdk.capture.live_pipelines import LivePlan, branch_text
from edge_sdk.capture.player import Fault
from edge_sdk.capture.uri import RtspSource
from edge_sdk.errors import EdgeError

# RTP payload formats (RFC 6184, RFC 7798, RFC 2435), with the codec's name here.
_CODEC_OF = {"H264": "h264", "H265": "h265", "JPEG": "mjpeg"}


class RtspOutputs:
    """Waits for the outputs of the element `source` and links the first video among them.

    `codec` is its codec, empty until then; `fault` says why no pictures can come from the source, None otherwise.
    """

    def __init__(self, source: Gst.Element, plan: LivePlan) -> None:
        self._plan = plan
        self.codec = ""
        self.fault: Fault | None = None
        address = cast(RtspSource, plan.source)
        source.set_property("location", address.location)
        if address.user:
            source.set_property("user-id", address.user)
            source.set_property("user-pw", address.password)
        source.connect("select-stream", _wanted)
        source.connect("pad-added", self._link)
        source.connect("no-more-pads", self._check)

    def _link(self, source: Gst.Element, pad: Gst.Pad) -> None:
        pipeline = cast(Gst.Pipeline, source.get_parent())
        media, encoding = _media_of(pad)
        if media != "video" or self.codec or self.fault:
            _discard(pipeline, pad)
            return
        codec = next((codec for codec in CODECS if codec.name == _CODEC_OF.get(encoding)), None)
        if codec is None:
            self.fault = Fault(
                f"its video is {encoding or 'of an unknown codec'}: set the camera to H.264, H.265 or MJPEG",
                refused=True,
            )
            _discard(pipeline, pad)
            return
        try:
            made = branch(branch_text(self._plan, codec))
        except EdgeError as error:
            self.fault = Fault(str(error), refused=True)
            _discard(pipeline, pad)
            return
        self.codec = codec.name
        _join(pipeline, pad, made)

    def _check(self, _source: Gst.Element) -> None:
        if not self.codec and self.fault is None:
            self.fault = Fault("the stream has no video", refused=True)


def _wanted(_source: Gst.Element, _number: int, caps: Gst.Caps) -> bool:
    """Whether to ask the server for a stream: only for video, because sound and metadata would not be used."""
    return caps.get_structure(0).get_string("media") == "video"


def _media_of(pad: Gst.Pad) -> tuple[str, str]:
    """Kind and encoding of an RTP stream, such as `video` and `H264`."""
    caps = pad.get_current_caps()
    if caps is None or not caps.get_size():
        return "", ""
    structure = caps.get_structure(0)
    return structure.get_string("media") or "", (structure.get_string("encoding-name") or "").upper()


def _join(pipeline: Gst.Pipeline, pad: Gst.Pad, element: Gst.Element) -> None:
    pipeline.add(element)
    element.sync_state_with_parent()
    sink = element.get_static_pad("sink")
    if sink is not None:
        pad.link(sink)


def _discard(pipeline: Gst.Pipeline, pad: Gst.Pad) -> None:
    """Link an output to a `fakesink`: an output that is not linked would stop the source."""
    sink = Gst.ElementFactory.make_with_properties("fakesink", ["sync", "async"], [False, False])
    if sink is not None:
        _join(pipeline, pad, sink)
