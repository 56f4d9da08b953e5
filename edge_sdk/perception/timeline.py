"""Per-frame scores in, a crash timeline out: causal, one incident at a time.

Incidents open and close by the running mean of the crash score, with hysteresis, and close `LIMIT_S` after their
confirmation at the latest. Boundaries come from the start and end heat, which the student gives `heat_delay_frames`
frames after the frame that it refers to, whatever the rate. So a first estimate is given at once (`provisional`,
`confirmed`), and revised when the heat around it has been seen (`refined`, `closed`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from edge_sdk.bundle.manifest import OperatingPoint, Student
from edge_sdk.errors import BundleError
from edge_sdk.events.record import CrashTimeline, State
from edge_sdk.perception.boundaries import CENTROID_FRAMES, END_FLOOR, estimate, heat_peak, in_order, widened
from edge_sdk.types import Estimate

COLUMNS = ("crash", "pre_crash", "start", "end")

# Windows of the event decoder, seconds. They bound how far a boundary may lie from what opened the event; the
# operating point's residuals, fitted on validation clips, account for the error that remains.
HISTORY_S = 20.0
START_BEFORE_S = 1.5
START_AFTER_S = 0.7
QUIET_REJECT_S = 0.5
QUIET_CLOSE_S = 1.0
REFRACTORY_S = 2.0
# How long a confirmed event may go on, as one by hand: a score that stays raised must neither hide the crashes after it
# nor outlast the ring that clips are saved from. Crashes of the fitted clips are shorter.
LIMIT_S = 60.0
PRE_CRASH_LIMIT_S = 6.0
PRE_CRASH_GAP_S = 0.4


class FrameScores(NamedTuple):
    """Scores of one frame, as probabilities; `start` and `end` refer to the instant `heat_delay_frames` earlier."""

    time_s: float
    crash: float
    pre_crash: float
    start: float
    end: float


class TimelineUpdate(NamedTuple):
    """A revision of an incident: its state, its boundaries so far, its highest running-mean score (raw)."""

    state: State
    timeline: CrashTimeline
    score: float


class Timeline:
    """The event decoder of one stream."""

    def __init__(self, student: Student) -> None:
        if student.scores != COLUMNS:
            raise BundleError(f"student scores must be {COLUMNS}, found {student.scores}")
        self._point: OperatingPoint = student.operating_point
        self._delay_frames = student.heat_delay_frames
        self._period_s = 1 / student.rate_hz
        # Limited by time and not by count: rounds with live sources may come at another rate than the student's.
        self._history: deque[FrameScores] = deque()
        # For each frame in the history, the instant that its heat refers to.
        self._heat_s: deque[float] = deque()
        self._last_s: deque[float] = deque(maxlen=student.heat_delay_frames + 1)
        self._recent: deque[float] = deque(maxlen=self._point.confirm_frames)
        self._state: State | None = None
        self._closed_at_s = -REFRACTORY_S
        self._confirmed_s = 0.0
        # The running mean that opens an event; higher after an event that has reached its limit.
        self._opens_at = self._point.provisional
        self._level = 0.0
        self.peak = 0.0
        self._open_peak = 0.0
        self._raised_s = self._coarse_start_s = self._latest_start_s = 0.0
        self._quiet_since_s: float | None = None
        self._start_s: float | None = None
        self._pre_crash_s: float | None = None

    def push(self, scores: FrameScores) -> list[TimelineUpdate]:
        """Take the next frame's scores, in order of time; returns the revisions that they cause, oldest first."""
        self._remember(scores)
        self._recent.append(scores.crash)
        self._level = sum(self._recent) / self._point.confirm_frames
        self.peak = max(self.peak, self._level)
        self._rearm()
        updates: list[TimelineUpdate] = []
        if self._state is None:
            if self._level < self._opens_at or scores.time_s < self._closed_at_s + REFRACTORY_S:
                return updates
            updates.append(self._open())
        self._open_peak = max(self._open_peak, self._level)
        if self._state == "provisional" and self._level >= self._point.confirm:
            updates.append(self._confirm())
        if self._state == "confirmed" and self._heat_s[-1] >= self._latest_start_s:
            self._fix_start()
            updates.append(self._update("refined"))
        updates.extend(self._settle(scores.time_s))
        return updates

    @property
    def last_s(self) -> float | None:
        """Time of the last frame; None before the first. Any thread may ask."""
        return self._history[-1].time_s if self._history else None

    def level_since(self, since_s: float) -> float:
        """Highest running mean of the raw crash score in frames from `since_s` on, within the last `HISTORY_S`."""
        recent: deque[float] = deque(maxlen=self._point.confirm_frames)
        highest = 0.0
        for frame in self._history:
            recent.append(frame.crash)
            if frame.time_s >= since_s:
                highest = max(highest, sum(recent) / self._point.confirm_frames)
        return highest

    def flush(self) -> list[TimelineUpdate]:
        """Close or reject the open incident, because the source has ended a frame's period after its last frame."""
        if self._state is None:
            return []
        return [self._finish(self._history[-1].time_s + self._period_s)]

    def _remember(self, scores: FrameScores) -> None:
        """Keep a frame in the history, and forget those that are older than `HISTORY_S`."""
        self._history.append(scores)
        self._heat_s.append(self._heat_of(scores.time_s))
        # The limit lies half a period off the frames at the student's rate, so the rounding of their times is harmless.
        oldest_s = scores.time_s - HISTORY_S + self._period_s / 2
        while self._history[0].time_s < oldest_s:
            self._history.popleft()
            self._heat_s.popleft()

    def _heat_of(self, time_s: float) -> float:
        """The instant that a frame's heat refers to: the time of the frame `heat_delay_frames` before it.

        For the first frames, which have too few before them, it lies before the stream's first frame.
        """
        self._last_s.append(time_s)
        return self._last_s[0] - self._period_s * (self._delay_frames - len(self._last_s) + 1)

    def _open(self) -> TimelineUpdate:
        self._raised_s = self._rising_edge(self._point.provisional / 2)
        self._coarse_start_s = self._coarse_start(self._opens_at)
        self._latest_start_s = max(self._raised_s + START_AFTER_S, self._hill_end())
        self._open_peak = 0.0
        self._start_s = None
        self._quiet_since_s = None
        return self._update("provisional")

    def _rearm(self) -> None:
        """Let a new rise open the next event: to `provisional` from below `release`, else to `confirm` from below it.

        This matters after an event that has reached its limit, whose score may stay raised for hours.
        """
        if self._level < self._point.release:
            self._opens_at = self._point.provisional
        elif self._level < self._point.confirm:
            self._opens_at = min(self._opens_at, self._point.confirm)

    def _confirm(self) -> TimelineUpdate:
        self._confirmed_s = self._history[-1].time_s
        self._coarse_start_s = self._coarse_start(self._point.confirm)
        # If the scores had lingered, the rise that confirms the event has its own hill, whose heat is still to come.
        if self._lingered() and self._heat_s[-1] >= self._latest_start_s:
            self._latest_start_s = self._hill_end()
        return self._update("confirmed")

    def _settle(self, now_s: float) -> list[TimelineUpdate]:
        if self._level >= self._point.release:
            self._quiet_since_s = None
            return [self._cut(now_s)] if self._is_too_long(now_s) else []
        if self._quiet_since_s is None:
            self._quiet_since_s = now_s
        wait_s = QUIET_REJECT_S if self._state == "provisional" else QUIET_CLOSE_S
        return [self._finish(now_s)] if now_s - self._quiet_since_s >= wait_s else []

    def _is_too_long(self, now_s: float) -> bool:
        return self._state != "provisional" and now_s - self._confirmed_s >= LIMIT_S

    def _cut(self, now_s: float) -> TimelineUpdate:
        """Close the event although its score is still raised."""
        self._opens_at = math.inf
        self._rearm()
        return self._finish(now_s)

    def _finish(self, now_s: float) -> TimelineUpdate:
        if self._state == "provisional":
            update = self._update("rejected")
        else:
            if self._start_s is None:
                self._fix_start()
            update = self._update("closed", end_s=self._end(now_s), last_s=now_s)
            self._closed_at_s = now_s
        self._state = None
        return update

    def _update(self, state: State, *, end_s: float | None = None, last_s: float | None = None) -> TimelineUpdate:
        self._state = state
        if self._start_s is None:
            start, pre_s = self._early_start(), self._pre_crash_start(self._coarse_start_s)
        else:
            start, pre_s = estimate(self._start_s, self._point.crash_start), self._pre_crash_s
        timeline = in_order(self._point, start, pre_s, end_s, last_s)
        return TimelineUpdate(state, timeline, max(self._open_peak, self._level))

    def _early_start(self) -> Estimate:
        """When the scores rose, with an interval that covers every start that the complete heat may still give.

        The fitted interval belongs to the peak of the heat. That peak may be the highest one so far, or lie among the
        instants whose heat is still to come.
        """
        rose, peak_s = estimate(self._coarse_start_s, self._point.crash_start), self._start_peak(self._coarse_start_s)
        seen = rose if peak_s is None else estimate(peak_s, self._point.crash_start)
        return widened(rose, min(seen.lo, self._heat_s[-1]), self._history[-1].time_s)

    def _fix_start(self) -> None:
        """Fix when the crash began and became foreseeable: a long crash outlasts the frames that showed its start."""
        self._start_s = self._fine_start()
        self._pre_crash_s = self._pre_crash_start(self._start_s)

    def _rising_edge(self, level: float) -> float:
        """Time of the first frame in the current run of scores of at least `level`, after the previous incident."""
        edge_s = self._history[-1].time_s
        for frame in reversed(self._history):
            if frame.crash < level or frame.time_s <= self._closed_at_s:
                break
            edge_s = frame.time_s
        return edge_s

    def _coarse_start(self, level: float) -> float:
        """When the scores rose; if they had lingered, when they rose from there to `level`."""
        return self._rising_edge(level) if self._lingered() else self._raised_s

    def _lingered(self) -> bool:
        """Whether the scores have been raised for longer than the heat's windows around a crash."""
        return self._history[-1].time_s - self._raised_s > START_BEFORE_S + START_AFTER_S

    def _hill_end(self) -> float:
        """Until when heat is needed to see the whole hill of a crash that begins with the newest frame."""
        return self._history[-1].time_s + CENTROID_FRAMES * self._period_s

    def _fine_start(self) -> float:
        peak_s = self._start_peak(self._raised_s)
        return self._coarse_start_s if peak_s is None else peak_s

    def _start_peak(self, raised_s: float) -> float | None:
        """Peak of the start heat so far, for a crash whose scores have been raised since `raised_s`."""
        low_s, high_s = max(raised_s - START_BEFORE_S, self._closed_at_s), self._latest_start_s
        return heat_peak([(at_s, f.start) for at_s, f in self._heat() if low_s <= at_s <= high_s])

    def _heat(self) -> Iterator[tuple[float, FrameScores]]:
        """Frames of the history, each with the instant that its heat refers to."""
        return zip(self._heat_s, self._history, strict=True)

    def _end(self, now_s: float) -> float:
        """Peak of the end heat since the start; without a clear one, when the score fell, or `now_s` if it has not."""
        start_s = self._coarse_start_s if self._start_s is None else self._start_s
        peak_s = heat_peak([(at_s, f.end) for at_s, f in self._heat() if at_s > start_s], END_FLOOR)
        if peak_s is not None:
            return peak_s
        return max(start_s, now_s if self._quiet_since_s is None else self._quiet_since_s)

    def _pre_crash_start(self, start_s: float) -> float | None:
        """Time of the first frame in the run of pre-crash scores that leads to the start, ignoring short gaps."""
        first_s: float | None = None
        expected_s = start_s
        for frame in reversed(self._history):
            if frame.time_s > start_s:
                continue
            earliest_s = max(expected_s - PRE_CRASH_GAP_S, start_s - PRE_CRASH_LIMIT_S)
            if frame.time_s < earliest_s or frame.time_s <= self._closed_at_s:
                break
            if frame.pre_crash >= self._point.pre_crash:
                first_s = expected_s = frame.time_s
        return first_s
