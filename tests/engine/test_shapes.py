"""Shape profiles of the demo's student, and of nothing that a manifest does not have."""

from __future__ import annotations

import pytest

from edge_sdk.bundle import open_bundle
from edge_sdk.engine.shapes import Lengths, Limits, input_shapes, shape_profiles
from edge_sdk.errors import UnknownNameError


def test_the_student_is_fastest_for_one_camera_and_takes_several() -> None:
    manifest = open_bundle().manifest
    (profile,) = shape_profiles(manifest, "student", Limits(streams=6))
    assert profile.lengths == {"streams": Lengths(smallest=1, best=1, largest=6)}
    shapes = input_shapes(manifest.graphs["student"], profile)
    assert shapes["frames"] == ((1, 3, 192, 320), (1, 3, 192, 320), (6, 3, 192, 320))
    assert all(smallest[0] == 1 and largest[0] == 6 for smallest, _, largest in shapes.values())


def test_an_unknown_graph_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown graph 'decoder'; known: student"):
        shape_profiles(open_bundle().manifest, "decoder")


def test_lengths_must_rise() -> None:
    with pytest.raises(ValueError, match="lengths must rise from 1: 1, 9, 8"):
        Lengths(smallest=1, best=9, largest=8)
