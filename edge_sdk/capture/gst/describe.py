"""Find the container and tracks of a file without decoding it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

from edge_sdk.capture.codecs import container_of, install_command
from edge_sdk.capture.gst.binding import Gst, GstBase
from edge_sdk.capture.gst.launch import halt, launch, messages, reason
from edge_sdk.capture.player import Media
from edge_sdk.errors import MissingDependencyError, SourceError

_HEAD_BYTES = 1 << 16  # how much of a file is read to recognise its kind


def describe(path: str, timeout_s: float) -> Media:
    """What kind of file `path` is, and which tracks it holds, found without decoding.

    Raises `SourceError` for a file of no known kind, or one that does not show its tracks in time;
    `MissingDependencyError` when the demuxer is not installed.
    """
    with Path(path).open("rb") as file:
        caps, _ = GstBase.type_find_helper_for_data(None, file.read(_HEAD_BYTES))
    kind = caps.get_structure(0).get_name() if caps is not None else ""
    container = container_of(kind)
    if container is None:
        raise SourceError(
            f"it is {kind or 'of a kind that GStreamer does not recognise'}; give a video file, such as H.264 in MP4"
        )
    if not container.demuxer:
        return Media(container=kind, tracks=(kind,))
    if Gst.ElementFactory.find(container.demuxer) is None:
        raise MissingDependencyError(
            f"no GStreamer plugin on this machine reads {kind}; run: {install_command(container.package)}"
        )
    return Media(container=kind, tracks=_tracks(container.demuxer, path, time.monotonic() + timeout_s))


def _tracks(demuxer: str, path: str, deadline_s: float) -> tuple[str, ...]:
    """Media types of the tracks that the demuxer has found, once it has found all, or has ended or failed."""
    pipeline = launch(f"filesrc name=source ! {demuxer} name=demux", Path(path).absolute().as_uri())
    demux = pipeline.get_by_name("demux")
    if demux is None:
        raise MissingDependencyError(f"GStreamer cannot make its element {demuxer}; install GStreamer's plugins again")
    demux.connect("pad-added", _discard)
    demux.connect("no-more-pads", _announce)
    try:
        pipeline.set_state(Gst.State.PLAYING)
        for message in messages(pipeline, deadline_s):
            if not demux.srcpads:
                raise SourceError(
                    f"{demuxer} finds no track in it ({reason(message)}); a recording that was cut off before it was "
                    "closed looks like this: record into fragmented MP4 or Matroska"
                )
            return tuple(kind for pad in demux.srcpads if (kind := _media_of(pad)))
    finally:
        halt(pipeline)
    raise SourceError("its tracks were not found in time")


def _discard(demux: Gst.Element, pad: Gst.Pad) -> None:
    """Link a demuxer's output to a `fakesink`: an output that is not linked would stop the demuxer.

    The pipeline is looked up here, not passed in, because a callback that holds the pipeline makes a cycle that is
    never freed.
    """
    pipeline = cast(Gst.Pipeline, demux.get_parent())
    sink = Gst.ElementFactory.make_with_properties("fakesink", ["sync", "async"], [False, False])
    target = sink.get_static_pad("sink") if sink is not None else None
    if sink is not None and target is not None:
        pipeline.add(sink)
        sink.sync_state_with_parent()
        pad.link(target)


def _announce(demux: Gst.Element) -> None:
    demux.post_message(Gst.Message.new_application(demux, Gst.Structure.new_empty("tracks")))


def _media_of(pad: Gst.Pad) -> str:
    caps = pad.get_current_caps()
    return caps.get_structure(0).get_name() if caps is not None and caps.get_size() else ""
