"""The state machine of a live source: what leads to which state, and when it is tried again."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from health_owner import CONNECTS_S, LOOK_S, Owner, states, waits

from edge_sdk.capture.player import Fault
from edge_sdk.capture.settings import LiveSettings
from edge_sdk.capture.states import SourceChange


def test_a_source_connects_and_lives() -> None:
    owner = Owner()
    assert owner.changes == [SourceChange(source="rtsp://camera", state="connecting", at_s=1000.0)]
    owner.run("fine", 60.0)
    assert states(owner.changes) == ["connecting", "live"]
    assert len(owner.starts_s) == 1


@pytest.mark.parametrize("doomed", [False, True])
@pytest.mark.parametrize("frozen_s", [5.0, 20.0, 90.0])
def test_a_server_that_freezes(frozen_s: float, doomed: bool) -> None:
    """The fault of the issue; a doomed attempt must end by itself, and one back-off later the next one succeeds."""
    owner = Owner(doomed=doomed)
    owner.live()
    frozen_at_s = owner.now_s
    silent = owner.run("silent", frozen_s)
    assert silent[0].state == "stalled"
    assert silent[0].at_s - frozen_at_s <= 2.5
    assert silent[0].reason.startswith("nothing has come for 2.0 s")
    thawed_at_s = owner.now_s
    (*_, last) = owner.run("fine", 15.0)
    assert last.state == "live"
    assert last.at_s - thawed_at_s <= (5.0 + 2.0 + 0.5 if doomed else 2.0 + 0.5)


def test_waits_of_an_outage() -> None:
    owner = Owner()
    owner.live()
    changes = owner.run("breaks", 400.0)
    young = [each for each in changes if each.state == "backoff" and each.at_s - changes[0].at_s < 120.0]
    assert waits(young) == [0.5, 1.0] + [2.0] * (len(young) - 2)
    old = waits(changes)[len(young) :]
    assert old == [4.0, 8.0, 16.0] + [30.0] * (len(old) - 3)
    assert len(old) >= 10
    assert [each.attempt for each in changes if each.state == "connecting"] == list(range(1, len(owner.starts_s)))
    for back, again in itertools.pairwise(changes):
        if back.retry_in_s is not None:
            assert back.retry_in_s - 1e-6 <= again.at_s - back.at_s <= back.retry_in_s + LOOK_S + 1e-6
            assert again.attempt == back.attempt


def test_a_source_that_never_answered() -> None:
    owner = Owner()
    changes = owner.run("silent", 17.5)
    assert states(changes) == ["backoff", "connecting"] * 2 + ["backoff"]
    assert changes[0].reason.startswith("nothing came within 5.0 s")
    assert waits(changes) == [0.5, 1.0, 2.0]
    assert [each.attempt for each in changes] == [2, 2, 3, 3, 4]


def test_refusals_are_not_hammered() -> None:
    owner = Owner()
    changes = owner.run("refuses", 130.0)
    assert waits(changes) == [5.0, 10.0, 20.0, 30.0, 30.0, 30.0, 30.0]
    assert changes[0].reason == "it refuses"
    owner.run("fine", 45.0)
    assert owner.health.state == "live"
    assert waits(owner.run("refuses", 1.0)) == [5.0]


def test_a_picture_and_then_death_is_one_outage() -> None:
    owner = Owner()
    changes = owner.run("once", 600.0)
    assert "live" in states(changes)
    assert waits(changes)[-5:] == [30.0] * 5
    assert len([s for s in owner.starts_s if s > 1300.0]) <= 300 / 30 + 1


@pytest.mark.parametrize(("live_s", "wait_s", "attempt"), [(9.9, 2.0, 5), (10.2, 0.5, 1)])
def test_an_outage_is_over_after_ten_seconds_of_pictures(live_s: float, wait_s: float, attempt: int) -> None:
    owner = Owner()
    owner.run("breaks", 4.3)
    assert states(owner.run("fine", 3.0))[-1] == "live"
    owner.run("fine", owner.changes[-1].at_s + live_s - owner.now_s)
    (change,) = owner.run("breaks", 0.1)
    assert (change.retry_in_s, change.attempt) == (wait_s, attempt)


def test_an_attempt_alone_settles_nothing() -> None:
    """With a patient stall timeout one picture keeps a source live for long, but it is one picture only."""
    owner = Owner(LiveSettings(stall_timeout_s=30.0))
    owner.run("breaks", 4.3)
    while owner.health.state != "live":
        owner.run("fine", LOOK_S)
    owner.run("silent", 20.0)
    assert waits(owner.run("breaks", 0.1)) == [2.0]


def test_units_without_pictures_are_told_from_silence() -> None:
    owner = Owner()
    changes = owner.run("units", 6.0)
    assert changes[0].reason.startswith("4.8 s of encoded units came but no picture: the decoder refuses")
    owner.live()
    (stalled, *_) = owner.run("units", 2.5)
    assert stalled.reason.startswith("no picture for 2.0 s although encoded units come")


def test_hangs_are_counted_until_the_source_is_well_again() -> None:
    owner = Owner()
    owner.live()
    owner.run("silent", 4.0)
    assert owner.health.hangs == 0
    owner.live()
    owner.run("units", 4.0)
    assert owner.health.hangs == 1
    owner.run("fine", 60.0)
    assert owner.health.hangs == 0


def test_an_attempt_that_saw_units_earns_the_next_one_more_time() -> None:
    """A camera with a keyframe every 12 s, joined just after one."""
    owner = Owner()
    owner.run("units", 60.0)
    steps = [step for step in itertools.pairwise(owner.changes) if step[0].state == "connecting"]
    assert [round(after.at_s - before.at_s) for before, after in steps] == [5, 10, 20, 20]
    owner.live()
    owner.run("units", 3.0)
    assert owner.health.state == "connecting"
    began_s = owner.changes[-1].at_s
    assert owner.run("units", 6.0)[0].at_s - began_s == pytest.approx(5.0, abs=0.1), "a live source begins anew"


def test_a_slow_stop_delays_the_next_start() -> None:
    owner = Owner(stop_s=3.0)
    owner.live()
    (stalled, backoff) = owner.run("silent", 5.3)
    assert (stalled.state, backoff.state) == ("stalled", "backoff")
    assert backoff.at_s - stalled.at_s == pytest.approx(3.0, abs=2 * LOOK_S)
    owner.live()
    (broken, again) = owner.run("breaks", 3.15)
    assert (broken.retry_in_s, again.state) == (0.5, "connecting")
    assert again.at_s - broken.at_s == pytest.approx(3.0, abs=2 * LOOK_S)


def test_a_build_that_fails() -> None:
    owner = Owner()
    assert owner.health.tick(1000.0) == "start"
    owner.health.fault(1000.0, Fault("no such element"))
    assert owner.health.tick(1000.0) == "stop"
    assert owner.health.tick(1010.0) is None, "nothing begins before the stop is done"
    owner.health.stopped(1010.0)
    assert owner.health.tick(1010.0) == "start"


def test_late_reports_change_nothing() -> None:
    owner = Owner(stop_s=1.0)
    owner.live()
    owner.run("breaks", 0.1)
    before = list(owner.changes)
    owner.health.picture(owner.now_s, 1)
    owner.health.unit(owner.now_s)
    owner.health.fault(owner.now_s, Fault("again"))
    assert owner.changes == before


def test_time_in_which_nobody_looked_proves_no_silence() -> None:
    """A program that was suspended: pictures are there as soon as it looks again."""
    owner = Owner()
    for jump_s in (3.0, 60.0, 86400.0):
        owner.live()
        owner.now_s += jump_s
        assert owner.run("silent", 0.9) == []
        assert owner.run("fine", 20.0) == []


def test_a_camera_that_died_during_a_jump_is_noticed() -> None:
    owner = Owner()
    owner.live()
    owner.now_s += 3600.0
    looked_at_s = owner.now_s
    (stalled, *_) = owner.run("silent", 3.0)
    assert stalled.at_s - looked_at_s <= 2.5


def test_a_jump_ends_a_back_off_and_no_attempt() -> None:
    owner = Owner()
    owner.run("refuses", 1.0)
    owner.now_s += 3600.0
    assert states(owner.run("fine", 1.0)) == ["connecting", "live"]
    owner = Owner()
    owner.run("silent", 1.0)
    owner.now_s += 3600.0
    assert states(owner.run("fine", 1.0)) == ["live"]


def test_an_end() -> None:
    owner = Owner()
    owner.live()
    owner.health.end(owner.now_s, "closed")
    owner.health.end(owner.now_s, "again")
    assert owner.health.state == "ended"
    assert owner.health.tick(owner.now_s) == "stop"
    owner.health.picture(owner.now_s, 1)
    owner.health.stopped(owner.now_s)
    assert owner.health.tick(owner.now_s + 100.0) is None
    assert states(owner.changes) == ["live", "ended"]


def test_an_end_before_the_first_start_and_one_in_a_back_off_order_nothing() -> None:
    owner = Owner()
    owner.health.end(owner.now_s)
    assert owner.health.tick(owner.now_s) is None
    owner = Owner()
    owner.run("breaks", 0.3)
    owner.health.end(owner.now_s)
    assert owner.run("fine", 60.0) == []


def check_rate(starts_s: list[float]) -> None:
    """At most one start each half second; two minutes of the quickest waits hold 0.5 + 1 + 58 * 2 s."""
    assert all(after - before >= 0.5 - 1e-6 for before, after in itertools.pairwise(starts_s))
    for place, first_s in enumerate(starts_s):
        assert len([each for each in starts_s[place:] if each < first_s + 120.0]) <= 62


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_it_lives_again(seed: int) -> None:
    """Random faults for minutes; the owner checks every step, and when they end one back-off is enough."""
    random = np.random.default_rng(seed)
    owner = Owner(stop_s=float(random.choice([0.0, 0.3, 2.0])), doomed=bool(random.integers(2)))
    kinds = ["fine", "same", "uncounted", "units", "silent", "breaks", "refuses", "once"]
    weights = random.dirichlet(np.ones(len(kinds)))
    for _ in range(int(random.integers(5, 40))):
        if random.random() < 0.05:
            owner.now_s += float(random.exponential(100.0))
        owner.run(
            str(random.choice(kinds, p=weights)),
            float(random.exponential(8.0)),
            look_s=float(random.uniform(0.03, 0.3)),
        )
    check_rate(owner.starts_s)
    ended_s, state, last = owner.now_s, owner.health.state, owner.changes[-1]
    owner.run("fine", 65.0)
    assert owner.health.state == "live"
    assert owner.health.last.at_s - ended_s <= allowed_s(owner, state, last, ended_s)
    assert owner.run("fine", 60.0) == []


def allowed_s(owner: Owner, state: str, last: SourceChange, ended_s: float) -> float:
    """How long after the last fault a source may take to live: what is left of the attempt, one back-off, one start."""
    spare_s = owner.stop_s + CONNECTS_S + 3 * LOOK_S
    if state == "backoff":
        return max(0.0, last.at_s + (last.retry_in_s or 0.0) - ended_s) + spare_s
    attempt_s = 20.0 if state == "connecting" else 2.0
    return attempt_s + 30.0 + spare_s if owner.doomed or state == "stalled" else spare_s


@pytest.mark.parametrize("camera", ["silent", "breaks", "once"])
def test_a_feed_is_ready_again_at_once_however_long_it_has_paused(camera: str) -> None:
    """There is no camera to be spared, and a picture that is pushed during a wait is lost."""
    owner = Owner(fed=True)
    owner.live()
    changes = owner.run(camera, 900.0)
    assert set(waits(changes)) == {0.5}
    (*_, last) = owner.run("fine", 1.0)
    assert last.state == "live"


def test_a_feed_s_pipeline_that_cannot_be_built_is_tried_ever_more_rarely() -> None:
    owner = Owner(fed=True)
    assert waits(owner.run("refuses", 130.0)) == [5.0, 10.0, 20.0, 30.0, 30.0, 30.0, 30.0]
