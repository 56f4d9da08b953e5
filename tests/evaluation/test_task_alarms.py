"""False alarms per hour against the chi-squared form of the Poisson interval, and alarms told apart by hand."""

from __future__ import annotations

import pytest
from scipy.stats import chi2

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.tasks.alarms import Watched, detection_delay, false_alarms, poisson_rate


@pytest.mark.parametrize("count", [0, 1, 2, 7, 66, 1000, 5000])
def test_the_interval_is_garwoods(count: int) -> None:
    found = poisson_rate(count, 2.0)
    low = chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    assert found.per_hour == count / 2
    assert (found.lo, found.hi) == pytest.approx((low / 2, chi2.ppf(0.975, 2 * count + 2) / 4), rel=1e-9)


def test_silence_in_ten_minutes_still_leaves_22_an_hour() -> None:
    found = poisson_rate(0, 1 / 6)
    assert (found.per_hour, found.lo) == (0.0, 0.0)
    assert found.hi == pytest.approx(22.13, abs=0.01)


def test_without_footage_there_is_no_rate() -> None:
    assert poisson_rate(0, 0.0).per_hour is None
    with pytest.raises(ConfigError, match="at least 0"):
        poisson_rate(-1, 1.0)


def test_what_counts_as_footage_without_a_crash() -> None:
    clips = [
        Watched(duration_s=600.0, alarms_s=(10.0, 20.0), claimed=True),
        Watched(duration_s=300.0, alarms_s=None, claimed=True),
        Watched(duration_s=300.0, alarms_s=None, claimed=False),
        # The sign at 20 s: alarms count for the crash from 18.5 s on, one before is false.
        Watched(duration_s=60.0, alarms_s=(5.0, 19.0), claimed=True, crash_s=22.0, sign_s=20.0),
        Watched(duration_s=60.0, alarms_s=None, claimed=True, crash_s=22.0, sign_s=20.0),
        # The labelled crash lies behind the end of the clip.
        Watched(duration_s=10.0, alarms_s=(), claimed=False, crash_s=40.0),
    ]
    found = false_alarms(clips)
    assert found.count == 4
    assert found.hours * 3600 == pytest.approx(600 + 300 + 300 + 18.5 + 10)


def test_delay_is_that_of_the_first_alarm_in_time() -> None:
    def crash(*alarms_s: float) -> Watched:
        return Watched(duration_s=30.0, alarms_s=alarms_s, claimed=True, crash_s=10.0)

    found = detection_delay([crash(10.5, 11.0), crash(9.0), crash(3.0), crash(12.5), crash(5.0, 12.0)])
    assert found is not None
    assert (found.recall.hits, found.recall.n) == (3, 5)
    assert found.median_s == pytest.approx(0.5)
    assert detection_delay([Watched(duration_s=9.0, alarms_s=None, claimed=True, crash_s=1.0)]) is None
