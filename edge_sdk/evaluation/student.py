"""The student as a scorer: the whole device path from file to event, judged like any other scorer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_sdk.analysis import AnalysedClip, analyze
from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest import Student
from edge_sdk.evaluation.scorer import ClipScores, Guess
from edge_sdk.events import Event
from edge_sdk.perception.boundaries import CENTROID_FRAMES, END_FLOOR, estimate, heat_peak
from edge_sdk.perception.recogniser import student_of


class StudentScorer:
    """Analyses a clip with the student of `bundle`."""

    name = "student"

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._student = student_of(bundle)

    def __call__(self, path: Path) -> ClipScores:
        """Score the clip at `path`. Raises `SourceError` for a clip that cannot be read."""
        return clip_scores(analyze(path, self._bundle), self._student)


def clip_scores(found: AnalysedClip, student: Student) -> ClipScores:
    """Convert an analysis to `ClipScores`; the guesses are its events, best first, then the hottest starts."""
    events = [event for event in found.analysis.events if event.state != "rejected"]
    events.sort(key=lambda event: event.score, reverse=True)
    return ClipScores(
        frame_times_s=np.array([row.time_s for row in found.scores]),
        crash=np.array([row.crash for row in found.scores]),
        score=found.analysis.crash.score,
        guesses=(*filter(None, map(guess_of, events)), *hottest_starts(found, student)),
        alarms_s=found.alarms_s,
    )


def guess_of(event: Event) -> Guess | None:
    """Convert an event to a guess; None if it has no start yet."""
    start, end = event.timeline.crash_start, event.timeline.crash_end
    if start is None:
        return None
    return Guess(start_s=start.t, start_interval_s=(start.lo, start.hi), end_s=None if end is None else end.t)


def hottest_starts(found: AnalysedClip, student: Student) -> list[Guess]:
    """Return guesses at the frames with the highest start heat, hottest first, for clips without an event.

    Like an event, each ends at the clear peak of the end heat after it, or else with the clip.
    """
    rows, end = found.scores, student.operating_point.crash_end
    if not rows:
        return []
    delay_s, over_s = student.heat_delay_frames / student.rate_hz, rows[-1].time_s + 1 / student.rate_hz
    heat = [(row.time_s - delay_s, row.end) for row in rows]
    # For each frame, the one with the highest end heat from there on.
    highest = list(range(len(heat)))
    for number in reversed(range(len(heat) - 1)):
        if heat[highest[number + 1]][1] > heat[number][1]:
            highest[number] = highest[number + 1]

    def guess(number: int) -> Guess:
        after = number + 1
        top = highest[min(after, len(heat) - 1)]
        peak_s = heat_peak(heat[max(after, top - CENTROID_FRAMES) : top + CENTROID_FRAMES + 1], END_FLOOR)
        start_s = max(0.0, heat[number][0])
        end_s = over_s if peak_s is None else estimate(peak_s, end, over_s).t
        return Guess(start_s=start_s, end_s=max(end_s, start_s))

    return [guess(number) for number in sorted(range(len(rows)), key=lambda each: -rows[each].start)]
