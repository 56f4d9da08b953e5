from __future__ import annotations

import math
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.benchmarks.measure import Limits
from edge_sdk.benchmarks.scenarios import late_share, moving_pictures, run_scenario
from edge_sdk.errors import ConfigError, UnknownNameError

PICTURES = moving_pictures(24, 40)


class SleepyStudent:
    """Takes known times, and remembers what it was given."""

    def __init__(self, push_s: float, step_s: float) -> None:
        self._push_s, self._step_s = push_s, step_s
        self.seen: list[NDArray[np.uint8]] = []

    def push(self, stream: int, luma: NDArray[np.uint8]) -> None:
        self.seen.append(luma)
        time.sleep(self._push_s)

    def step(self) -> NDArray[np.float32]:
        time.sleep(self._step_s)
        return np.zeros((1, 4), np.float32)


def test_single_times_both_stages_of_a_frame() -> None:
    student = SleepyStudent(0.002, 0.004)
    found = run_scenario("single", student, PICTURES, Limits(0.0, 0.0, 12), fps=1.0)
    assert np.median(found.stages["planes"]) >= 2e6
    assert np.median(found.stages["run"]) >= 4e6
    assert not np.array_equal(student.seen[0], student.seen[1])


def test_paced_frames_come_when_they_are_due() -> None:
    found = run_scenario("paced", SleepyStudent(0.0, 0.001), PICTURES, Limits(0.0, 0.0, 10), fps=20.0)
    assert np.diff(found.begin) == pytest.approx(np.full(9, 50e6), abs=1)
    assert np.all(found.stages["wait"] >= 0)
    assert set(found.stages) == {"wait", "planes", "run"}


def test_paced_charges_a_late_answer_to_the_frames_behind_it() -> None:
    found = run_scenario("paced", SleepyStudent(0.0, 0.03), PICTURES, Limits(0.0, 0.0, 12), fps=50.0)
    assert late_share(found, 50.0) > 0.9
    # Each frame is 20 ms apart and costs at least 30: the delay grows by 10 ms a frame.
    assert found.latency[-1] - found.latency[0] > 0.9 * 11 * 10e6


class ColdStudent(SleepyStudent):
    """Its first call takes a second, as where kernels are loaded on first use."""

    def step(self) -> NDArray[np.float32]:
        if len(self.seen) == 1:
            time.sleep(1.0)
        return super().step()


def test_the_backlog_of_a_slow_first_call_is_not_measured() -> None:
    """Fifty pictures a second queue up behind that call; the warm-up ends while most of them wait."""
    found = run_scenario("paced", ColdStudent(0.0, 0.01), PICTURES, Limits(0.1, 0.0, 12), fps=50.0)
    assert np.median(found.latency) < 0.1e9
    assert found.stages["wait"][0] < 0.1e9


@pytest.mark.parametrize("poll_s", [0.0, 0.15])
def test_a_wait_is_slept_up_to_the_part_that_polls(poll_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep, slept = time.sleep, list[float]()

    def remember(seconds: float) -> None:
        slept.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", remember)
    found = run_scenario("paced", SleepyStudent(0.0, 0.0), PICTURES, Limits(0.0, 0.0, 4), fps=5.0, poll_s=poll_s)
    assert np.all(found.stages["wait"] >= 0)
    assert max(slept) <= 0.2 - poll_s
    assert max(slept) > 0.1 - poll_s


def test_unusable_scenarios_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="paced, single"):
        run_scenario("burst", SleepyStudent(0, 0), PICTURES, Limits(0, 0, 1), fps=1.0)
    for fps in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="above 0, and a finite number"):
            run_scenario("paced", SleepyStudent(0, 0), PICTURES, Limits(0, 0, 1), fps=fps)


def test_pictures_move_and_repeat_with_the_seed() -> None:
    assert np.array_equal(PICTURES, moving_pictures(24, 40))
    assert np.abs(np.diff(PICTURES.astype(int), axis=0)).mean() > 20
