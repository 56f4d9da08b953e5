"""Host-side code that runs once a frame or once a start: does it still work, and what does it cost?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import pytest

from edge_sdk.benchmarks.scenarios import moving_pictures
from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.perception.planes import PlaneStack
from edge_sdk.perception.recogniser import Recogniser, student_of
from edge_sdk.perception.timeline import FrameScores, Timeline

Timed = Callable[[Callable[[], object]], None]


@pytest.fixture
def recogniser(blank_bundle: Bundle) -> Iterator[Recogniser]:
    opened = Recogniser(blank_bundle, "null")
    yield opened
    opened.close()


def test_planes_of_one_picture(timed: Timed) -> None:
    pictures = moving_pictures(192, 320)
    stack, number = PlaneStack(1, 192, 320, (1, 3)), count()
    stack.push(0, pictures[-1])
    timed(lambda: stack.push(0, pictures[next(number) % len(pictures)]))
    assert stack.batch[0, 1].any()


def test_timeline_of_one_frame(timed: Timed, blank_bundle: Bundle) -> None:
    timeline, number = Timeline(student_of(blank_bundle)), count()
    rng = np.random.default_rng(0)
    states: list[str] = []

    def push() -> None:
        k = next(number)
        level = 0.95 if k // 30 % 2 else 0.02
        scores = FrameScores(k / 10, level, level, *rng.uniform(0, 0.3, 2))
        states.extend(update.state for update in timeline.push(scores))

    timed(push)
    for _ in range(60):
        push()
    assert "confirmed" in states


def test_opening_a_bundle(timed: Timed, blank_bundle: Bundle) -> None:
    timed(lambda: open_bundle(blank_bundle.folder))
    assert open_bundle(blank_bundle.folder).sha256 == blank_bundle.sha256


def test_a_frame_without_a_model(timed: Timed, recogniser: Recogniser) -> None:
    picture = moving_pictures(192, 320)[0]
    timed(lambda: recogniser.score(picture))
    assert recogniser.score(picture).shape == (4,)
