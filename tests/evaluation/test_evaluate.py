from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_sdk.errors import ConfigError, SourceError
from edge_sdk.evaluation.evaluate import evaluate, parts
from edge_sdk.evaluation.report import Evaluation, Table, to_markdown
from edge_sdk.evaluation.samples import Kind, Sample, Track
from edge_sdk.evaluation.scorer import ClipScores, Guess


@dataclass(frozen=True, kw_only=True)
class Fake:
    name: str
    answer: Callable[[Path], ClipScores]

    def __call__(self, path: Path) -> ClipScores:
        return self.answer(path)


def sample(name: str, kind: Kind, start_s: float | None = None, track: Track = "whole", **more: object) -> Sample:
    values: dict[str, object] = {
        "path": Path(name),
        "track": track,
        "kind": kind,
        "set": "CCD",
        "view": "dashcam",
        "group": name,
        "duration_s": 10.0,
        "start_s": start_s,
        "end_s": None if start_s is None else start_s + 2.0,
    }
    return Sample(**(values | more))  # type: ignore[arg-type]


SAMPLES = [sample(f"c{i}", "crash", 3.0 + i / 2) for i in range(6)] + [sample(f"n{i}", "normal") for i in range(5)]
BY_NAME = {each.path.name: each for each in SAMPLES}
TIMES = np.arange(100) / 10


def oracle(path: Path) -> ClipScores:
    truth = BY_NAME[path.name]
    start_s = truth.start_s
    guesses = () if start_s is None else (Guess(start_s=start_s, start_interval_s=(0.0, 9.0), end_s=start_s + 2),)
    return ClipScores(
        frame_times_s=TIMES,
        crash=truth.crashing(TIMES).astype(float),
        score=float(truth.crash),
        guesses=guesses,
        alarms_s=() if start_s is None else (start_s + 0.3,),
    )


def blind(_path: Path) -> ClipScores:
    return ClipScores(frame_times_s=TIMES, crash=np.zeros(100), score=0.0)


def nervous(_path: Path) -> ClipScores:
    return ClipScores(frame_times_s=TIMES, crash=np.zeros(100), score=0.0, alarms_s=(0.5, 4.0))


def run(*scorers: Fake, samples: list[Sample] = SAMPLES, rounds: int = 50) -> Evaluation:
    return evaluate(samples, scorers, seed=1, bootstrap=rounds)


def test_an_oracle_reaches_every_ceiling() -> None:
    (table,) = run(Fake(name="oracle", answer=oracle)).tables
    row = table.rows[-1]
    assert (table.crashes, table.normals, table.minutes) == (6, 5, pytest.approx(11 / 6))
    assert row.clip_ap.value == row.clip_auc.value == row.best_f1.value == row.frame_auc.value == 1.0
    assert row.best_threshold == 1.0
    assert (row.start.mae_s, row.start.within_half_s.share) == (0.0, 1.0)
    assert (row.overlap.mean_iou, row.coverage.hits) == (1.0, 6)
    assert row.delay is not None
    assert (row.delay.recall.share, row.delay.median_s) == (1.0, pytest.approx(0.3))
    assert row.false_alarms is not None
    assert row.false_alarms.count == 0


def test_a_blind_scorer_is_at_chance_and_answers_nothing() -> None:
    row = run(Fake(name="blind", answer=blind)).tables[0].rows[-1]
    assert row.clip_ap.value == pytest.approx(6 / 11)
    assert row.clip_auc.value == row.frame_auc.value == 0.5
    assert (row.start.answered, row.start.mae_s, row.overlap.mean_iou) == (0, None, 0.0)
    assert row.coverage.n == 0
    assert row.delay is None
    assert row.false_alarms is None


def test_false_alarms_are_counted_outside_alarm_windows_only() -> None:
    row = run(Fake(name="nervous", answer=nervous)).tables[0].rows[-1]
    assert row.false_alarms is not None
    assert row.delay is not None
    # Normal clips: both alarms. Crash clips: the one at 0.5 s, and 4.0 s where the window opens later (start 5.5).
    assert row.delay.recall.hits == 6
    assert row.false_alarms.count == 5 * 2 + 6
    quiet_s = 5 * 10 + sum(3.0 + i / 2 - 1.5 for i in range(6))
    assert row.false_alarms.hours == pytest.approx(quiet_s / 3600, rel=0.02)
    assert row.false_alarms.upper_per_hour is not None


def test_a_verdict_is_an_alarm_in_the_clip() -> None:
    def half(path: Path) -> ClipScores:
        alarms = (1.0,) if path.name in ("c0", "c1", "n0") else ()
        return ClipScores(frame_times_s=TIMES, crash=TIMES, score=0.0, alarms_s=alarms)

    rows = run(Fake(name="half", answer=half), Fake(name="blind", answer=blind)).tables[0].rows
    assert rows[1].f1.value == pytest.approx(2 * 2 / (3 + 6))
    assert rows[2].f1.value is None


def test_the_best_constant_interval_stands_beside() -> None:
    row = run(Fake(name="blind", answer=blind)).tables[0].rows[0]
    assert row.scorer == "best constant interval"
    assert row.overlap.mean_iou is not None
    assert 0.3 < row.overlap.mean_iou < 0.7


def test_a_guess_on_a_splice_is_passed_over() -> None:
    def jumpy(_path: Path) -> ClipScores:
        guesses = (Guess(start_s=3.2), Guess(start_s=6.0))
        return ClipScores(frame_times_s=TIMES, crash=TIMES, score=1.0, guesses=guesses, alarms_s=(3.2, 6.1))

    streams = [
        sample(f"s{i}", "crash", 6.2, track="streams", scored_s=(3.0, 9.0), shadows_s=((3.0, 4.5), (9.0, 10.5)))
        for i in range(3)
    ]
    row = run(Fake(name="jumpy", answer=jumpy), samples=streams).tables[0].rows[-1]
    assert row.start.mae_s == pytest.approx(0.2)
    assert row.clip_ap.value is None
    assert row.delay is not None
    assert row.false_alarms is not None
    assert (row.delay.median_s, row.false_alarms.count) == (pytest.approx(-0.1), 0)
    # Before the splice 3.0 s, and of the clip 4.5 s to 4.7 s, where the alarm window opens; nothing after 9 s.
    assert row.false_alarms.hours == pytest.approx(3 * 3.2 / 3600, rel=0.05)
    # The footage around clips is shared: three times the same minute is no evidence of three.
    assert (row.false_alarms.per_hour, row.false_alarms.upper_per_hour) == (0.0, None)


def test_an_alarm_in_time_behind_a_splice_is_not_false_as_well() -> None:
    """The clip ends 0.2 s after its crash: the alarm window, 2 s, reaches beyond the splice's shadow."""

    def late(_path: Path) -> ClipScores:
        return ClipScores(frame_times_s=TIMES, crash=TIMES, score=1.0, alarms_s=(7.9, 8.1))

    stream = sample("s", "crash", 6.0, track="streams", scored_s=(1.0, 6.2), shadows_s=((1.0, 2.5), (6.2, 7.7)))
    row = run(Fake(name="late", answer=late), samples=[stream]).tables[0].rows[-1]
    assert row.delay is not None
    assert row.false_alarms is not None
    assert (row.delay.recall.hits, row.delay.median_s) == (1, pytest.approx(1.9))
    assert row.false_alarms.count == 1
    # Free of a crash: 0 to 1 s, 2.5 to 4.5 s, 8 to 10 s.
    assert row.false_alarms.hours == pytest.approx(5 / 3600, rel=0.05)


def test_a_sample_that_one_scorer_cannot_read_is_left_out_for_all() -> None:
    def broken(path: Path) -> ClipScores:
        if path.name == "n0":
            raise SourceError("n0 is truncated")
        return blind(path)

    found = run(Fake(name="oracle", answer=oracle), Fake(name="broken", answer=broken))
    assert found.failed == (("whole/n0", "n0 is truncated"),)
    assert found.tables[0].normals == 4
    assert "n0 is truncated" in to_markdown(found)
    with pytest.raises(ConfigError, match="none of 1 samples"):
        run(Fake(name="broken", answer=broken), samples=[SAMPLES[6]])


def test_tables_are_by_track_view_and_set_and_not_told_twice() -> None:
    mixed = [
        sample("a", "crash", 3.0),
        sample("b", "crash", 3.0, view="roadside", set="CADP"),
        sample("c", "normal", view="roadside", set="roadside misc"),
        sample("d", "crash", 3.0, track="windows"),
        sample("e", "crash", 3.0, track="windows", view="roadside", set="CADP"),
    ]
    found = [(mixed[members[0]].track, name, members) for name, members in parts(mixed)]
    assert found == [
        ("whole", "all", [0, 1, 2]),
        ("whole", "dashcam", [0]),
        ("whole", "roadside", [1, 2]),
        ("whole", "CADP", [1]),
        ("whole", "roadside misc", [2]),
        ("windows", "all", [3, 4]),
        ("windows", "dashcam", [3]),
        ("windows", "roadside", [4]),
    ]


def test_the_result_is_json_and_a_table_with_conditions() -> None:
    found = run(Fake(name="oracle", answer=oracle), Fake(name="blind", answer=blind))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Evaluation) == found
    text = to_markdown(found)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["best constant interval", "oracle", "blind"]
    assert "n = 6 crashes, 5 normal" in text
    assert "Seed 1" in text


def test_intervals_hold_the_value_and_repeat_with_the_seed() -> None:
    rng = np.random.default_rng(0)
    noise = {name: float(each.crash + rng.normal()) for name, each in BY_NAME.items()}

    def noisy(path: Path) -> ClipScores:
        return ClipScores(frame_times_s=TIMES, crash=rng.random(100), score=noise[path.name])

    def measured() -> Table:
        return run(Fake(name="noisy", answer=noisy), rounds=300).tables[0]

    first, second = measured().rows[-1].clip_auc, measured().rows[-1].clip_auc
    assert first == second
    assert first.lo is not None
    assert first.hi is not None
    assert first.value is not None
    assert first.lo < first.value < first.hi
    assert not math.isclose(first.lo, first.hi)
