"""Labels to per-frame targets, worked out by hand on a ten-frames-a-second clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.clips import LabelledClip
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.recipe import Pictures, Targets
from edge_sdk.export.distil.targets import (
    ACTORS,
    CRASH,
    END,
    FLOW,
    MAP_HEIGHT,
    MAP_WIDTH,
    PRE_CRASH,
    START,
    frame_maps,
    frame_targets,
)

TIMES = np.arange(60) / 10
PICTURES = Pictures(rate_hz=10.0, height=64, width=96, lags=(1, 3))
TARGETS = Targets(heat_delay_frames=5, heat_sigma_s=0.2, aftermath_s=0.5)


def clip(start: float | None, end: float | None, pre: float | None) -> LabelledClip:
    return LabelledClip(
        path=Path("x.mp4"),
        view="roadside",
        crash=start is not None,
        start_s=start,
        end_s=end,
        pre_crash_s=pre,
        group="x",
    )


def test_states_last_from_instant_to_instant() -> None:
    truth, weights = frame_targets(TIMES, clip(3.05, 4.02, 2.0), TARGETS, PICTURES)
    assert np.flatnonzero(truth[:, PRE_CRASH]).tolist() == list(range(20, 31))
    assert np.flatnonzero(truth[:, CRASH]).tolist() == list(range(31, 41))
    assert (weights == 1).all()


@pytest.mark.parametrize(("column", "instant_s"), [(START, 3.0), (END, 4.0)])
def test_heat_peaks_late_by_the_delay_and_falls_off_as_a_gaussian(column: int, instant_s: float) -> None:
    heat = frame_targets(TIMES, clip(3.0, 4.0, 2.0), TARGETS, PICTURES)[0][:, column]
    peak = round((instant_s + 0.5) * 10)
    assert int(np.argmax(heat)) == peak
    assert heat[peak] == pytest.approx(1)
    assert heat[peak + 2] == pytest.approx(np.exp(-0.5), rel=1e-5)
    assert heat[peak - 2] == pytest.approx(heat[peak + 2], rel=1e-5)
    assert not heat[: peak - 6].any()


def test_a_normal_clip_is_zero_and_counts() -> None:
    truth, weights = frame_targets(TIMES, clip(None, None, None), TARGETS, PICTURES)
    assert not truth.any()
    assert weights.all()


def test_what_a_label_does_not_say_is_not_learnt() -> None:
    truth, weights = frame_targets(TIMES, clip(3.0, None, None), TARGETS, PICTURES)
    assert not weights[:30, PRE_CRASH].any()
    assert weights[30:, PRE_CRASH].all()
    assert not weights[30:, END].any()
    assert np.flatnonzero(truth[:, CRASH]).tolist() == list(range(30, 36))
    assert weights[:36, CRASH].all()
    assert not weights[36:, CRASH].any()
    assert weights[:, START].all()


def test_maps_hold_vehicles_and_those_of_the_crash_while_it_lasts() -> None:
    boxes = np.zeros((60, 3, 6), np.float32)
    boxes[:, 0] = (0.0, 0.0, 0.5, 0.5, 1, 2)
    boxes[:, 1] = (0.5, 0.5, 1.0, 1.0, 1, 0)
    boxes[:, 2] = (0.0, 0.5, 0.5, 1.0, 0, 2)
    cached = CachedClip(np.zeros((60, 8, 8), np.uint8), TIMES, clip(3.05, 4.02, 2.0), boxes)
    maps = frame_maps(cached, TARGETS)
    assert maps is not None
    shares = maps.reshape(60, 6, 2, MAP_HEIGHT // 2, 2, MAP_WIDTH // 2).mean((3, 5))
    np.testing.assert_array_equal(shares[:, 0], np.broadcast_to([[1, 0], [0, 1]], (60, 2, 2)))
    assert not shares[:, 1:, 0, 1].any()
    assert not shares[:, 1:, 1].any()
    assert (shares[:, 3, 0, 0] == 1).all()
    assert np.flatnonzero(shares[:, 1, 0, 0]).tolist() == list(range(31, 41))
    assert np.flatnonzero(shares[:, 2, 0, 0]).tolist() == list(range(20, 31))


def test_a_short_crash_counts_until_its_aftermath_is_over() -> None:
    truth, weights = frame_targets(TIMES, clip(3.0, 3.1, 2.0), TARGETS, PICTURES)
    assert np.flatnonzero(truth[:, CRASH]).tolist() == list(range(30, 36))
    assert weights.all()


def test_motion_is_what_a_vehicle_has_moved_since_the_longest_lag() -> None:
    boxes = np.zeros((60, 2, 6), np.float32)
    left = 0.2 + 0.01 * np.arange(60)
    boxes[:, 0] = np.stack([left, left * 0 + 0.5, left + 0.1, left * 0 + 0.7, left * 0 + 1, left * 0], 1)
    boxes[30:, 1] = (0.0, 0.0, 0.2, 0.2, 1, 1)
    maps = frame_maps(CachedClip(np.zeros((60, 8, 8), np.uint8), TIMES, clip(None, None, None), boxes), TARGETS)
    assert maps is not None
    inside = maps[10, :, 28, round(0.35 * MAP_WIDTH)]
    assert inside.tolist() == [1, 0, 0, 0, round(0.03 * 512), 0]
    assert not maps[:3, FLOW].any()
    assert not maps[30:, FLOW, 2, 2].any()
    assert maps[30:, ACTORS, 2, 2].all()


def test_a_clip_without_boxes_has_no_maps() -> None:
    assert frame_maps(CachedClip(np.zeros((60, 8, 8), np.uint8), TIMES, clip(3.0, 4.0, 2.0)), TARGETS) is None
