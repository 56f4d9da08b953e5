"""The timeline against score traces whose truth is known by construction."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.bundle.manifest import OperatingPoint, Residual, Student
from edge_sdk.errors import BundleError
from edge_sdk.events import FOLLOWS
from edge_sdk.perception.timeline import HISTORY_S, FrameScores, Timeline, TimelineUpdate, estimate, heat_peak

RATE_HZ = 10.0
DELAY = 5
POINT = OperatingPoint(
    provisional=0.35,
    confirm=0.5,
    release=0.2,
    confirm_frames=3,
    crash_start=Residual(lo_s=-0.3, hi_s=0.4),
    crash_end=Residual(lo_s=-0.5, hi_s=0.5),
    pre_crash_start=Residual(lo_s=-0.6, hi_s=0.2),
)


def student(point: OperatingPoint = POINT) -> Student:
    return Student(
        rate_hz=RATE_HZ,
        height=192,
        width=320,
        lags=(1, 3),
        scores=("crash", "pre_crash", "start", "end"),
        heat_delay_frames=DELAY,
        operating_point=point,
    )


def bump(times: NDArray[np.float64], centre_s: float) -> NDArray[np.float64]:
    return 0.9 * np.exp(-((times - centre_s) ** 2) / (2 * 0.2**2))


def trace(
    length_s: float, crashes: list[tuple[float, float, float]], level: float = 0.95, rate_hz: float = RATE_HZ
) -> list[FrameScores]:
    """Scores a perfect student would give for crashes (pre, start, end); its heat comes some frames late."""
    times = np.arange(round(length_s * rate_hz)) / rate_hz
    crash, pre, start, end = (np.full_like(times, 0.02) for _ in range(4))
    for pre_s, start_s, end_s in crashes:
        crash[(times >= start_s) & (times <= end_s)] = level
        pre[(times >= pre_s) & (times < start_s)] = 0.8
        start = np.maximum(start, bump(times, start_s + DELAY / rate_hz))
        end = np.maximum(end, bump(times, end_s + DELAY / rate_hz))
    return [FrameScores(*(float(v) for v in row)) for row in zip(times, crash, pre, start, end, strict=True)]


def run(scores: list[FrameScores], point: OperatingPoint = POINT) -> list[TimelineUpdate]:
    timeline = Timeline(student(point))
    return [update for row in scores for update in timeline.push(row)] + timeline.flush()


def test_a_crash_is_found_where_it_is() -> None:
    updates = run(trace(12, [(3.0, 4.3, 6.1)]))
    assert [u.state for u in updates] == ["provisional", "confirmed", "refined", "closed"]
    last = updates[-1].timeline
    assert last.crash_start is not None
    assert last.crash_end is not None
    assert last.pre_crash_start is not None
    assert last.crash_start.t == pytest.approx(4.3, abs=0.06)
    assert last.crash_end.t == pytest.approx(6.1, abs=0.06)
    assert last.pre_crash_start.t == pytest.approx(3.0, abs=0.06)
    assert last.crash_start.lo == pytest.approx(last.crash_start.t - 0.3)
    assert last.crash_start.hi == pytest.approx(last.crash_start.t + 0.4)


def test_the_first_revision_leaves_before_the_heat_is_seen() -> None:
    timeline = Timeline(student())
    for row in trace(12, [(3.0, 4.3, 6.1)]):
        updates = timeline.push(row)
        if updates:
            assert updates[0].state == "provisional"
            assert row.time_s - 4.3 < DELAY / RATE_HZ
            return
    pytest.fail("no event")


@pytest.mark.parametrize("rate_hz", [5.0, 20.0])
def test_boundaries_are_right_at_another_rate_than_the_students(rate_hz: float) -> None:
    last = run(trace(12, [(3.0, 4.4, 6.2)], rate_hz=rate_hz))[-1].timeline
    assert last.crash_start is not None
    assert last.crash_end is not None
    assert last.crash_start.t == pytest.approx(4.4, abs=0.06)
    assert last.crash_end.t == pytest.approx(6.2, abs=0.06)


def test_frames_that_were_missed_move_no_boundary() -> None:
    """Every round from 4.0 to 5.0 s is missed but one; the student's heat still comes five of its frames late."""
    whole = trace(12, [(2.0, 3.5, 7.0)])
    kept = [row for row in whole if not 4.0 <= row.time_s < 5.0]
    seen = [row.time_s for row in kept]
    late = [(time_s, seen[max(0, index - DELAY)]) for index, time_s in enumerate(seen)]
    start, end = (bump(np.array([about for _, about in late]), at_s) for at_s in (3.5, 7.0))
    last = run([r._replace(start=float(a), end=float(b)) for r, a, b in zip(kept, start, end, strict=True)])[
        -1
    ].timeline
    assert last.crash_start is not None
    assert last.crash_end is not None
    assert last.crash_start.t == pytest.approx(3.5, abs=0.06)
    assert last.crash_end.t == pytest.approx(7.0, abs=0.06)


@pytest.mark.parametrize("lasts_s", [2.0, 14.0, 18.0, 60.0])
def test_a_long_crash_keeps_its_first_sign(lasts_s: float) -> None:
    updates = run(trace(lasts_s + 14, [(2.0, 7.0, 7.0 + lasts_s)]))
    assert [u.state for u in updates] == ["provisional", "confirmed", "refined", "closed"]
    for update in updates:
        assert update.timeline.pre_crash_start is not None
        assert update.timeline.pre_crash_start.t == pytest.approx(2.0, abs=0.06)


def test_the_second_of_two_crashes_takes_nothing_of_the_first() -> None:
    """The first is short and its heat the stronger, and scores linger in between."""
    scores = trace(25, [(3.0, 4.0, 4.3), (11.0, 12.0, 14.0)])
    weak = [r._replace(start=0.6 * r.start, end=0.6 * r.end) if r.time_s > 8.0 else r for r in scores]
    lingering = [r._replace(crash=max(r.crash, 0.19)) if 4.3 < r.time_s < 12.0 else r for r in weak]
    first, second = (u.timeline for u in run(lingering) if u.state == "closed")
    assert first.crash_start is not None
    assert second.crash_start is not None
    assert second.pre_crash_start is not None
    assert first.crash_start.t == pytest.approx(4.0, abs=0.06)
    assert second.crash_start.t == pytest.approx(12.0, abs=0.12)
    assert second.pre_crash_start.t == pytest.approx(11.0, abs=0.06)


def test_scores_that_linger_do_not_join_a_crash_to_the_one_before() -> None:
    """Between closing (0.2) and half of opening (0.175) nothing is a crash, and nothing is quiet either."""
    scores = trace(25, [(3.0, 4.0, 6.0), (13.0, 14.0, 16.0)])
    lingering = [row._replace(crash=max(row.crash, 0.19)) if 6.0 < row.time_s < 14.0 else row for row in scores]
    starts = [u.timeline.crash_start.t for u in run(lingering) if u.state == "closed" and u.timeline.crash_start]
    assert starts == pytest.approx([4.0, 14.0], abs=0.06)


def test_a_crash_after_raised_scores_begins_where_it_does() -> None:
    scores = trace(25, [(13.0, 14.0, 16.0)])
    raised = [row._replace(crash=max(row.crash, 0.3)) if 4.0 < row.time_s < 14.0 else row for row in scores]
    starts = [u.timeline.crash_start.t for u in run(raised) if u.state == "closed" and u.timeline.crash_start]
    assert starts == pytest.approx([14.0], abs=0.06)


def test_two_crashes_are_two_events() -> None:
    updates = run(trace(25, [(3.0, 4.0, 6.0), (14.0, 15.0, 17.0)]))
    starts = [u.timeline.crash_start.t for u in updates if u.state == "closed" and u.timeline.crash_start]
    assert starts == pytest.approx([4.0, 15.0], abs=0.06)


def test_a_short_flicker_is_rejected_once_and_never_confirmed() -> None:
    scores = trace(8, [])
    for index in (40, 41):
        scores[index] = scores[index]._replace(crash=0.7)
    states = [u.state for u in run(scores)]
    assert states == ["provisional", "rejected"]


def test_nothing_happens_in_quiet_traffic() -> None:
    assert run(trace(30, [])) == []


def test_a_crash_cut_by_the_end_of_the_file_closes_there() -> None:
    updates = run(trace(6, [(3.0, 4.5, 9.0)]))
    assert updates[-1].state == "closed"
    end = updates[-1].timeline.crash_end
    assert end is not None
    # The last frame, at 5.9 s, is shown for a period, and so long does a clip's label last.
    assert end.t == end.hi == pytest.approx(6.0)


def test_a_crash_seen_from_the_first_frame() -> None:
    updates = run(trace(6, [(0.0, 0.0, 2.0)]))
    start = updates[-1].timeline.crash_start
    assert start is not None
    assert 0.0 <= start.lo <= start.t <= 0.2


@pytest.mark.parametrize("seed", range(40))
def test_noise_never_breaks_the_promises(seed: int) -> None:
    """Any scores at all: states follow the life cycle, boundaries are ordered and lie in their intervals."""
    rng = np.random.default_rng(seed)
    smooth = np.clip(np.cumsum(rng.normal(0, 0.15, (300, 4)), axis=0) % 1.0, 0, 1)
    scores = [FrameScores(index / RATE_HZ, *map(float, row)) for index, row in enumerate(smooth)]
    state = None
    for update in run(scores):
        assert update.state in FOLLOWS[state]
        state = None if update.state in ("closed", "rejected") else update.state
        found = update.timeline
        for boundary in (found.pre_crash_start, found.crash_start, found.crash_end):
            assert boundary is None or 0 <= boundary.lo <= boundary.t <= boundary.hi
        if found.crash_start and found.crash_end:
            assert found.crash_start.t <= found.crash_end.t
        if found.crash_start and found.pre_crash_start:
            assert found.pre_crash_start.t <= found.crash_start.t


def test_the_student_must_have_the_columns_the_timeline_reads() -> None:
    other = Student(
        rate_hz=10, height=192, width=320, lags=(1,), scores=("crash",), heat_delay_frames=0, operating_point=POINT
    )
    with pytest.raises(BundleError, match="pre_crash"):
        Timeline(other)


def test_heat_peak_is_the_centroid_of_the_hill() -> None:
    times = [0.1 * k for k in range(10)]
    hill = list(zip(times, [0, 0, 0, 0.5, 0.5, 0, 0, 0, 0, 0], strict=True))
    assert heat_peak(hill) == pytest.approx(0.35)
    assert heat_peak([(time_s, 0.01) for time_s in times]) is None
    assert heat_peak([]) is None


def test_an_interval_never_leaves_the_clip() -> None:
    found = estimate(0.1, Residual(lo_s=-0.5, hi_s=0.5), last_s=0.3)
    assert (found.lo, found.t, found.hi) == (0.0, 0.1, 0.3)


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 30.0, 2.0])
def test_scores_are_remembered_for_as_long_at_any_rate(rate_hz: float) -> None:
    """Rounds with live sources may come at another rate than the student's."""
    timeline = Timeline(student())
    for row in trace(HISTORY_S, [(0.0, 1.0, 3.0)], rate_hz=rate_hz):
        timeline.push(row)
    assert timeline.level_since(0.0) == pytest.approx(0.95)
    for row in trace(HISTORY_S + 4.0, [], rate_hz=rate_hz):
        if row.time_s >= HISTORY_S:
            timeline.push(row)
    assert timeline.level_since(0.0) == pytest.approx(0.02)
