"""Gaps of time stamps on the rate grid: what a camera leaves is filled, what only a wrong time stamp can be is not."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from edge_sdk.capture import CaptureSettings, SourceStats, open_source
from edge_sdk.types import Frame

Studio = Any  # its class is in conftest.py, which pytest loads under a name of its own

YEARS_S = 10 * 365 * 86400.0


def read(studio: Studio, name: str, drawn_s: list[float], rate_hz: float | None) -> tuple[list[Frame], SourceStats]:
    """The frames of a file with pictures at `drawn_s`, each showing its number."""
    pictures = [studio.counted(number) for number in range(len(drawn_s))]
    path = studio.encode(name, pictures, drawn_s, studio.chains["mjpeg.mkv"], caps="framerate=0/1")
    with open_source(str(path), CaptureSettings(width=80, height=48, rate_hz=rate_hz)) as source:
        return list(source), source.stats


def test_a_picture_that_stays_for_minutes_is_repeated(studio: Studio) -> None:
    frames, stats = read(studio, "frozen.mkv", [0.0, 1.0, 591.0, 592.0], 1.0)
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(593), abs=2e-3)
    assert [studio.read(frame.pixels) for frame in frames] == [0, *[1] * 296, *[2] * 295, 3]
    assert not any(frame.restarted for frame in frames)
    assert (stats.repeated, stats.warnings) == (589, ())


@pytest.mark.parametrize("gap_s", [700.0, YEARS_S])
def test_a_longer_gap_is_left_out_and_said(studio: Studio, gap_s: float) -> None:
    """Filled at 10 Hz, a gap of years would be three thousand million frames from a file of a few KB."""
    before_s, after_s = [n / 10 for n in range(10)], [gap_s + n / 10 for n in range(10)]
    begun_s = time.monotonic()
    frames, stats = read(studio, f"gap-{gap_s:g}.mkv", [*before_s, *after_s], 10.0)
    assert time.monotonic() - begun_s < 10.0
    assert 18 <= len(frames) <= 22
    assert [frame.time_s for frame in frames[:10]] == pytest.approx(before_s, abs=2e-3)
    assert [studio.read(frame.pixels) for frame in frames[:10]] == list(range(10))
    (first,) = [frame for frame in frames if frame.restarted]
    assert (first.time_s, studio.read(first.pixels)) == (pytest.approx(gap_s, abs=2e-3), 10)
    assert studio.read(frames[-1].pixels) == 19
    assert [text for text in stats.warnings if "no picture between 0.90 s and" in text and "left out" in text]
    assert stats.delivered == len(frames) == stats.decoded - stats.dropped + stats.repeated


def test_without_a_grid_a_gap_is_nothing_to_say(studio: Studio) -> None:
    frames, stats = read(studio, "free.mkv", [0.0, 0.1, YEARS_S], None)
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.1, YEARS_S], abs=2e-3)
    assert not any(frame.restarted for frame in frames)
    assert stats.warnings == ()


def test_steps_of_a_slow_grid_are_no_gaps(studio: Studio) -> None:
    frames, stats = read(studio, "slow.mkv", [400.0 * n for n in range(5)], 0.0025)
    assert [frame.time_s for frame in frames] == pytest.approx([400.0 * n for n in range(5)], abs=2e-3)
    assert not any(frame.restarted for frame in frames)
    assert stats.warnings == ()
