"""Parts of pictures: boxes go where the picture goes, and what an answer is about stays in sight."""

from __future__ import annotations

from dataclasses import replace

import mini_material
import numpy as np
import pytest

from edge_sdk.export.mini.pictures import FULL, View
from edge_sdk.export.mini.recipe import Views
from edge_sdk.export.mini.views import closest, draw_view, seen_through

CALM, CRASH = mini_material.clips(2)
PARTS = Views(whole=0.2, least=0.4, light=0.1)


def test_boxes_go_with_the_picture() -> None:
    """A box drawn into a picture is where the seen clip's box says, whatever the view."""
    random = np.random.default_rng(0)
    canvas = np.zeros((1000, 1000), bool)
    x0, y0, x1, y1 = (round(1000 * float(side)) for side in CRASH.boxes[0, 0, :4])
    canvas[y0:y1, x0:x1] = True
    for _ in range(30):
        view = draw_view(CRASH, PARTS, 50, random)
        left, top, side = (round(1000 * share) for share in (view.left, view.top, view.share))
        part = canvas[top : top + side, left : left + side]
        part = part[:, ::-1] if view.mirror else part
        rows, columns = np.nonzero(part)
        expected = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / len(part)
        np.testing.assert_allclose(seen_through(CRASH, view).boxes[0, 0, :4], expected, atol=0.006)


def test_the_parties_of_a_crash_stay_in_sight() -> None:
    random = np.random.default_rng(1)
    shares = []
    for _ in range(200):
        view = draw_view(CRASH, PARTS, closest(CRASH), random)
        assert view.left <= 0.35 <= view.left + view.share
        assert view.top <= 0.6 <= view.top + view.share
        shares.append(view.share)
    assert min(shares) < 0.6
    assert 0.15 < np.mean(np.array(shares) == 1) < 0.6


def test_what_is_cut_off_is_not_seen() -> None:
    seen = seen_through(CRASH, View(left=0.48, top=0.0, share=0.5))
    assert seen.boxes[0, :, 4].tolist() == [0, 1]  # of the first box a fifteenth is left
    assert seen.boxes[..., :4].min() >= 0
    assert seen.boxes[..., :4].max() <= 1
    np.testing.assert_array_equal(CRASH.boxes[0, :, 4], 1)


def test_a_mirror_turned_twice() -> None:
    mirror = replace(FULL, mirror=True)
    turned = seen_through(CRASH, mirror)
    np.testing.assert_allclose(turned.boxes[0, 0, :4], (0.5, 0.4, 0.8, 0.8), rtol=1e-6)
    np.testing.assert_allclose(seen_through(turned, mirror).boxes, CRASH.boxes, atol=1e-6)


def test_the_closest_picture() -> None:
    assert closest(CRASH) == mini_material.CRASH_S * mini_material.RATE_HZ
    assert closest(CALM) == mini_material.PICTURES // 2
    boxes = CALM.boxes.copy()
    boxes[:, 0, 5] = 1
    boxes[17, 0, 2] += 0.1  # a near miss fills most here
    assert closest(replace(CALM, boxes=boxes)) == 17


@pytest.mark.parametrize("light", [0.0, 0.2])
def test_light_changes_levels_by_smooth_curves(light: float) -> None:
    random = np.random.default_rng(2)
    views = [draw_view(CALM, Views(light=light), None, random) for _ in range(50)]
    assert all(view.share == 1 for view in views)
    if light == 0:
        assert all(view.looks is None for view in views)
        return
    curves = np.stack([view.looks for view in views if view.looks is not None]).astype(int)
    assert curves.shape == (50, 3, 256)
    assert (np.diff(curves) >= 0).all()
    assert 5 < curves[:, :, 128].std() < 60
