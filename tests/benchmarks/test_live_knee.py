from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_sdk.benchmarks.live.ages import Tally
from edge_sdk.benchmarks.live.knee import HEAD, KneeStep, judge, knee_of, main, row
from edge_sdk.benchmarks.live.results import Observer, Setting, check_length
from edge_sdk.benchmarks.live.server import Stream

DUE = 150.0
Judged = Callable[..., KneeStep]


def tally(ages_ms: list[float], unreadable: int = 0) -> Tally:
    made = Tally(16 / 9, 200.0)
    made.ages_ms, made.shown_ms, made.unreadable = ages_ms, ages_ms, unreadable
    return made


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Observer().setting(Stream(), None, 0.2)


@pytest.fixture
def judged(setting: Setting) -> Judged:
    return lambda *tallies: judge(tallies, DUE, setting)


def test_fresh_and_young_frames_keep_up(judged: Judged) -> None:
    step = judged(tally([50.0] * 150), tally([80.0] * 149))
    assert step.keeps_up
    assert step.age.max_ms == 80.0
    assert step.fresh == 149 / 150


def test_old_frames_do_not(judged: Judged) -> None:
    assert not judged(tally([50.0] * 140 + [201.0] * 10)).keeps_up
    assert judged(tally([50.0] * 145 + [201.0] * 5)).keeps_up


def test_the_worst_source_counts_not_the_pool(judged: Judged) -> None:
    slow = [50.0] * 135 + [250.0] * 15
    step = judged(tally([50.0] * 150), tally([50.0] * 150), tally(slow))
    assert np.percentile([50.0] * 300 + slow, 95) < 200.0
    assert step.age.p95_ms == np.percentile(slow, 95) > 200.0
    assert [each.p95_ms for each in step.each] == [50.0, 50.0, step.age.p95_ms]
    assert not step.keeps_up


def test_many_sources_do_not_make_a_percentile_of_few_rounds(judged: Judged) -> None:
    step = judged(*[tally([50.0] * 150)] * 5)
    assert (step.age.count, step.age.p95_ms, step.age.p99_ms) == (150, 50.0, None)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--seconds", "20"],
            "expected 26.6 to 86400 s at 5 rounds a second, because a p95 needs 133 rounds; found 20",
        ),
        (["--rate", "nan"], "expected a rate above 0"),
        (["--most", "65"], "expected 1 to 64 sources, found 65"),
    ],
)
def test_steps_that_prove_nothing_are_refused(words: list[str], says: str, tmp_path: Path, capsys: Any) -> None:
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert told.out == ""
    assert not (tmp_path / "out").exists()


def test_the_shortest_run_that_is_not_refused_has_its_p95(setting: Setting) -> None:
    check_length(26.6, 5.0)
    assert judge([tally([50.0] * 132)], 133.0, setting).keeps_up
    assert judge([tally([50.0] * 131)], 132.0, setting).keeps_up


def test_one_source_that_drops_is_enough(judged: Judged) -> None:
    assert not judged(tally([50.0] * 150), tally([50.0] * 147)).keeps_up


def test_a_frame_that_cannot_be_read_was_not_dropped(judged: Judged) -> None:
    assert judged(tally([50.0] * 145, unreadable=5)).fresh == 1.0


def test_too_few_frames_prove_nothing(setting: Setting) -> None:
    assert not judge([tally([50.0] * 20)], 20.0, setting).keeps_up


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
