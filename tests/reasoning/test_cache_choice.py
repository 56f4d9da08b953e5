"""Which caches a reasoner takes: the smallest that hold the clip, and none that does not."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import pytest
from toy_speaker import STEP_S, make_toy_speaker, pictures

from edge_sdk.errors import ConfigError
from edge_sdk.reasoning.reasoner import Reasoner

TOKENS = 6


def test_the_smallest_caches_that_hold_a_whole_clip_are_taken(tmp_path: Path) -> None:
    bundle = make_toy_speaker(tmp_path, "base", slots=(64, 2048, 4096)).bundle
    with Reasoner(bundle, profile="48f", max_tokens=TOKENS) as reasoner:
        assert [graph.slots for graph in reasoner.fit.decoders.values()] == [2048]
        clip = reasoner.begin()
        for number, pixels in enumerate(pictures(48, seed=2)):
            clip.push(pixels, number * STEP_S)
        clip.ask()


def test_the_caches_are_those_that_so_many_frames_need(tmp_path: Path) -> None:
    bundle = make_toy_speaker(tmp_path, "base", slots=(640, 2048)).bundle
    for most, slots in ((10, 640), (96, 2048), (1000, 2048), (None, 2048)):
        with Reasoner(bundle, max_frames=most, max_tokens=TOKENS) as reasoner:
            assert {graph.slots for graph in reasoner.fit.decoders.values()} == {slots}


def test_a_budget_for_which_no_cache_holds_the_clip_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    speaker = make_toy_speaker(tmp_path, "base", slots=(640, 2048))
    with Reasoner(speaker.bundle, max_tokens=TOKENS) as reasoner:
        whole_mb = reasoner.memory_mb
    message = f"expected a memory budget of at least {ceil(whole_mb)} MB, for weights and caches of 2048 slots"
    with pytest.raises(ConfigError, match=message):
        Reasoner(speaker.bundle, max_frames=96, max_tokens=TOKENS, max_memory_mb=whole_mb - 0.01)
    with Reasoner(speaker.bundle, max_frames=10, max_tokens=TOKENS, max_memory_mb=whole_mb - 0.01) as reasoner:
        assert {graph.slots for graph in reasoner.fit.decoders.values()} == {640}
