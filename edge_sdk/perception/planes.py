"""Frames to the student's input planes, the same on the device and in training.

The arithmetic is in `csrc/planes.h`; this module remembers earlier pictures. A new stream uses its first picture in
place of the missing earlier ones, so its motion planes start at zero and nothing jumps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sdk._native import write_planes
from edge_sdk.errors import ConfigError

Luma = NDArray[np.uint8]
Planes = NDArray[np.float32]


class PlaneStack:
    """Planes of the newest picture of each stream, batched for one call of the graph.

    `batch` is float32 `[streams, 1 + len(lags), height, width]` and is overwritten in place: read it before the next
    push. `lags` are distances in frames, each at least 1. Raises `ConfigError` for an unusable size or lag.
    """

    def __init__(self, streams: int, height: int, width: int, lags: Sequence[int]) -> None:
        if min(streams, height, width) < 1 or not lags or min(lags) < 1:
            raise ConfigError(
                f"expected streams, height, width and lags of at least 1; found {streams}, {height}, {width}, {lags}"
            )
        self.lags = tuple(lags)
        self.batch: Planes = np.zeros((streams, 1 + len(lags), height, width), np.float32)
        self._slots = max(lags) + 1
        self._history: Luma = np.zeros((streams, self._slots, height, width), np.uint8)
        self._pushed = [0] * streams

    def push(self, stream: int, luma: Luma) -> None:
        """Take the next picture of `stream`, uint8 `[height, width]`, and write its planes into `batch[stream]`.

        Raises `ConfigError` when the picture is not of that type and shape or the stream does not exist.
        """
        self._check(stream, luma)
        ring, newest = self._history[stream], self._pushed[stream] % self._slots
        if self._pushed[stream] == 0:
            ring[:] = luma
        ring[newest] = luma
        write_planes(ring[newest], [ring[newest - lag] for lag in self.lags], self.batch[stream])
        self._pushed[stream] += 1

    def reset(self, stream: int) -> None:
        """Forget the history of `stream`; its next picture is a first one."""
        self._pushed[stream] = 0

    def _check(self, stream: int, luma: Luma) -> None:
        shape = self.batch.shape[2:]
        if not 0 <= stream < len(self._pushed):
            raise ConfigError(f"expected a stream in 0..{len(self._pushed) - 1}, found {stream}")
        if luma.dtype != np.uint8 or luma.shape != shape:
            raise ConfigError(f"expected a luma picture uint8 {list(shape)}, found {luma.dtype} {list(luma.shape)}")


def window_planes(luma: Luma, lags: Sequence[int]) -> Planes:
    """Planes of a whole window: uint8 `[frames, height, width]` to float32 `[frames, 1 + len(lags), height, width]`.

    The result equals that of pushing the frames one by one into a new `PlaneStack`. Raises `ConfigError` for another
    type or shape.
    """
    if luma.dtype != np.uint8 or luma.ndim != 3:
        raise ConfigError(f"expected pictures uint8 [frames, height, width], found {luma.dtype} {list(luma.shape)}")
    pictures = np.ascontiguousarray(luma)
    planes = np.empty((len(luma), 1 + len(lags), *luma.shape[1:]), np.float32)
    for t, picture in enumerate(pictures):
        write_planes(picture, [pictures[max(t - lag, 0)] for lag in lags], planes[t])
    return planes
