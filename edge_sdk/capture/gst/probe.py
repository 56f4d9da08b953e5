"""Which elements exist and start on this machine, found by trying."""

from __future__ import annotations

from functools import cache

from edge_sdk.capture.codecs import CODECS, PACKAGES, Codec, Decoder, install_command
from edge_sdk.capture.gst.binding import Gst
from edge_sdk.capture.pipelines import Scaler
from edge_sdk.capture.settings import DecoderStatus


def scaler() -> Scaler:
    """The scaling elements of this GStreamer version: `videoconvertscale` is new in 1.22."""
    return "videoconvertscale" if Gst.ElementFactory.find("videoconvertscale") else "videoconvert videoscale"


def decoders(codec: Codec) -> list[Decoder]:
    """The decoders of `codec` that start here, best first."""
    return [decoder for decoder in codec.decoders if not _why_not(decoder)]


def probe() -> tuple[DecoderStatus, ...]:
    """Every known decoder with whether it works here and why; the first usable one of a codec is taken."""
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
def _why_not(decoder: Decoder) -> str:
    """Why `decoder` cannot be used here, empty when it can. Going to READY opens the device of a hardware decoder."""
    needed = decoder.after.partition(" ")[0]
    if needed and Gst.ElementFactory.find(needed) is None:
        return f"needs {needed}; {install_command(PACKAGES[needed])}"
    element = Gst.ElementFactory.make(decoder.element)
    if element is None:
        return f"not installed; {install_command(decoder.package)}"
    started = element.set_state(Gst.State.READY)
    element.set_state(Gst.State.NULL)
    return "does not start on this machine" if started == Gst.StateChangeReturn.FAILURE else ""
