"""What the student made of a clip, as answers take it into account."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from scipy.stats import norm
from watched_events import event

from edge_sdk.events import CrashTimeline, State
from edge_sdk.reasoning.sighting import EVEN_SHARE, Sighting, density, sighting_of
from edge_sdk.types import Estimate

START, END = Estimate(t=3.0, lo=2.9, hi=3.3), Estimate(t=4.0, lo=3.5, hi=4.2)


def test_the_closed_event_of_the_highest_score_speaks_on_the_prompt_s_clock() -> None:
    seen = msgspec.structs.replace(
        event("a", "closed"), timeline=CrashTimeline(crash_start=START, crash_end=END), score=0.8
    )
    lower = msgspec.structs.replace(event("b", "closed"), score=0.4)
    found = sighting_of([lower, seen, event("c", "rejected"), event("d"), event("e", "refined")], 0.95, offset_s=0.5)
    assert found is not None
    assert found.score == 0.95
    assert found.start == Estimate(t=3.5, lo=3.4, hi=3.8)
    assert found.end == Estimate(t=4.5, lo=4.0, hi=4.7)


def test_a_student_that_saw_no_crash_says_how_unlikely_one_is() -> None:
    assert sighting_of([], 0.1) == sighting_of([event("a", "rejected")], 0.1) == Sighting(score=0.1)


def test_who_did_not_watch_says_nothing() -> None:
    assert sighting_of(None, 0.3) is None
    assert sighting_of([event("a", "closed")], None) is None


@pytest.mark.parametrize("state", ["provisional", "confirmed", "refined", "rejected"])
def test_an_event_is_evidence_when_the_student_has_seen_the_whole_of_it(state: State) -> None:
    whole = event("a", "closed")
    assert whole.evidence == whole.score
    assert event("a", state).evidence is None
    assert msgspec.structs.replace(whole, trigger="manual").evidence is None
    assert msgspec.structs.replace(whole, calibrated=False).evidence is None


def test_a_density_has_the_student_s_central_80_percent() -> None:
    """Of two normal halves that meet in the middle of an interval of 80 %, a tenth lies beyond either end."""
    times = np.arange(0, 2001)
    found = density(Estimate(t=100.0, lo=90.0, hi=110.0), times, 0, 2000)
    assert found.sum() == pytest.approx(1.0)
    assert found.min() == pytest.approx(EVEN_SHARE / 2001)
    own = found - EVEN_SHARE / 2001
    assert own[times < 900].sum() / own.sum() == pytest.approx(0.1, abs=0.004)
    assert own[times > 1100].sum() / own.sum() == pytest.approx(0.1, abs=0.004)
    lopsided = density(Estimate(t=100.0, lo=98.0, hi=120.0), times, 0, 2000)
    assert int(times[lopsided.argmax()]) == 1000
    assert lopsided[980] == pytest.approx(lopsided[1200], rel=1e-3)


def test_a_density_is_of_the_clip_s_tenths_and_never_zero() -> None:
    times = np.array([5, 12, 40])
    whole = density(START, np.arange(2, 51), 2, 50)
    np.testing.assert_allclose(density(START, times, 2, 50), whole[times - 2])
    far = density(Estimate(t=500.0, lo=499.9, hi=500.1), times, 2, 50)
    np.testing.assert_allclose(far, 1 / 49)
    np.testing.assert_allclose(density(None, times, 2, 50), 1.0)
    sure = density(Estimate(t=3.0, lo=3.0, hi=3.0), np.arange(0, 51), 0, 50)
    assert np.isfinite(sure).all()
    assert sure.argmax() == 30


@pytest.mark.parametrize("t", [4.9, 5.05, 5.3, 6.0, 8.0])
def test_what_lies_beyond_the_clip_is_spread_over_it(t: float) -> None:
    """A student's end behind the last frame that the video LLM saw says little of the frames before."""
    seen = Estimate(t=t, lo=t - 0.2, hi=t + 0.2)
    found = density(seen, np.arange(2, 51), 2, 50)
    assert found.sum() == pytest.approx(1.0)
    share = norm.cdf((5.05 - t) / (0.2 / norm.ppf(0.9))) - norm.cdf((0.15 - t) / (0.2 / norm.ppf(0.9)))
    assert found.min() == pytest.approx((1 - 0.9 * share) / 49, rel=0.02)
