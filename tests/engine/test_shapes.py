"""Shape profiles of the demo's student and of a decoder, and of nothing that a manifest does not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from asking_bundles import watching
from decoder_double import HIDDEN, STATE, DoubleSession
from toy_speaker import make_toy_speaker

from edge_sdk.engine.shapes import Lengths, Limits, input_shapes, shape_profiles
from edge_sdk.errors import UnknownNameError
from edge_sdk.reasoning.cache import TRUNK, Addition, CallShape, Prefix


def test_the_student_is_fastest_for_one_camera_and_takes_several() -> None:
    manifest = watching().manifest
    (profile,) = shape_profiles(manifest, "student", Limits(streams=6))
    assert profile.lengths == {"streams": Lengths(smallest=1, best=1, largest=6)}
    shapes = input_shapes(manifest.graphs["student"], profile)
    assert shapes["frames"] == ((1, 3, 192, 320), (1, 3, 192, 320), (6, 3, 192, 320))
    assert all(smallest[0] == 1 and largest[0] == 6 for smallest, _, largest in shapes.values())


def test_a_decoder_is_fastest_at_the_very_calls_that_engines_are_given(tmp_path: Path) -> None:
    bundle, session = make_toy_speaker(tmp_path, "base", slots=(2048,)).bundle, DoubleSession(slots=2048)
    prefix = Prefix(session, STATE, shape=CallShape(fixed=True))
    prefix.append(np.ones((300, HIDDEN), np.float32))
    question, token = (np.ones((length, HIDDEN), np.float32) for length in (120, 1))
    asked = prefix.grow([Addition(TRUNK, question)] * 6)
    prefix.grow([Addition(each.node, token) for each in asked])
    decode, prefill = (each.lengths for each in shape_profiles(bundle.manifest, "decoder.base.2048.native"))
    given = {(call["embeds"].shape[1], len(call["rows"])) for call in session.calls}
    assert given == {(each["q"].best, each["r"].best) for each in (decode, prefill)}
    assert given == {(each["q"].largest, each["r"].largest) for each in (decode, prefill)}


def test_an_unknown_graph_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown graph 'decoder'; known: student"):
        shape_profiles(watching().manifest, "decoder")


def test_lengths_must_rise() -> None:
    with pytest.raises(ValueError, match="lengths must rise from 1: 1, 9, 8"):
        Lengths(smallest=1, best=9, largest=8)
