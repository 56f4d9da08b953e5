"""A playing file or test pattern: its pictures are pulled with time-outs, so that Ctrl-C takes effect at once.

While it plays, no Python runs on GStreamer's threads, except a check of the size of its coded pictures (`sizes`). A
pipeline is always taken to the NULL state, on errors too, which ends its threads and closes its files.
"""

from __future__ import annotations

import time
from typing import cast

from edge_sdk.capture.gst.binding import NS, POLL_S, Gst
from edge_sdk.capture.gst.launch import halt, launch, reason
from edge_sdk.capture.gst.samples import picture_info, pixels, pull, times_s
from edge_sdk.capture.gst.sizes import too_large
from edge_sdk.capture.player import Counters, Picture, TooLargeError
from edge_sdk.errors import SourceError


class GstPlayer:
    """A playing pipeline whose pictures arrive at the appsink `frames`."""

    def __init__(self, text: str, uri: str | None, timeout_s: float) -> None:
        self._pipeline: Gst.Pipeline | None = launch(text, uri)
        sink = cast(Gst.Element, self._pipeline.get_by_name("frames"))
        self._sink: Gst.Element | None = sink
        self._rate = self._pipeline.get_by_name("rate")
        self._first: Gst.Sample | None = None
        self._counters: Counters | None = None
        self._warnings: list[str] = []
        self._too_large = False
        try:
            self._start(self._pipeline, sink, timeout_s)
        except BaseException:
            self.close()
            raise

    def _start(self, pipeline: Gst.Pipeline, sink: Gst.Element, timeout_s: float) -> None:
        """Play until the first picture, and keep it. A preroll is no sign of one: a gap before it also prerolls."""
        pipeline.set_state(Gst.State.PLAYING)
        progress, deadline_s = self.counters(), time.monotonic() + timeout_s
        while (first := pull(sink, POLL_S)) is None:
            # `eos` is read before the bus: an error is posted before the end that it leads to, so it cannot be missed.
            ended, error = sink.get_property("eos"), self._read_bus()
            if error is not None:
                raise TooLargeError(error) if self._too_large else SourceError(error)
            if ended:
                raise SourceError("it holds no picture that can be decoded")
            if self.counters() != progress:  # at a low rate, many pictures are decoded before the first one comes out
                progress, deadline_s = self.counters(), time.monotonic() + timeout_s
            if time.monotonic() > deadline_s:
                raise SourceError("no picture came out of it in time")
        self._first = first
        self.info = picture_info(pipeline)
        self.start_s, self.start_clock_s = times_s(first)
        known, duration = pipeline.query_duration(Gst.Format.TIME)
        # Rounded, because a demuxer that has reached the file's end corrects the container's duration by fractions of a
        # millisecond, the unit of Matroska, and whether it has reached the end here is chance.
        self.duration_s = round(duration / NS, 3) if known and duration >= 0 else None

    def pull(self, timeout_s: float) -> Picture | None:
        """The next picture, or None if none came in time. Raises `EOFError` after the last one."""
        sink = self._sink
        if sink is None:
            raise EOFError
        sample, self._first = self._first or pull(sink, timeout_s), None
        if self._sink is None:  # closed by another thread meanwhile
            raise EOFError
        if sample is not None:
            return Picture(pixels(sample), times_s(sample)[0])
        if sink.get_property("eos"):
            raise EOFError
        return None

    def counters(self) -> Counters | None:
        """Counts of the rate grid, None without one; they stay readable after `close`."""
        rate = self._rate
        if rate is not None:
            decoded, dropped, repeated = (int(rate.get_property(name)) for name in ("in", "drop", "duplicate"))
            if self._rate is not None:  # else the counts may come from a pipeline that is being closed
                self._counters = Counters(decoded, dropped, repeated)
        return self._counters

    def decoded_until_s(self) -> float | None:
        """The stream time up to which pictures were decoded, None if the decoder does not say."""
        decoder = self._pipeline.get_by_name("decoder") if self._pipeline is not None else None
        known, position = decoder.query_position(Gst.Format.TIME) if decoder is not None else (False, 0)
        return position / NS if known else None

    def problems(self) -> tuple[list[str], str | None]:
        """Warnings since the last call, each once, and the error that stopped the pipeline, if one did."""
        error = self._read_bus()
        warnings, self._warnings = self._warnings, []
        return list(dict.fromkeys(warnings)), error

    def _read_bus(self) -> str | None:
        """Collect warnings; returns the first error."""
        bus = self._pipeline.get_bus() if self._pipeline is not None else None
        while bus is not None and (message := bus.pop_filtered(Gst.MessageType.ERROR | Gst.MessageType.WARNING)):
            if message.type == Gst.MessageType.ERROR:
                self._too_large = too_large(message.parse_error()[0])
                return reason(message)
            self._warnings.append(reason(message))
        return None

    def close(self) -> None:
        """Take the pipeline down and release it."""
        self.counters()
        pipeline, self._pipeline = self._pipeline, None
        # The rate grid forgets its counts with the pipeline.
        self._rate = self._first = self._sink = None
        if pipeline is not None:
            halt(pipeline)


def play(text: str, uri: str | None, timeout_s: float) -> GstPlayer:
    """Start the pipeline `text` on the file at `uri` (None for a pattern) and wait for its first picture.

    Raises `SourceError` if nothing is decoded for `timeout_s` before it, `TooLargeError` for pictures above
    `MAX_CODED_SIDE`, `MissingDependencyError` for a missing element.
    """
    return GstPlayer(text, uri, timeout_s)
