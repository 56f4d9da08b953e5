"""Measure the energy of a run with the board's own power monitors; machines without monitors give nothing."""

from __future__ import annotations

import random
import threading
import time
from statistics import fmean
from types import TracebackType
from typing import NamedTuple

from edge_sdk.benchmarks.conditions import Watch
from edge_sdk.benchmarks.measure import Samples
from edge_sdk.benchmarks.report import Energy
from edge_sdk.hardware import Draw, read_draw

IDLE_S = 2.0
INTERVAL_S = 0.1
# Factors between which each interval is drawn: readings at a fixed rate would always hit the same part of a frame.
SHORTEST, LONGEST = 0.5, 1.5


class _Reading(NamedTuple):
    at_ns: int
    draw: Draw


class Meter:
    """Read the board's power about ten times a second, and the machine's state once a second, in a separate thread.

    A separate thread, because a reading between two frames finds the GPU idle, and a slow one delays the next frame.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch, self._readings = watch, list[_Reading]()
        self._ended, self._thread = threading.Event(), threading.Thread(target=self._read, name="meter", daemon=True)
        self.idle = _idle()

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _read(self) -> None:
        drawn = random.Random(0)
        while not self._ended.wait(INTERVAL_S * drawn.uniform(SHORTEST, LONGEST)):
            self._watch.look()
            if self.idle and (draw := read_draw()) and draw.rail == self.idle.rail:
                self._readings.append(_Reading(time.perf_counter_ns(), draw))

    def energy(self, samples: Samples) -> Energy | None:
        """The energy of the run with the times `samples`; None where no reading fell into the run."""
        begin_ns, end_ns = samples.span_ns
        found = [reading.draw.power_w for reading in self._readings if begin_ns <= reading.at_ns <= end_ns]
        if self.idle is None or not found:
            return None
        mean_w, frame_s = fmean(found), (end_ns - begin_ns) / 1e9 / samples.latency.size
        return Energy(
            mean_w=mean_w,
            idle_w=self.idle.power_w,
            joule_per_frame=mean_w * frame_s,
            joule_per_frame_above_idle=(mean_w - self.idle.power_w) * frame_s,
            rail=self.idle.rail,
            readings=len(found),
        )


def _idle() -> Draw | None:
    """The board's power draw while this process sleeps; None, without waiting, where no power rail can be read."""
    first, readings = read_draw(), list[float]()
    if first is None:
        return None
    until_s = time.perf_counter() + IDLE_S
    while time.perf_counter() < until_s:
        time.sleep(INTERVAL_S)
        again = read_draw()
        readings += [again.power_w] if again and again.rail == first.rail else []
    return Draw(first.rail, fmean(readings)) if readings else None
