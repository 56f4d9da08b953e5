"""Encoded units to a file that plays: which container, which pipeline, and when each unit is decoded.

Nothing is re-encoded. The ring holds units in decoding order, each with the time of its picture. A container also needs
decoding times, which follow from these. GStreamer is imported by name, only when a file is written.
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

# How long writing a file may take. After that the disk counts as hanging, and the writing thread is abandoned.
LIMIT_S = 60.0

# As fine as RTP's clock for video, so that no camera's time stamp is rounded.
_TICKS_HZ = 90_000
# How long a single picture is shown, and the least for pictures of several, whose times may be equal.
_ALONE_S, _SHORTEST_S = 1 / 30, 1e-3
_MUXERS = {
    ".mp4": f"mp4mux trak-timescale={_TICKS_HZ} movie-timescale={_TICKS_HZ}",
    ".mkv": "matroskamux offset-to-zero=true",
}
# How JPEGs are stored in MP4 differs between programs; in Matroska it is standard.
_SUFFIXES = {"h264": (".mp4", ".mkv"), "h265": (".mp4", ".mkv"), "mjpeg": (".mkv",)}

# One file at a time. `_patience` counts the abandoned writers, and starts no more if there are too many.
_patience, _writing = Patience(LIMIT_S), threading.Lock()


def suffix_of(codec: str) -> str:
    """The best file suffix for units of `codec`: `.mp4`, or `.mkv` for MJPEG."""
    return _SUFFIXES[codec][0]


def write_units(path: Path, codec: str, units: Sequence[EncodedUnit]) -> str:
    """Write `units`, which begin with a key unit, to the file `path`, and return its SHA-256.

    `CodedClip.save` describes the rest, including what is raised.
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
    """Pipeline text from an `appsrc` named `units` to a file.

    `step_s` is the usual time between pictures, and how long the last one is shown. Raises `ConfigError` for a file
    suffix that does not suit `codec`.
    """
    known = next(each for each in CODECS if each.name == codec)
    if path.suffix not in _SUFFIXES[codec]:
        endings = " or ".join(_SUFFIXES[codec])
        raise ConfigError(f"expected a file name that ends in {endings} for {codec}, found {path.name!r}; rename it")
    whole = "" if codec == "mjpeg" else ",stream-format=byte-stream,alignment=au"
    # In MP4 the rate says how long the last picture is shown. Without it that is no time, and some players skip it.
    rate = f",framerate={rate_text(1 / step_s)}" if path.suffix == ".mp4" else ""
    return joined(
        f"appsrc name=units format=time caps={known.media}{whole}{rate}",
        known.parser,
        _MUXERS[path.suffix],
        "filesink name=file",
    )


def usual_step_s(units: Sequence[EncodedUnit]) -> float:
    """The median time from one picture to the next, at least 1 ms; 1/30 s for a single picture."""
    steps_s = [after - before for before, after in pairwise(sorted(unit.captured_s for unit in units))]
    return max(statistics.median(steps_s), _SHORTEST_S) if steps_s else _ALONE_S


def timed(units: Sequence[EncodedUnit]) -> list[TimedUnit]:
    """`units` with display and decoding times, in seconds from the first decoding on.

    Units are decoded in their order, at the pictures' times in display order. All are shown later by as much as
    reordering needs, so that no picture is shown before it is decoded. Without reordering both times are the same.
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
