"""Per-frame scores in, a crash timeline out: causal, one incident at a time.

Opening and closing follow the running mean of the crash score with hysteresis; boundaries come from the start and end
heat, which the student gives `heat_delay_frames` frames after the one that they speak of, whatever the rate. A first
estimate therefore leaves at once (`provisional`, `confirmed`) and is revised when the heat around it has been seen
(`refined`, `closed`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from edge_sdk.bundle.manifest import OperatingPoint, Student
from edge_sdk.errors import BundleError
from edge_sdk.events.record import CrashTimeline, State
from edge_sdk.perception.boundaries import CENTROID_FRAMES, estimate, heat_peak, in_order, widened
from edge_sdk.types import Estimate

COLUMNS = ("crash", "pre_crash", "start", "end")

# Windows of the event decoder, seconds. They bound how far a boundary may lie from what opened the event; the
# operating point's residuals, fitted on validation clips, carry the error they leave.
HISTORY_S = 20.0
START_BEFORE_S = 1.5
START_AFTER_S = 0.7
QUIET_REJECT_S = 0.5
QUIET_CLOSE_S = 1.0
REFRACTORY_S = 2.0
PRE_CRASH_LIMIT_S = 6.0
PRE_CRASH_GAP_S = 0.4


class FrameScores(NamedTuple):
    """Scores of one frame, probabilities; `start` and `end` speak of the instant `heat_delay_frames` earlier."""

    time_s: float
    crash: float
    pre_crash: float
    start: float
    end: float


class TimelineUpdate(NamedTuple):
    """What an incident has become: its state, its boundaries so far, its highest running-mean score (raw)."""

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
        # By time and not by count: rounds with live sources may come at another rate than the student's.
        self._history: deque[FrameScores] = deque()
        # Of each frame in the history the instant that its heat speaks of.
        self._heat_s: deque[float] = deque()
        self._last_s: deque[float] = deque(maxlen=student.heat_delay_frames + 1)
        self._recent: deque[float] = deque(maxlen=self._point.confirm_frames)
        self._state: State | None = None
        self._closed_at_s = -REFRACTORY_S
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
        updates: list[TimelineUpdate] = []
        if self._state is None:
            if self._level < self._point.provisional or scores.time_s < self._closed_at_s + REFRACTORY_S:
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
        """Highest running mean of the raw crash score in frames from `since_s` on, of those of the last `HISTORY_S`."""
        recent: deque[float] = deque(maxlen=self._point.confirm_frames)
        highest = 0.0
        for frame in self._history:
            recent.append(frame.crash)
            if frame.time_s >= since_s:
                highest = max(highest, sum(recent) / self._point.confirm_frames)
        return highest

    def flush(self) -> list[TimelineUpdate]:
        """The source has ended, a frame's period after its last frame: close or reject what is open."""
        if self._state is None:
            return []
        return [self._finish(self._history[-1].time_s + self._period_s)]

    def _remember(self, scores: FrameScores) -> None:
        """Keep a frame in the history, and forget those that are older than `HISTORY_S`."""
        self._history.append(scores)
        self._heat_s.append(self._heat_of(scores.time_s))
        # Half a period away from the frames of the student's rate, whose times are rounded.
        oldest_s = scores.time_s - HISTORY_S + self._period_s / 2
        while self._history[0].time_s < oldest_s:
            self._history.popleft()
            self._heat_s.popleft()

    def _heat_of(self, time_s: float) -> float:
        """The instant that the heat of a frame speaks of: when the frame was shown that many frames before it.

        That of the first ones, with too few before them, lies before the stream's first frame.
        """
        self._last_s.append(time_s)
        return self._last_s[0] - self._period_s * (self._delay_frames - len(self._last_s) + 1)

    def _open(self) -> TimelineUpdate:
        self._raised_s = self._rising_edge(self._point.provisional / 2)
        self._coarse_start_s = self._coarse_start(self._point.provisional)
        self._latest_start_s = max(self._raised_s + START_AFTER_S, self._hill_end())
        self._open_peak = 0.0
        self._start_s = None
        self._quiet_since_s = None
        return self._update("provisional")

    def _confirm(self) -> TimelineUpdate:
        self._coarse_start_s = self._coarse_start(self._point.confirm)
        # What confirms an event after it had lingered is a rise with a hill of its own, of which the heat is to come.
        if self._lingered() and self._heat_s[-1] >= self._latest_start_s:
            self._latest_start_s = self._hill_end()
        return self._update("confirmed")

    def _settle(self, now_s: float) -> list[TimelineUpdate]:
        if self._level >= self._point.release:
            self._quiet_since_s = None
            return []
        if self._quiet_since_s is None:
            self._quiet_since_s = now_s
        wait_s = QUIET_REJECT_S if self._state == "provisional" else QUIET_CLOSE_S
        return [self._finish(now_s)] if now_s - self._quiet_since_s >= wait_s else []

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
        """When the scores rose, with all that the start may still turn out to be when its heat has been seen whole.

        The fitted interval is that of the heat's peak. That may be the one so far, or be among the instants of which
        the heat is still to come.
        """
        rose, peak_s = estimate(self._coarse_start_s, self._point.crash_start), self._start_peak(self._coarse_start_s)
        seen = rose if peak_s is None else estimate(peak_s, self._point.crash_start)
        return widened(rose, min(seen.lo, self._heat_s[-1]), self._history[-1].time_s)

    def _fix_start(self) -> None:
        """Settle when the crash began and became foreseeable: a long one outlasts the frames that told of it."""
        self._start_s = self._fine_start()
        self._pre_crash_s = self._pre_crash_start(self._start_s)

    def _rising_edge(self, level: float) -> float:
        """First frame of the run of scores from `level` up that led here, after the incident before."""
        edge_s = self._history[-1].time_s
        for frame in reversed(self._history):
            if frame.crash < level or frame.time_s <= self._closed_at_s:
                break
            edge_s = frame.time_s
        return edge_s

    def _coarse_start(self, level: float) -> float:
        """When the scores rose: of those that had lingered for long, when they rose from there to `level`."""
        return self._rising_edge(level) if self._lingered() else self._raised_s

    def _lingered(self) -> bool:
        """Whether the scores have been raised for longer than the heat's windows around a crash are."""
        return self._history[-1].time_s - self._raised_s > START_BEFORE_S + START_AFTER_S

    def _hill_end(self) -> float:
        """Until when heat is needed to see the hill of a crash whole that begins with the newest frame."""
        return self._history[-1].time_s + CENTROID_FRAMES * self._period_s

    def _fine_start(self) -> float:
        peak_s = self._start_peak(self._raised_s)
        return self._coarse_start_s if peak_s is None else peak_s

    def _start_peak(self, raised_s: float) -> float | None:
        """Peak of the start heat so far, of a crash whose scores have been raised since `raised_s`."""
        low_s, high_s = max(raised_s - START_BEFORE_S, self._closed_at_s), self._latest_start_s
        return heat_peak([(at_s, f.start) for at_s, f in self._heat() if low_s <= at_s <= high_s])

    def _heat(self) -> Iterator[tuple[float, FrameScores]]:
        """Frames of the history by the instants that their heat speaks of."""
        return zip(self._heat_s, self._history, strict=True)

    def _end(self, now_s: float) -> float:
        """Peak of the end heat since the start; without one, the moment the score fell, or now if it has not."""
        start_s = self._coarse_start_s if self._start_s is None else self._start_s
        peak_s = heat_peak([(at_s, f.end) for at_s, f in self._heat() if at_s > start_s])
        if peak_s is not None:
            return peak_s
        return max(start_s, now_s if self._quiet_since_s is None else self._quiet_since_s)

    def _pre_crash_start(self, start_s: float) -> float | None:
        """First frame of the run of pre-crash scores that leads to the start, short gaps forgiven."""
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
