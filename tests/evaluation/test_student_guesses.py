"""What is guessed of a clip in which the student found no event."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.analysis import AnalysedClip, analyze
from edge_sdk.bundle import default_bundle, open_bundle
from edge_sdk.evaluation.student import clip_scores, hottest_starts
from edge_sdk.perception.recogniser import student_of
from edge_sdk.perception.timeline import FrameScores

BUNDLE = open_bundle(default_bundle())
STUDENT = student_of(BUNDLE)
PERIOD_S, DELAY_S = 1 / STUDENT.rate_hz, STUDENT.heat_delay_frames / STUDENT.rate_hz
FRAMES = 80


def clip(start_s: float, ends: dict[float, float]) -> AnalysedClip:
    """Low crash scores with start heat at one time and end heat at others, each with its height."""
    times_s = np.arange(FRAMES) * PERIOD_S
    start = 0.4 * np.exp(-(((times_s - start_s - DELAY_S) / 0.2) ** 2) / 2)
    end = sum(high * np.exp(-(((times_s - at_s - DELAY_S) / 0.2) ** 2) / 2) for at_s, high in ends.items())
    columns = (times_s, np.full(FRAMES, 0.1), np.zeros(FRAMES), start, np.broadcast_to(end, FRAMES))
    rows = [FrameScores(*map(float, row)) for row in zip(*columns, strict=True)]
    return AnalysedClip(None, rows, (), None, False)  # type: ignore[arg-type]


def test_the_guess_ends_at_the_clear_heat_after_its_start() -> None:
    """Not at the higher one before it."""
    best = hottest_starts(clip(3.0, {1.5: 0.95, 5.0: 0.8}), STUDENT)[0]
    assert best.start_s == pytest.approx(3.0, abs=PERIOD_S)
    assert best.end_s == pytest.approx(5.0 + STUDENT.operating_point.crash_end.shift_s, abs=0.06)


def test_without_clear_heat_it_ends_with_the_clip() -> None:
    best = hottest_starts(clip(3.0, {4.0: 0.3}), STUDENT)[0]
    assert best.end_s == pytest.approx(FRAMES * PERIOD_S)


def test_guesses_cover_every_frame_and_none_ends_before_it_begins() -> None:
    found = hottest_starts(clip(3.0, {1.5: 0.95, 5.0: 0.8}), STUDENT)
    assert len(found) == FRAMES
    assert all(guess.end_s is not None and guess.end_s >= guess.start_s >= 0 for guess in found)
    assert hottest_starts(clip(3.0, {})._replace(scores=[]), STUDENT) == []


def test_an_event_is_guessed_before_them() -> None:
    found = clip_scores(analyze(default_bundle() / "demo" / "clip.mp4", BUNDLE), STUDENT)
    first = found.guesses[0]
    assert first.start_interval_s is not None
    assert first.start_interval_s[0] <= first.start_s <= first.start_interval_s[1]
    assert all(guess.start_interval_s is None for guess in found.guesses[1:])
