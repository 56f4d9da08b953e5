"""Explain the messages of a live pipeline to people: one sentence each, without credentials.

If the RTSP server answered, the details of the source's message hold the answer (`rtsp-status-code`). If it did not,
the code of the error says how far the connection got.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from edge_sdk.capture.gst.binding import Gst
from edge_sdk.capture.gst.launch import reason
from edge_sdk.capture.gst.sizes import too_large
from edge_sdk.capture.player import Fault
from edge_sdk.capture.uri import CsiSource, LiveUri, PushSource, RtspSource, V4l2Source, redact

# RTSP answers (RFC 2326 7.1.1) to conditions that may pass, although their class says that the request is at fault:
# time-out, not enough bandwidth, session not found, method not valid in this state.
_PASSING = (408, 453, 454, 455)


def fault_of(message: Gst.Message, source: LiveUri, decoder: str) -> Fault:
    """The fault behind an error or end-of-stream message of `source`; `decoder` is the decoding element, if known."""
    if message.type == Gst.MessageType.EOS:
        return Fault(_ended(source))
    if too_large(message.parse_error()[0]):
        return Fault(reason(message), refused=True)
    details = message.parse_error_details() or Gst.Structure.new_empty("details")
    answered, status = details.get_uint("rtsp-status-code")
    stopped, flow = details.get_int("flow-return")
    told = redact(reason(message))
    if answered and isinstance(source, RtspSource):
        return _answered(status, details.get_string("rtsp-status-reason") or "", source)
    if stopped and flow == Gst.FlowReturn.NOT_NEGOTIATED and decoder:
        return Fault(f"{decoder} does not support the profile or format of this stream", element=decoder)
    if message.src is None or message.src.get_name() != "source":
        return Fault(f"{element_of(message)} failed: {told}", element=element_of(message))
    code = message.parse_error()[0].code
    if isinstance(source, RtspSource):
        return Fault(_unheard(message, code, told, source))
    return Fault(_device(code, told, source))


def _answered(status: int, reason_phrase: str, source: RtspSource) -> Fault:
    """What an RTSP server's refusal means."""
    answer = f"the server answered {status} {reason_phrase}".rstrip()
    refused = 400 <= status < 500 and status not in _PASSING
    if status == 401:
        wrong = "the user or password is wrong" if source.user else "the camera asks for a user and a password"
        return Fault(f"{wrong} ({answer})", refused=True)
    if status == 403:
        return Fault(f"the camera does not let this user see the stream ({answer})", refused=True)
    if status == 404:
        return Fault(f"the camera has no such stream: check the path of the address ({answer})", refused=True)
    return Fault(f"the camera does not give the stream: {answer}", refused=refused)


def _unheard(message: Gst.Message, code: int, told: str, source: RtspSource) -> str:
    """What it means if an RTSP server gave no answer, or none that can be read."""
    place = urlsplit(source.location).netloc
    if code in (Gst.ResourceError.OPEN_READ, Gst.ResourceError.OPEN_WRITE, Gst.ResourceError.OPEN_READ_WRITE):
        return f"nothing answers at {place}: check that the camera is on, the network and the address"
    told_more = message.parse_error()[1] or ""
    if "Parse error" in told_more:
        return f"what answers at {place} does not speak RTSP"
    if "Timeout" in told_more:
        return f"{place} accepts the connection but does not answer: check the camera, and that RTSP is on that port"
    if code in (Gst.ResourceError.READ, Gst.ResourceError.WRITE):
        return f"the connection to {place} broke: {told}"
    return f"the camera at {place} does not play: {told}"


def _device(code: int, told: str, source: LiveUri) -> str:
    """What it means if a capture device, or the host program's data, fails."""
    name = source.device if isinstance(source, V4l2Source) else source.uri
    if code == Gst.ResourceError.NOT_FOUND:
        return f"there is no camera at {name}: check that it is plugged in ({told})"
    if code == Gst.ResourceError.BUSY:
        return f"{name} is in use by another program ({told})"
    if code in (Gst.ResourceError.OPEN_READ, Gst.ResourceError.OPEN_READ_WRITE):
        return f"{name} cannot be opened: check its permissions ({told})"
    return f"{name} failed: {told}"


def _ended(source: LiveUri) -> str:
    if isinstance(source, RtspSource):
        return "the camera ended the stream"
    if isinstance(source, CsiSource):
        return "the camera daemon ended the stream"
    return (
        "the pushed stream ended" if isinstance(source, PushSource) else "the camera was unplugged or ended the stream"
    )


def element_of(message: Gst.Message) -> str:
    """The kind of element that sent the message, such as `avdec_h264`."""
    factory = message.src.get_factory() if isinstance(message.src, Gst.Element) else None
    return (factory.get_name() if factory is not None else None) or "GStreamer"
