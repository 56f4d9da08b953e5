"""Encoded units into a file, by a pipeline that plays as fast as the disk takes them."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from edge_sdk.capture.gst.binding import NS, POLL_S, Gst
from edge_sdk.capture.gst.faults import element_of
from edge_sdk.capture.gst.launch import halt, launch, reason
from edge_sdk.capture.player import TimedUnit
from edge_sdk.errors import SourceError

# How many bytes of units may wait in the pipeline: each unit is a copy of one that is already in memory.
_ROOM = 4_000_000
_TOLD = Gst.MessageType.ERROR | Gst.MessageType.EOS


def mux(text: str, file: Path, named: Path, units: Sequence[TimedUnit]) -> None:
    """Play `text` from `units` into `file`; errors name `named`, the file's final name.

    Waits as long as the disk takes. Raises `OSError` for errors of the disk, `SourceError` for units that do not fit
    `text`, `MissingDependencyError` for a missing plugin.
    """
    pipeline = launch(text, None)
    source, sink = (cast(Gst.Element, pipeline.get_by_name(name)) for name in ("units", "file"))
    sink.set_property("location", str(file))
    source.set_property("max-bytes", 0)
    try:
        pipeline.set_state(Gst.State.PLAYING)
        for unit in units:
            while source.get_property("current-level-bytes") > _ROOM:
                _check(pipeline, named, POLL_S / 5)
            source.emit("push-buffer", _buffer(unit))
        source.emit("end-of-stream")
        while not _check(pipeline, named, POLL_S):
            pass
    finally:
        halt(pipeline)


def _buffer(unit: TimedUnit) -> Gst.Buffer:
    buffer = Gst.Buffer.new_wrapped(unit.data)
    buffer.pts, buffer.dts = round(unit.shown_s * NS), round(unit.decoded_s * NS)
    if not unit.key:
        buffer.set_flags(Gst.BufferFlags.DELTA_UNIT)
    return buffer


def _check(pipeline: Gst.Pipeline, named: Path, wait_s: float) -> bool:
    """Whether everything has been written, after a wait of at most `wait_s`; raises the error that stopped it."""
    message = pipeline.get_bus().timed_pop_filtered(round(wait_s * NS), _TOLD)
    if message is None:
        return False
    if message.type == Gst.MessageType.EOS:
        return True
    error, details = message.parse_error()
    if element_of(message) == "filesink":
        number = errno.ENOSPC if error.matches(Gst.ResourceError.quark(), Gst.ResourceError.NO_SPACE_LEFT) else None
        number = number or _number_in(details or "")
        raise OSError(number, os.strerror(number), str(named))
    raise SourceError(
        f"{named} was not written: expected whole units of one codec, and in Matroska also of one size, found "
        f"others ({element_of(message)}: {reason(message)}); take a clip of another time"
    )


def _number_in(details: str) -> int:
    """The system's error number, found by its text in `details`, because GStreamer does not keep the number."""
    return next((number for number in errno.errorcode if os.strerror(number) in details), errno.EIO)
