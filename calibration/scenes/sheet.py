"""Contact sheets: a row of pictures for every clip, so that a person can inspect what the generator makes.

A frame of a crash has a red edge, and a frame from which the crash was foreseeable has an amber one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.capture import CaptureSettings, open_source
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.files import write_bytes

Picture = NDArray[np.uint8]
TILE = (160, 96)
COLUMNS = 9
_EDGE_PX = 2
_RED, _AMBER, _GREY = (220, 40, 40), (230, 170, 0), (90, 90, 90)
_RATE_HZ = 10.0


def write_sheet(clips: Sequence[LabelledClip], out: Path, columns: int = COLUMNS) -> None:
    """Write the sheet of `clips`, one row each, as PNG. Raises ConfigError without clips."""
    if not clips:
        raise ConfigError("a contact sheet needs at least one clip; without --kind all clips of a folder are shown")
    write_bytes(out, png(np.concatenate([_row(clip, columns) for clip in clips])))


def _row(clip: LabelledClip, columns: int) -> Picture:
    settings = CaptureSettings(width=TILE[0], height=TILE[1], rate_hz=_RATE_HZ, pixels="rgb")
    with open_source(str(clip.path), settings) as source:
        frames = [(frame.time_s, np.array(frame.pixels)) for frame in source]
    tiles = []
    for time_s in _times(clip, frames[-1][0], columns):
        shown_s, pixels = min(frames, key=lambda frame: abs(frame[0] - time_s))
        tiles.append(_edged(pixels, _colour(clip, shown_s)))
    return np.concatenate(tiles, axis=1)


def _times(clip: LabelledClip, end_s: float, columns: int) -> list[float]:
    """From two seconds before the crash to two after it; the whole clip where there is none."""
    low_s, high_s = 0.0, end_s
    if clip.start_s is not None:
        low_s, high_s = max(clip.start_s - 2.0, 0.0), min(clip.start_s + 2.0, end_s)
    return [float(time_s) for time_s in np.linspace(low_s, high_s, columns)]


def _colour(clip: LabelledClip, time_s: float) -> tuple[int, int, int]:
    if clip.start_s is None or clip.end_s is None or time_s > clip.end_s:
        return _GREY
    if time_s >= clip.start_s:
        return _RED
    return _AMBER if clip.pre_crash_s is not None and time_s >= clip.pre_crash_s else _GREY


def _edged(pixels: Picture, colour: tuple[int, int, int]) -> Picture:
    edged = np.empty_like(pixels)
    edged[:] = colour
    edged[_EDGE_PX:-_EDGE_PX, _EDGE_PX:-_EDGE_PX] = pixels[_EDGE_PX:-_EDGE_PX, _EDGE_PX:-_EDGE_PX]
    return edged


def png(image: Picture) -> bytes:
    """An RGB image [height, width, 3] as PNG (ISO/IEC 15948), every row unfiltered."""
    height, width, _ = image.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, width * 3)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
