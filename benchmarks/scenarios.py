"""Time the student from a picture on the host to scores on the host.

`single` gives the next picture as soon as the last one is scored, which measures the cost of a frame. `paced` gives
pictures at a fixed rate, like a camera. In `paced` the time counts from the instant at which the picture was due, so
that a late answer also counts for every picture queued behind it. The schedule begins afresh after the warm-up, whose
slow first call would otherwise delay measured pictures. Neither includes capture and decoding.
"""

from __future__ import annotations

import math
import time
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.benchmarks.measure import Limits, Samples, measure
from edge_sdk.errors import ConfigError, UnknownNameError

Scenario = Literal["single", "paced"]
SCENARIOS: tuple[Scenario, ...] = ("single", "paced")
STAGES: dict[Scenario, tuple[str, ...]] = {"single": ("planes", "run"), "paced": ("wait", "planes", "run")}

# More pictures than the longest lag of a motion plane, so that each step sees motion.
PICTURES = 64
# A sleep may return late by this much, so the last part of a wait polls the clock.
SLEEP_SLACK_S = 0.002


class Scored(Protocol):
    """Interface of the measured object: `Recogniser` with one stream."""

    def push(self, stream: int, luma: NDArray[np.uint8]) -> None:
        """Give one stream its next picture."""

    def step(self) -> NDArray[np.float32]:
        """Score the pictures that were pushed."""


def run_scenario(
    scenario: str,
    student: Scored,
    pictures: NDArray[np.uint8],
    limits: Limits,
    *,
    fps: float,
    poll_s: float = SLEEP_SLACK_S,
) -> Samples:
    """Time `scenario` on `pictures`, uint8 `[n, height, width]`. Raises `UnknownNameError` or `ConfigError`.

    In `paced` the clock is polled for the last `poll_s` seconds of each wait. That takes power, so give 0 where power
    is measured: a late wake-up then counts as `wait`.
    """
    check_scenario(scenario, fps)
    if scenario == "single":
        return measure(lambda number: _frame(student, pictures[number % len(pictures)]), STAGES["single"], limits)
    paced = _Paced(student, pictures, fps, poll_s)
    return measure(paced.step, STAGES["paced"], limits, paced.restart)


def check_scenario(scenario: str, fps: float) -> Scenario:
    """The scenario called `scenario`.

    Raises `UnknownNameError` for an unknown one, and `ConfigError` for a rate at which `paced` cannot run.
    """
    known = next((name for name in SCENARIOS if name == scenario), None)
    if known is None:
        raise UnknownNameError("scenario", scenario, list(SCENARIOS))
    if known == "paced" and not (math.isfinite(fps) and fps > 0):
        raise ConfigError(f"a paced scenario needs frames per second above 0, and a finite number; found {fps:g}")
    return known


def late_share(samples: Samples, fps: float) -> float:
    """Share of frames whose scores came after the next frame was due."""
    return float(np.mean(samples.latency > 1e9 / fps))


def moving_pictures(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A textured scene that shifts and flickers: uint8 `[PICTURES, height, width]`, the same for one seed."""
    rng = np.random.default_rng(seed)
    scene = rng.integers(0, 256, (height, width), np.uint8)
    return np.stack([np.roll(scene, (t, 2 * t), (0, 1)) for t in range(PICTURES)])


def _frame(student: Scored, picture: NDArray[np.uint8]) -> tuple[int, int, int]:
    begin = time.perf_counter_ns()
    student.push(0, picture)
    pushed = time.perf_counter_ns()
    student.step()
    return begin, pushed, time.perf_counter_ns()


class _Paced:
    """Gives picture number n at the n-th instant of a schedule."""

    def __init__(self, student: Scored, pictures: NDArray[np.uint8], fps: float, poll_s: float) -> None:
        self._student, self._pictures, self._fps, self._poll_s = student, pictures, fps, poll_s
        self.restart(0)

    def restart(self, number: int) -> None:
        """Let picture `number` be due at this moment."""
        self._first, self._first_ns = number, time.perf_counter_ns()

    def step(self, number: int) -> tuple[int, ...]:
        """Wait for the picture's turn, and score it."""
        due_ns = self._first_ns + round((number - self._first) * 1e9 / self._fps)
        _wait_until(due_ns, self._poll_s)
        return due_ns, *_frame(self._student, self._pictures[number % len(self._pictures)])


def _wait_until(instant_ns: int, poll_s: float) -> None:
    while (left_s := (instant_ns - time.perf_counter_ns()) / 1e9) > 0:
        if left_s > poll_s:
            time.sleep(left_s - poll_s)
