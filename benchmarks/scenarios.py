"""Time the student from a picture on the host to scores on the host.

`single` gives the next picture as soon as the last one is scored, which measures the cost of a frame. `paced` gives
pictures at a fixed rate, like a camera. In `paced` the time counts from the instant at which the picture was due, so
that a late answer also counts for every picture queued behind it. Neither includes capture and decoding.
"""

from __future__ import annotations

import time
from collections.abc import Callable
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
) -> Samples:
    """Time `scenario` on `pictures`, uint8 `[n, height, width]`. Raises `UnknownNameError` or `ConfigError`."""
    if scenario == "single":
        return measure(lambda number: _frame(student, pictures[number % len(pictures)]), STAGES["single"], limits)
    if scenario == "paced":
        if not fps > 0:
            raise ConfigError(f"a paced scenario needs frames per second above 0, found {fps}")
        return measure(_paced(student, pictures, fps), STAGES["paced"], limits)
    raise UnknownNameError("scenario", scenario, list(SCENARIOS))


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


def _paced(student: Scored, pictures: NDArray[np.uint8], fps: float) -> Callable[[int], tuple[int, ...]]:
    first_ns = time.perf_counter_ns()

    def step(number: int) -> tuple[int, ...]:
        due_ns = first_ns + round(number * 1e9 / fps)
        _wait_until(due_ns)
        return due_ns, *_frame(student, pictures[number % len(pictures)])

    return step


def _wait_until(instant_ns: int) -> None:
    while (left_s := (instant_ns - time.perf_counter_ns()) / 1e9) > 0:
        if left_s > SLEEP_SLACK_S:
            time.sleep(left_s - SLEEP_SLACK_S)
