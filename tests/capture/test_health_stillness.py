"""A picture that has frozen is rebuilt for; a scene in which nothing moves is left alone."""

from __future__ import annotations

import pytest
from health_owner import CONNECTS_S, LOOK_S, Owner, states

from edge_sdk.capture.settings import LiveSettings


def test_a_frozen_picture_is_rebuilt_for() -> None:
    owner = Owner()
    for _ in range(3):
        owner.live()
        changes = owner.run("same", 10.5)
        assert states(changes) == ["stalled", "backoff"]
        assert changes[0].reason == "the same picture for 10 s"
    assert owner.health.warnings == ()


@pytest.mark.parametrize("settings", [LiveSettings(), LiveSettings(frozen_timeout_s=None)])
def test_a_still_scene_is_left_alone(settings: LiveSettings) -> None:
    owner = Owner(settings)
    rebuilds = int(settings.frozen_timeout_s is not None)
    owner.run("same", 600.0)
    assert len(owner.starts_s) == 1 + rebuilds
    assert owner.health.state == "live"
    assert len(owner.health.warnings) == rebuilds
    assert all("treated as a still scene" in text for text in owner.health.warnings)
    owner.run("fine", 2.0)
    owner.run("same", 600.0)
    assert len(owner.starts_s) == 1 + 2 * rebuilds, "it has moved: once more"
    assert len(owner.health.warnings) == rebuilds, "but it is said once"


def test_a_quiet_street_is_rebuilt_ever_more_rarely() -> None:
    owner = Owner()
    for _ in range(60):
        owner.run("same", 60.0)
        owner.run("fine", 2.0)
    assert len(owner.starts_s) == 1 + 3, "after 10, 20 and 40 s of one picture"


def test_a_rebuild_that_helps_leaves_the_timeout_as_it_is() -> None:
    owner = Owner()
    owner.run("fine", 30.0)
    for number in range(1, 4):
        frozen_at_s = owner.now_s
        while len(owner.starts_s) == number:
            owner.run("same", 0.1)
        assert owner.starts_s[-1] - frozen_at_s < 12.5
        owner.run("fine", 30.0)


def test_a_still_scene_is_left_alone_across_other_faults() -> None:
    owner = Owner()
    owner.run("same", 60.0)
    owner.run("breaks", 3.0)
    changes = owner.run("same", 300.0)
    assert states(changes) == ["connecting", "live"]


def test_a_still_scene_renewed_by_keyframes_is_left_alone() -> None:
    """Each keyframe codes the parked street a little differently: two pictures, then nothing new for 12 s."""
    owner = Owner()
    while owner.now_s < 1600.0:
        owner.now_s += LOOK_S
        if owner.up_s is not None and owner.now_s - owner.up_s >= CONNECTS_S:
            owner.health.picture(owner.now_s, int(owner.now_s / 12) * 10 + min(2, int(owner.now_s % 12 / 0.1)))
        owner.look("units")
    assert len(owner.starts_s) == 2
    assert owner.health.state == "live"


def test_the_same_picture_before_and_after_a_fault_is_not_frozen() -> None:
    owner = Owner()
    owner.live()
    for _ in range(3):
        owner.run("same", 6.0)
        owner.run("breaks", 0.1)
    assert "stalled" not in states(owner.changes)


def test_pictures_that_nobody_took_are_not_frozen() -> None:
    owner = Owner()
    owner.run("uncounted", 120.0)
    assert states(owner.changes) == ["connecting", "live"]
