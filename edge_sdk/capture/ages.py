"""Ages of frames, from capture to scores: the latency that a user notices, recorded in bounded memory."""

from __future__ import annotations

import math
import threading

import numpy as np

from edge_sdk.types import Value

KEPT = 4096
# Ten bins a decade from 1 ms to 100 s: neighbouring edges differ by 26 %.
EDGES_MS = tuple(round(10 ** (step / 10), 3) for step in range(51))


class AgeReport(Value, frozen=True, kw_only=True):
    """Ages in ms. Percentiles (linear between samples) and `max_ms` are of the last `kept` ages, None without any.

    `counts` is a histogram of all `count` ages: `counts[0]` is below `edges_ms[0]`, `counts[i]` from `edges_ms[i - 1]`
    up to but not including `edges_ms[i]`, and the last one is at or above the last edge.
    """

    count: int
    kept: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    edges_ms: tuple[float, ...]
    counts: tuple[int, ...]


class FrameAges:
    """The frame ages of one source, or of several together; thread-safe."""

    def __init__(self, kept: int = KEPT) -> None:
        self._lock = threading.Lock()
        self._ages_ms = np.zeros(kept)
        self._counts = np.zeros(len(EDGES_MS) + 1, np.int64)
        self._edges_ms = np.array(EDGES_MS)
        self._count = 0

    def add(self, age_ms: float) -> None:
        """Take one age. Raises `ValueError` for one that is not finite: a bug, not a slow frame."""
        if not math.isfinite(age_ms):
            raise ValueError(f"the age of a frame must be a finite number of ms, found {age_ms}")
        with self._lock:
            self._ages_ms[self._count % len(self._ages_ms)] = age_ms
            self._counts[np.searchsorted(self._edges_ms, age_ms, side="right")] += 1
            self._count += 1

    def report(self) -> AgeReport:
        """A report of the ages recorded so far."""
        with self._lock:
            count, counts = self._count, tuple(int(each) for each in self._counts)
            kept = self._ages_ms[: min(count, len(self._ages_ms))].copy()
        p50, p95, p99, top = (
            (float(each) for each in np.percentile(kept, [50, 95, 99, 100])) if len(kept) else [None] * 4
        )
        return AgeReport(
            count=count,
            kept=len(kept),
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            max_ms=top,
            edges_ms=EDGES_MS,
            counts=counts,
        )
