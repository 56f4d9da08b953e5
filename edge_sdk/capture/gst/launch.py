"""From pipeline text to a pipeline, and from its messages to sentences."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import cast

from edge_sdk.capture.codecs import PACKAGES, install_command
from edge_sdk.capture.gst.binding import NS, POLL_S, GLib, Gst
from edge_sdk.capture.gst.sizes import believe_stream, limit_size
from edge_sdk.capture.pipelines import TUNING
from edge_sdk.errors import MissingDependencyError

# How many times a pipeline is asked to go down.
_HALTS = 3
_FINAL = Gst.MessageType.ERROR | Gst.MessageType.EOS | Gst.MessageType.APPLICATION


def launch(text: str, uri: str | None) -> Gst.Pipeline:
    """The pipeline of `text`, tuned, its element `source` set to `uri`. Raises `MissingDependencyError`."""
    try:
        parsed = Gst.parse_launch(text)
    except GLib.Error as error:
        raise _parse_error(error) from error
    pipeline = parsed if isinstance(parsed, Gst.Pipeline) else _alone(parsed)
    _tune(pipeline)
    if uri is not None:
        cast(Gst.URIHandler, pipeline.get_by_name("source")).set_uri(uri)
    return pipeline


def branch(text: str) -> Gst.Bin:
    """The elements of `text` as a bin, tuned; its pad `sink` is that of the first element.

    Raises `MissingDependencyError`.
    """
    try:
        made = Gst.parse_bin_from_description(text, True)
    except GLib.Error as error:
        raise _parse_error(error) from error
    _tune(made)
    return made


def halt(pipeline: Gst.Pipeline) -> None:
    """Take the pipeline to NULL, which ends its threads and closes its files; dropping one that plays would abort.

    If an error stops a bin on its way up, and another error comes on its way down, the bin fails to go down, and the
    elements after it are left playing. So the pipeline is asked again: by then that bin is down already.
    """
    for _ in range(_HALTS):
        if pipeline.set_state(Gst.State.NULL) != Gst.StateChangeReturn.FAILURE:
            return


def _alone(element: Gst.Element) -> Gst.Pipeline:
    """A pipeline around an element, because GStreamer makes none from text with a single element."""
    pipeline = Gst.Pipeline.new(None)
    pipeline.add(element)
    return pipeline


def _tune(elements: Gst.Bin) -> None:
    for name, values in TUNING.items():
        element = elements.get_by_name(name)
        for key, value in values.items():
            if element is not None and element.find_property(key) is not None:
                Gst.util_set_object_arg(element, key, value)
    decoder = elements.get_by_name("decoder")
    if decoder is not None:
        limit_size(decoder)
        believe_stream(elements)


def _parse_error(error: GLib.Error) -> MissingDependencyError:
    """The error for pipeline text that GStreamer refuses: the text is ours, so an element must be missing."""
    quoted = re.search(r'"([^"]+)"', error.message)
    element = quoted.group(1) if quoted else ""
    package = PACKAGES.get(element)
    hint = f"; run: {install_command(package)}" if package else ""
    return MissingDependencyError(f"GStreamer cannot build the pipeline: {error.message}{hint}")


def messages(pipeline: Gst.Pipeline, deadline_s: float) -> Iterator[Gst.Message]:
    """Errors, the end and our own messages until the deadline; waits in short steps, so that signals are handled."""
    bus = pipeline.get_bus()
    while time.monotonic() < deadline_s:
        message = bus.timed_pop_filtered(round(POLL_S * NS), _FINAL)
        if message is not None:
            yield message


def reason(message: Gst.Message) -> str:
    """One sentence for an error, warning or end-of-stream message."""
    if message.type == Gst.MessageType.ERROR:
        error, _ = message.parse_error()
    elif message.type == Gst.MessageType.WARNING:
        error, _ = message.parse_warning()
    else:
        return "it ends before anything was recognised in it"
    return str(error.message).rstrip(".")
