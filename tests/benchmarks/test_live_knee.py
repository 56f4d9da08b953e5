from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from edge_sdk.benchmarks.live.ages import Tally
from edge_sdk.benchmarks.live.knee import HEAD, KneeStep, judge, knee_of, row
from edge_sdk.benchmarks.live.results import Observer, Setting
from edge_sdk.benchmarks.live.server import Stream

DUE = 150.0
Judged = Callable[..., KneeStep]


def tally(ages_ms: list[float], unreadable: int = 0) -> Tally:
    made = Tally(16 / 9)
    made.ages_ms, made.unreadable = ages_ms, unreadable
    return made


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Observer().setting(Stream(), None, 0.2)


@pytest.fixture
def judged(setting: Setting) -> Judged:
    return lambda *tallies: judge(tallies, DUE, 0, setting)


def test_fresh_and_young_frames_keep_up(judged: Judged) -> None:
    step = judged(tally([50.0] * 150), tally([80.0] * 149))
    assert step.keeps_up
    assert step.age.max_ms == 80.0
    assert step.fresh == 149 / 150


def test_old_frames_do_not(judged: Judged) -> None:
    assert not judged(tally([50.0] * 140 + [201.0] * 10)).keeps_up
    assert judged(tally([50.0] * 145 + [201.0] * 5)).keeps_up


def test_one_source_that_drops_is_enough(judged: Judged) -> None:
    assert not judged(tally([50.0] * 150), tally([50.0] * 147)).keeps_up


def test_a_frame_that_cannot_be_read_was_not_dropped(judged: Judged) -> None:
    assert judged(tally([50.0] * 145, unreadable=5)).fresh == 1.0


def test_too_few_frames_prove_nothing(setting: Setting) -> None:
    assert not judge([tally([50.0] * 20)], 20.0, 0, setting).keeps_up


def test_the_knee_is_before_the_first_that_fails(judged: Judged) -> None:
    good, bad = judged(tally([50.0] * 150)), judged(tally([300.0] * 150))
    steps = [good, *(msgspec.structs.replace(good, sources=number) for number in (2, 3))]
    assert knee_of(steps) == 3
    assert knee_of([good, bad, *steps[2:]]) == 1
    assert knee_of([bad]) == 0


def test_a_row_has_a_cell_for_each_heading(judged: Judged) -> None:
    assert (
        row(judged(tally([50.0] * 150))).count("|")
        == HEAD.splitlines()[0].count("|")
        == HEAD.splitlines()[1].count("|")
    )
