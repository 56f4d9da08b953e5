from __future__ import annotations

from edge_sdk.benchmarks.live.ages import Tally
from edge_sdk.benchmarks.live.knee import KneeStep, judge, knee_of

DUE = 150.0


def tally(ages_ms: list[float], unreadable: int = 0) -> Tally:
    made = Tally(16 / 9)
    made.ages_ms, made.unreadable = ages_ms, unreadable
    return made


def judged(*tallies: Tally) -> KneeStep:
    return judge(len(tallies), tallies, DUE, 0, 1.0, 0.2)


def test_fresh_and_young_frames_keep_up() -> None:
    step = judged(tally([50.0] * 150), tally([80.0] * 149))
    assert step.keeps_up
    assert step.age.max_ms == 80.0
    assert step.fresh == 149 / 150


def test_old_frames_do_not() -> None:
    assert not judged(tally([50.0] * 140 + [201.0] * 10)).keeps_up
    assert judged(tally([50.0] * 145 + [201.0] * 5)).keeps_up


def test_one_source_that_drops_is_enough() -> None:
    assert not judged(tally([50.0] * 150), tally([50.0] * 147)).keeps_up


def test_a_frame_that_cannot_be_read_was_not_dropped() -> None:
    assert judged(tally([50.0] * 145, unreadable=5)).fresh == 1.0


def test_too_few_frames_prove_nothing() -> None:
    assert not judge(1, [tally([50.0] * 20)], 20.0, 0, 1.0, 0.2).keeps_up


def test_the_knee_is_before_the_first_that_fails() -> None:
    good, bad = judged(tally([50.0] * 150)), judged(tally([300.0] * 150))
    steps = [good, *(KneeStep(**{**_fields(good), "sources": number}) for number in (2, 3))]
    assert knee_of(steps) == 3
    assert knee_of([good, bad, *steps[2:]]) == 1
    assert knee_of([bad]) == 0


def _fields(step: KneeStep) -> dict[str, object]:
    return {name: getattr(step, name) for name in step.__struct_fields__}
