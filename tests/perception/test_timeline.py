"""The timeline against score traces whose truth is known by construction."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from timeline_student import DELAY, POINT, RATE_HZ, student

from edge_sdk.bundle.manifest import OperatingPoint, Residual, Student
from edge_sdk.errors import BundleError
from edge_sdk.events import FOLLOWS
from edge_sdk.perception.boundaries import estimate, heat_peak
from edge_sdk.perception.timeline import HISTORY_S, FrameScores, Timeline, TimelineUpdate

# Whose fits pull the boundaries across each other.
CROSSING = msgspec.structs.replace(
    POINT,
    pre_crash_start=Residual(shift_s=0.9, lo_s=-0.1, hi_s=0.1),
    crash_start=Residual(shift_s=0.3, lo_s=-0.1, hi_s=0.1),
    crash_end=Residual(shift_s=-0.4, lo_s=-0.1, hi_s=0.1),
)
TIGHT = msgspec.structs.replace(POINT, crash_start=Residual(lo_s=-0.05, hi_s=0.05))


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


@pytest.mark.parametrize("lingers_s", [2.5, 6.0, 50.0])
def test_a_crash_that_confirms_an_event_after_long_begins_where_it_does(lingers_s: float) -> None:
    """The score lies between opening (0.35) and confirming (0.5) before it, with some heat all along."""
    crash_s, heat = 4.0 + lingers_s, np.random.default_rng(1).uniform(0.0, 0.3, 1000)
    scores = trace(crash_s + 8, [(crash_s - 1.0, crash_s, crash_s + 2.0)])
    timeline, found = Timeline(student()), list[tuple[float, TimelineUpdate]]()
    for row, noise in zip(scores, map(float, heat), strict=False):
        shown = row._replace(crash=max(row.crash, 0.4 if row.time_s > 4.0 else 0.0), start=max(row.start, noise))
        if row.time_s > crash_s + 2.0:
            shown = row
        found += [(row.time_s, update) for update in timeline.push(shown)]
    assert [update.state for _, update in found] == ["provisional", "confirmed", "refined", "closed"]
    for _, update in found[1:]:
        start, pre = update.timeline.crash_start, update.timeline.pre_crash_start
        assert start is not None
        assert pre is not None
        assert start.t == pytest.approx(crash_s, abs=0.11)
        assert start.lo <= crash_s <= start.hi
        assert pre.t == pytest.approx(crash_s - 1.0, abs=0.06)
    assert found[2][0] >= crash_s + DELAY / RATE_HZ


def test_a_crash_that_is_confirmed_long_after_its_start_keeps_it() -> None:
    """Its heat was seen at the start, and the score rises once more four seconds later."""
    scores = trace(16, [(3.0, 4.0, 10.0)], level=0.45)
    raised = [row._replace(crash=0.9) if 8.0 <= row.time_s <= 10.0 else row for row in scores]
    last = run(raised)[-1]
    assert last.state == "closed"
    assert last.timeline.crash_start is not None
    assert last.timeline.crash_start.t == pytest.approx(4.0, abs=0.06)


def test_until_the_heat_is_seen_the_interval_holds_a_start_before_the_scores_rose() -> None:
    scores = trace(12, [(3.0, 4.3, 6.1)])
    late = [row._replace(crash=0.02) if row.time_s < 4.6 else row for row in scores]
    updates = run(late, TIGHT)
    early = [u.timeline.crash_start for u in updates if u.state in ("provisional", "confirmed") and u.timeline]
    assert [start.t for start in early if start] == [4.6, 4.6]
    assert all(start.lo <= 4.3 <= start.hi for start in early if start)
    refined = updates[2].timeline.crash_start
    assert refined is not None
    assert refined.hi - refined.lo == pytest.approx(0.1, abs=0.002)


@pytest.mark.parametrize(("heat_s", "lo_s"), [(None, 4.2), (3.7, 3.65)], ids=["to come", "seen"])
def test_the_early_interval_reaches_back_to_where_the_heat_may_yet_be_highest(
    heat_s: float | None, lo_s: float
) -> None:
    """Opened at 4.7 s, when the heat of up to 4.2 s has come: from there on it may still rise."""
    scores = trace(12, [(3.0, 4.6, 6.1)])
    heat = np.zeros(len(scores)) if heat_s is None else bump(np.arange(len(scores)) / RATE_HZ, heat_s + DELAY / RATE_HZ)
    opened = run([row._replace(start=float(at)) for row, at in zip(scores, heat, strict=True)], TIGHT)[0]
    assert opened.state == "provisional"
    assert opened.timeline.crash_start is not None
    assert opened.timeline.crash_start.lo == pytest.approx(lo_s, abs=0.01)


def test_until_the_heat_is_seen_the_interval_holds_all_that_was_seen_since_the_scores_rose() -> None:
    scores = trace(12, [(3.0, 4.6, 6.1)])
    early = [row._replace(crash=max(row.crash, 0.4)) if row.time_s >= 4.0 else row for row in scores]
    confirmed = next(u.timeline.crash_start for u in run(early, TIGHT) if u.state == "confirmed")
    assert confirmed is not None
    assert confirmed.t == 4.0
    # Of 3 frames, which are 0.4 before the crash, the first of the crash lifts the mean over 0.5.
    assert confirmed.hi == 4.6


@pytest.mark.parametrize(
    ("length_s", "crash", "begins_s"), [(12.0, (3.8, 4.3, 4.6), 4.6), (6.1, (5.4, 5.9, 9.0), 6.1)], ids=["whole", "cut"]
)
def test_boundaries_stay_in_order_when_their_fits_would_cross_them(
    length_s: float, crash: tuple[float, float, float], begins_s: float
) -> None:
    """By its fit the start is 0.3 s later than seen, but never behind the clip's end."""
    unheated = [row._replace(start=0.0) for row in trace(length_s, [crash])]
    last = run(unheated, CROSSING)[-1]
    assert last.state == "closed"
    for each in (last.timeline.pre_crash_start, last.timeline.crash_start, last.timeline.crash_end):
        assert each is not None
        assert each.t == pytest.approx(begins_s)
        assert each.lo <= each.t <= each.hi


def test_two_crashes_are_two_events() -> None:
    updates = run(trace(25, [(3.0, 4.0, 6.0), (14.0, 15.0, 17.0)]))
    starts = [u.timeline.crash_start.t for u in updates if u.state == "closed" and u.timeline.crash_start]
    assert starts == pytest.approx([4.0, 15.0], abs=0.06)


IDLING = 0.3
IDLE_S = 7200.0


def events_of(scores: list[FrameScores]) -> list[list[tuple[float, TimelineUpdate]]]:
    """The updates of each event, each with the time of the newest frame."""
    timeline, found = Timeline(student()), list[tuple[float, TimelineUpdate]]()
    for row in scores:
        found += [(row.time_s, update) for update in timeline.push(row)]
    found += [(scores[-1].time_s, update) for update in timeline.flush()]
    first = [place for place, (_, update) in enumerate(found) if update.state == "provisional"]
    return [found[begin:end] for begin, end in zip(first, [*first[1:], len(found)], strict=True)]


def idling_after(scores: list[FrameScores], from_s: float, level: float = IDLING) -> list[FrameScores]:
    return [row._replace(crash=max(row.crash, level)) if row.time_s >= from_s else row for row in scores]


def test_a_crash_ten_quiet_minutes_after_another_is_an_event_of_its_own() -> None:
    scores = trace(620, [(4.0, 5.0, 8.0), (607.0, 608.0, 611.0)])
    first, second = events_of(scores)
    for event, start_s in ((first, 5.0), (second, 608.0)):
        assert [update.state for _, update in event] == ["provisional", "confirmed", "refined", "closed"]
        start = event[-1][1].timeline.crash_start
        assert start is not None
        assert start.t == pytest.approx(start_s, abs=0.06)


@pytest.mark.parametrize("idling", [0.22, IDLING, 0.45], ids=["release", "below opening", "above opening"])
def test_a_score_that_stays_raised_after_a_crash_hides_no_later_crash(idling: float) -> None:
    """It idles between closing (0.2) and confirming (0.5), as in rain, below and above opening (0.35)."""
    starts_s = (5.0, 3000.0, 7000.0)
    crashes = [(start_s - 1.0, start_s, start_s + 3.0) for start_s in starts_s]
    events = events_of(idling_after(trace(IDLE_S, crashes), 8.0, idling))
    assert len(events) == len(starts_s)
    for event, start_s in zip(events, starts_s, strict=True):
        assert [update.state for _, update in event] == ["provisional", "confirmed", "refined", "closed"]
        confirmed_s, closed_s = event[1][0], event[3][0]
        assert confirmed_s == pytest.approx(start_s + 0.2, abs=0.21)
        assert closed_s - confirmed_s == pytest.approx(60.0, abs=0.11)
        for _, update in event:
            start, pre = update.timeline.crash_start, update.timeline.pre_crash_start
            assert start is not None
            assert pre is not None
            assert start.t == pytest.approx(start_s, abs=0.11)
            assert pre.t == pytest.approx(start_s - 1.0, abs=0.06)


def test_a_score_that_stays_high_for_hours_is_one_event() -> None:
    """The next one needs a fall below confirming, and no fall below closing."""
    high = idling_after(trace(IDLE_S, []), 5.0, 0.99)
    (event,) = events_of(high)
    assert [update.state for _, update in event] == ["provisional", "confirmed", "refined", "closed"]
    assert event[-1][0] == pytest.approx(65.0, abs=0.4)
    dipping = [row._replace(crash=IDLING) if 4000.0 <= row.time_s < 4002.0 else row for row in high]
    _, later = events_of(dipping)
    assert later[1][0] == pytest.approx(4002.1, abs=0.11)


def test_a_score_that_falls_after_the_limit_opens_the_next_event_at_its_first_level() -> None:
    """A flicker that stays below confirming opens an event only once the score has been below closing."""
    flicker = [row._replace(crash=0.02 if row.time_s > 200.0 else row.crash) for row in trace(300, [])]
    scores = idling_after(trace(200, [(4.0, 5.0, 8.0)]), 8.0) + flicker[2000:]
    raised = [row._replace(crash=0.45) if row.time_s % 100.0 > 90.0 else row for row in scores]
    first, second = events_of(raised)
    assert [update.state for _, update in first][-1] == "closed"
    assert [update.state for _, update in second] == ["provisional", "rejected"]
    assert second[0][0] == pytest.approx(290.2, abs=0.11)


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


@pytest.mark.parametrize("point", [POINT, CROSSING], ids=["plain", "crossing"])
@pytest.mark.parametrize("seed", range(30))
def test_noise_never_breaks_the_promises(seed: int, point: OperatingPoint) -> None:
    """Any scores at all: states follow the life cycle, boundaries are ordered and lie in their intervals."""
    rng = np.random.default_rng(seed)
    smooth = np.clip(np.cumsum(rng.normal(0, 0.15, (300, 4)), axis=0) % 1.0, 0, 1)
    scores = [FrameScores(index / RATE_HZ, *map(float, row)) for index, row in enumerate(smooth)]
    state = None
    for update in run(scores, point):
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
