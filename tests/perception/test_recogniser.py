"""Several streams in one run of the demo bundle's student: each is scored as if it were alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.bundle import default_bundle, open_bundle
from edge_sdk.capture import CaptureSettings, open_source
from edge_sdk.errors import RuntimeFailure
from edge_sdk.events import Event
from edge_sdk.perception.recogniser import Recogniser, student_of
from edge_sdk.unit import Unit

CLIP = default_bundle() / "demo" / "clip.mp4"
# Pictures around the demo's crash, whose scores rise.
FIRST, FRAMES = 25, 36

Luma = NDArray[np.uint8]


@pytest.fixture(scope="module")
def pictures() -> list[Luma]:
    """Pictures of the demo clip, as the student sees them."""
    student = student_of(open_bundle())
    settings = CaptureSettings(width=student.width, height=student.height, rate_hz=student.rate_hz)
    with open_source(str(CLIP), settings) as source:
        return [frame.pixels for frame in islice(source, FIRST, FIRST + FRAMES)]


@pytest.fixture(scope="module")
def alone(pictures: list[Luma]) -> NDArray[np.float32]:
    """Their scores in a unit of one stream."""
    recogniser = Recogniser(open_bundle())
    scores = np.array([recogniser.score(picture) for picture in pictures])
    recogniser.close()
    assert scores[:, 0].std() > 0.01, "constant scores would tell nothing"
    return scores


@pytest.fixture
def pair() -> Iterator[Recogniser]:
    made = Recogniser(open_bundle(), streams=2)
    yield made
    made.close()


def scored(pair: Recogniser, pictures: list[Luma], present: list[bool]) -> NDArray[np.float32]:
    """Scores of stream 1, which has its next picture in the rounds that `present` says; stream 0 has one in each."""
    rows, left = [], iter(pictures)
    for number, here in enumerate(present):
        pair.push(0, pictures[-1 - number % len(pictures)])
        if here:
            pair.push(1, next(left))
        row = pair.step()[1]
        if here:
            rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize(
    "present",
    [
        [False] * 20 + [True] * FRAMES,
        [True] * 6 + [False] * 9 + [True] * (FRAMES - 6),
        [True, False, False] * FRAMES,
    ],
    ids=["joins late", "pauses", "is slower"],
)
def test_a_stream_without_a_picture_keeps_its_memory(
    present: list[bool], pair: Recogniser, pictures: list[Luma], alone: NDArray[np.float32]
) -> None:
    np.testing.assert_allclose(scored(pair, pictures, present), alone, atol=1e-5)


def test_a_stream_that_is_reset_while_it_pauses_begins_anew(
    pair: Recogniser, pictures: list[Luma], alone: NDArray[np.float32]
) -> None:
    scored(pair, pictures, [True] * 5 + [False] * 5)
    pair.reset(1)
    np.testing.assert_allclose(scored(pair, pictures, [False] * 3 + [True] * FRAMES), alone, atol=1e-5)


def test_full_rounds_leave_the_state_where_the_runtime_keeps_it(
    pair: Recogniser, pictures: list[Luma], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair._state, "read", lambda name: pytest.fail(f"{name} was read"))
    scored(pair, pictures, [True] * FRAMES)


def overflow(recogniser: Recogniser, stream: int) -> None:
    """Have the memory of `stream` hold what a layer that overflowed has left there."""
    recogniser._put(stream, {name: np.full((), np.nan, np.float32) for name in recogniser._state_names})


def test_scores_that_are_no_numbers_are_told_of_the_stream_that_has_them(
    pair: Recogniser, pictures: list[Luma]
) -> None:
    scored(pair, pictures, [True] * 3)
    overflow(pair, 1)
    pair.push(0, pictures[0])
    assert np.isfinite(pair.step()[0]).all(), "nobody asked about the other one"
    pair.push(0, pictures[1])
    pair.push(1, pictures[1])
    with pytest.raises(
        RuntimeFailure, match=r"expected finite scores .* 'ort', found \[nan, .* for stream 1: .*start again"
    ):
        pair.step()
    pair.reset(1)
    pair.push(1, pictures[2])
    assert np.isfinite(pair.step()[1]).all()


def test_a_unit_whose_student_overflows_closes_its_events_and_ends_with_a_failure() -> None:
    with Unit(CLIP) as unit:
        seen = unit.watch()
        first = next(seen)
        assert isinstance(first, Event)
        overflow(unit._recogniser, 0)
        left: list[object] = []
        with pytest.raises(RuntimeFailure, match="expected finite scores") as failure:
            left.extend(iter(lambda: next(seen), None))
    assert failure.value.exit_code == 3
    assert [event.state for event in left if isinstance(event, Event)] in (["rejected"], ["closed"])
    assert all(isinstance(event, Event) and event.id == first.id for event in left)
