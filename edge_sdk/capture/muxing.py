"""Encoded units to a file that plays: which container, which pipeline, and when each unit is decoded.

Nothing is encoded anew. Units stand in the ring in the order of decoding, each with the time of its picture; what a
container needs beside that, the times of decoding, follow from it. GStreamer is opened by name, when a file is written.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import cast

from edge_sdk.capture.codecs import CODECS
from edge_sdk.capture.patience import Patience
from edge_sdk.capture.pipelines import joined, rate_text
from edge_sdk.capture.player import EncodedUnit, PlayerModule, TimedUnit
from edge_sdk.errors import ConfigError
from edge_sdk.files import atomic_path, sha256_of, sync

# What a file may take to be written, before it is given up and its thread left behind: a disk that does not answer.
LIMIT_S = 60.0

# Ticks as fine as those of RTP's clock for video, so that no time is rounded that a camera tells.
_TICKS_HZ = 90_000
# How long a picture is shown that is the only one, and the least of others, whose times may be equal.
_ALONE_S, _SHORTEST_S = 1 / 30, 1e-3
_MUXERS = {
    ".mp4": f"mp4mux trak-timescale={_TICKS_HZ} movie-timescale={_TICKS_HZ}",
    ".mkv": "matroskamux offset-to-zero=true",
}
# Players read JPEGs in MP4 as the one that wrote them has it; in Matroska they are standard.
_SUFFIXES = {"h264": (".mp4", ".mkv"), "h265": (".mp4", ".mkv"), "mjpeg": (".mkv",)}

# One file at a time. It is known how many writers were left behind, and no more are begun when they are too many.
_patience, _writing = Patience(LIMIT_S), threading.Lock()


def suffix_of(codec: str) -> str:
    """The ending of a file that holds units of `codec` best: `.mp4`, or for MJPEG `.mkv`."""
    return _SUFFIXES[codec][0]


def write_units(path: Path, codec: str, units: Sequence[EncodedUnit]) -> str:
    """Write `units`, of which the first is a key unit, into the file `path`, and return its SHA-256.

    What may be raised, and the rest, is as `CodedClip.save` says.
    """
    text = mux_text(codec, path, usual_step_s(units))
    if not units:
        raise ConfigError(f"{path}: expected units to write, found a clip without any; nothing was kept of that time")
    gst = cast(PlayerModule, import_module("edge_sdk.capture.gst"))
    with _writing, atomic_path(path) as stage:

        def write() -> str:
            gst.mux(text, stage, path, timed(units))
            sync(stage)
            return sha256_of(stage)

        return _patience.do(f"writing {path}", write)


def mux_text(codec: str, path: Path, step_s: float) -> str:
    """From an `appsrc` named `units` to a file; `step_s` is from one picture to the next, and that of the last one.

    Raises `ConfigError` for a name whose ending is not one of `codec`.
    """
    known = next(each for each in CODECS if each.name == codec)
    if path.suffix not in _SUFFIXES[codec]:
        endings = " or ".join(_SUFFIXES[codec])
        raise ConfigError(f"expected a file name that ends in {endings} for {codec}, found {path.name!r}; give that")
    whole = "" if codec == "mjpeg" else ",stream-format=byte-stream,alignment=au"
    # In MP4 the last picture is shown for as long as the rate says, or for no time, and then some players leave it out.
    rate = f",framerate={rate_text(1 / step_s)}" if path.suffix == ".mp4" else ""
    return joined(
        f"appsrc name=units format=time caps={known.media}{whole}{rate}",
        known.parser,
        _MUXERS[path.suffix],
        "filesink name=file",
    )


def usual_step_s(units: Sequence[EncodedUnit]) -> float:
    """The time from one picture to the next, as it is for most of them; that of 30 a second for a single one."""
    steps_s = [after - before for before, after in pairwise(sorted(unit.captured_s for unit in units))]
    return max(statistics.median(steps_s), _SHORTEST_S) if steps_s else _ALONE_S


def timed(units: Sequence[EncodedUnit]) -> list[TimedUnit]:
    """`units` with times from the first picture on, seconds.

    They are decoded in their order, at the times of the pictures in the order of display, and that earlier by as much
    as reordering takes, for none may be shown before it is decoded. Without reordering both are the same.
    """
    shown = [unit.captured_s for unit in units]
    rising = sorted(shown)
    early_s = max((rise - show for rise, show in zip(rising, shown, strict=True)), default=0.0)
    return [
        TimedUnit(
            unit.data,
            shown_s=unit.captured_s - rising[0] + early_s,
            decoded_s=rise - rising[0],
            key=unit.key,
        )
        for unit, rise in zip(units, rising, strict=True)
    ]
