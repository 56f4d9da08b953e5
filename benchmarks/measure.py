"""Timing loops that keep every raw value, and the rule for which percentiles may be reported.

A percentile needs enough samples to mean anything. The least n comes from the early-stopping formula of MLPerf
Inference (d = 0, confidence 0.99): the n at which the chance of seeing no more than one slower sample is 1 %. With
fewer samples the percentile is withheld, not estimated.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ConfigError

Nanoseconds = NDArray[np.int64]

TIMER = "perf_counter_ns"
# percentile -> least number of samples
NEEDED: dict[str, int] = {"p50": 11, "p90": 64, "p95": 130, "p99": 662, "p99.9": 6636}


class Samples(NamedTuple):
    """Raw times in ns: `begin [n]` on the timer's clock, `latency [n]`, and `stages`, whose parts add up to it."""

    begin: Nanoseconds
    latency: Nanoseconds
    stages: dict[str, Nanoseconds]

    @property
    def span_ns(self) -> tuple[int, int]:
        """Start of work on the first sample, after any wait for its turn, and end of work on the last sample, in ns."""
        waited = self.stages["wait"][0] if "wait" in self.stages else 0
        return int(self.begin[0] + waited), int(self.begin[-1] + self.latency[-1])


class Limits(NamedTuple):
    """How long to measure: after `warmup_s`, until `duration_s` have passed and `min_samples` are taken."""

    warmup_s: float
    duration_s: float
    min_samples: int

    def check(self) -> None:
        """Raise `ConfigError` for limits that measure nothing or never end."""
        finite = math.isfinite(self.warmup_s) and math.isfinite(self.duration_s)
        if not finite or self.warmup_s < 0 or self.duration_s < 0 or self.min_samples < 1:
            raise ConfigError(
                "expected a warm-up and a duration in seconds, finite and at least 0, and one sample or more; found "
                f"warm-up {self.warmup_s:g} s, duration {self.duration_s:g} s, {self.min_samples} samples"
            )


# Processes a frame and returns the instants (ns) at which it began and at which each stage ended.
Step = Callable[[int], tuple[int, ...]]


def measure(
    step: Step, stages: tuple[str, ...], limits: Limits, restart: Callable[[int], None] = lambda number: None
) -> Samples:
    """Call `step(0), step(1), …` back to back; samples of the warm-up are thrown away.

    `step` returns 1 + len(`stages`) instants: begin, end of the first stage, …, end of the last. `restart` is called
    after the warm-up with the number of the first sample, so that a schedule can begin there.
    """
    limits.check()
    number = 0
    rows: list[tuple[int, ...]] = []
    warm_until_s = time.perf_counter() + limits.warmup_s
    while time.perf_counter() < warm_until_s or number == 0:
        step(number)
        number += 1
    restart(number)
    until_s = time.perf_counter() + limits.duration_s
    while time.perf_counter() < until_s or len(rows) < limits.min_samples:
        rows.append(step(number))
        number += 1
    return _samples(rows, stages)


def _samples(rows: list[tuple[int, ...]], stages: tuple[str, ...]) -> Samples:
    instants = np.array(rows, np.int64)
    parts = np.diff(instants, axis=1)
    if parts.shape[1] != len(stages):
        raise ValueError(f"{parts.shape[1]} stages were timed, {len(stages)} are named: {stages}")
    return Samples(instants[:, 0], instants[:, -1] - instants[:, 0], dict(zip(stages, parts.T, strict=True)))


def percentiles(values: NDArray[np.float64]) -> dict[str, float | None]:
    """Every percentile of `NEEDED`, in the unit of `values`, linear between samples; None where samples are too few."""
    return {
        name: float(np.percentile(values, float(name[1:]))) if values.size >= needed else None
        for name, needed in NEEDED.items()
    }


def withheld(count: int) -> str | None:
    """The percentiles withheld at `count` samples, in one line; None if schema 1's percentiles are all reported."""
    missing = [f"{name} (needs {needed})" for name, needed in NEEDED.items() if count < needed and name != "p99.9"]
    return f"{count} samples: {', '.join(missing)} withheld" if missing else None


def median_ms(values: Mapping[str, Nanoseconds]) -> dict[str, float]:
    """Median of each array in ms."""
    return {name: float(np.median(array)) / 1e6 for name, array in values.items()}
