"""The end of a crash: by its heat where that is clear, else by the fall of the scores or the end of the clip."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from timeline_student import DELAY, POINT, RATE_HZ, student

from edge_sdk.perception.timeline import FrameScores, Timeline

START_S, FALL_S, LENGTH_S = 3.0, 6.0, 10.0
# A running mean of one frame falls with the scores.
STUDENT = student(msgspec.structs.replace(POINT, confirm_frames=1))


def end_s(heat: float, at_s: float, fall_s: float = FALL_S) -> float:
    """The end that is found where end heat rises to `heat` at `at_s`, and crash scores fall at `fall_s`."""
    timeline, updates = Timeline(STUDENT), []
    for number in range(round(LENGTH_S * RATE_HZ)):
        time_s = number / RATE_HZ
        about_s = time_s - DELAY / RATE_HZ
        crash = 0.9 if START_S <= time_s < fall_s else 0.02
        start, end = (np.exp(-(((about_s - peak_s) / 0.2) ** 2) / 2) for peak_s in (START_S, at_s))
        updates += timeline.push(FrameScores(time_s, crash, 0.0, 0.9 * float(start), max(0.02, heat * float(end))))
    updates += timeline.flush()
    found = updates[-1].timeline.crash_end
    assert found is not None
    return found.t


def test_clear_heat_tells_the_end() -> None:
    assert end_s(0.9, 4.5) == pytest.approx(4.5, abs=0.06)


def test_a_low_bump_of_heat_does_not() -> None:
    """The cars drove on: nothing in the picture is the moment of its end, and the highest heat may lie anywhere."""
    assert end_s(0.3, 4.0) == pytest.approx(FALL_S, abs=0.06)


def test_scores_that_do_not_fall_end_with_the_clip() -> None:
    assert end_s(0.3, 4.0, fall_s=LENGTH_S) == pytest.approx(LENGTH_S, abs=0.06)
