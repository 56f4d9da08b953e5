"""Effects: drawn as often as declared, clear of the incident, and visible in the frames."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edge_sdk.calibration.scenes.cameras import Shake
from edge_sdk.calibration.scenes.effects import EFFECT_SHARES, Front, Glare, Knock, Tricks, Wiper, draw_tricks
from edge_sdk.calibration.scenes.streams import stream

SIZE = (64, 48)


def drawn(count: int, incident_s: float) -> list[Tricks]:
    return [draw_tricks(stream(seed, "tricks"), "dashcam", 8.0, incident_s) for seed in range(count)]


def test_effects_are_as_frequent_as_declared() -> None:
    # So late an incident leaves room for every freeze and cut.
    found = Counter(effect for tricks in drawn(3000, 7.5) for effect in tricks.effects)
    for effect, share in EFFECT_SHARES.items():
        assert found[effect] / 3000 == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("incident_s", [1.3, 3.0, 5.0, 7.4])
def test_freezes_and_cuts_keep_away_from_the_incident(incident_s: float) -> None:
    for tricks in drawn(400, incident_s):
        if tricks.freeze_s is not None:
            assert tricks.freeze_s[1] < incident_s - 2.0 or tricks.freeze_s[0] > incident_s + 1.0
        if tricks.cut_s is not None:
            assert tricks.cut_s < incident_s - 2.0


def test_a_frozen_file_shows_one_frame_and_then_goes_on() -> None:
    tricks = Tricks(freeze_s=(1.0, 1.5))
    assert [tricks.shown_frame(index, 10.0) for index in (9, 10, 12, 14, 15)] == [9, 10.0, 10.0, 10.0, 15]


def test_a_knock_nods_the_camera_from_its_time_on() -> None:
    shake = Tricks(knocks=(Knock(at_s=1.0, strength_rad=0.03, tone_hz=5.0),)).knocked(Shake(np.zeros((150, 4))))
    assert np.abs(shake.rows[:50]).max() == 0.0
    assert 0.015 < np.abs(shake.rows[50:, 1]).max() <= 0.03


def test_glare_brightens_and_wipers_darken() -> None:
    grey = np.full((SIZE[1], SIZE[0], 3), 0.4, np.float32)
    glare = Glare(at_s=1.0, lasts_s=2.0, strength=1.0, u=0.5, v=0.5, drift_per_s=0.0)
    blinded = Front(Tricks(glares=(glare,)), SIZE)
    assert np.array_equal(blinded.over(grey, 0.5, 1.0), grey)
    assert blinded.over(grey, 2.0, 1.0)[24, 32].min() > 1.2
    wiped = Front(Tricks(wiper=Wiper(period_s=1.0, phase_s=0.0, swing_s=0.6)), SIZE)
    assert wiped.over(grey, 0.3, 1.0).min() < 0.2
    assert np.array_equal(wiped.over(grey, 0.8, 1.0), grey)
