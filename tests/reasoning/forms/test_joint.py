"""The interval of the highest expected IoU, against every pair of tenths and all that is believed, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pytest
from answer_driver import context, drive, random_model, train_bpe
from answer_oracle import Oracle, Truth, legal_intervals
from scipy.stats import norm

from edge_sdk.bundle.manifest_language import AnswerCalibration, FusedFit
from edge_sdk.evaluation.boundaries import interval_iou
from edge_sdk.reasoning.forms import joint as module
from edge_sdk.reasoning.forms.digit_tree import Search
from edge_sdk.reasoning.forms.distribution import Belief, marginals
from edge_sdk.reasoning.forms.grammar import Grammar, State
from edge_sdk.reasoning.forms.joint import JointBelief, joint
from edge_sdk.reasoning.forms.time_reader import TimeReader
from edge_sdk.reasoning.sighting import Sighting
from edge_sdk.tasks import find_task
from edge_sdk.types import Estimate

INTERVAL = find_task("crash_interval")
Pair = tuple[int, int]
Span = tuple[float, ...]
PAIRS = list(combinations(range(13), 2))


def expected(believed: Mapping[Pair, float] | Mapping[Span, float], value: Span) -> float:
    """The mean IoU of `value` with what is believed."""
    pairs, masses = list(believed), np.array(list(believed.values()))
    return float(interval_iou(pairs, [value] * len(pairs)) @ masses)


def told(first_s: float, last_s: float, believed: dict[Pair, float]) -> JointBelief:
    states = [Belief(State(part=3, times=pair), mass) for pair, mass in believed.items()]
    return joint(Grammar("interval", first_s, last_s), states)


def some_belief(seed: int) -> dict[Pair, float]:
    """A belief in 1 to 12 intervals of very unlike probability."""
    chance = np.random.default_rng(seed)
    pairs = chance.choice(len(PAIRS), chance.integers(1, 13), replace=False)
    masses = chance.random(len(pairs)) ** 4 + 1e-3
    return {PAIRS[pair]: float(mass) for pair, mass in zip(pairs, masses / masses.sum(), strict=True)}


@pytest.mark.parametrize("seed", range(40))
def test_the_best_interval_is_the_best_of_all_pairs_and_of_all_between(seed: int) -> None:
    believed = some_belief(seed)
    found = told(0.1, 1.1, believed)
    finer = [(a / 2, b / 2) for a, b in combinations(range(25), 2)]
    reached = expected(believed, found.best())
    assert reached == pytest.approx(max(expected(believed, pair) for pair in finer))
    assert found.expected_iou().max() == pytest.approx(reached)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("least", [0.3, 0.5, 0.7])
def test_every_pair_s_expected_iou_and_the_share_near_it(seed: int, least: float) -> None:
    believed, pair = some_belief(seed), PAIRS[seed % len(PAIRS)]
    found = told(0.1, 1.1, believed)
    for place, start in enumerate(found.starts):
        for at, end in enumerate(found.ends):
            mean = expected(believed, (int(start), int(end))) if end > start else 0.0
            assert found.expected_iou()[place, at] == pytest.approx(mean)
    near = [mass for each, mass in believed.items() if interval_iou([each], [pair])[0] >= least - 1e-9]
    assert found.near(*pair, least) == pytest.approx(sum(near))


@pytest.mark.parametrize("seed", range(60))
def test_the_value_is_worth_no_less_than_the_likeliest_interval(seed: int) -> None:
    believed = some_belief(seed)
    likeliest = max(believed, key=lambda pair: believed[pair])
    assert expected(believed, told(0.1, 1.1, believed).best()) >= expected(believed, likeliest) - 1e-12


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bpe", [(280, "digits"), (300, "none"), (400, "gpt2")], ids=str)
def test_the_value_of_an_answer_is_worth_no_less_than_its_text(seed: int, bpe: tuple[int, str]) -> None:
    """Of a model whose whole distribution is known, read to the end."""
    tokenizer, legal = train_bpe(bpe[0], split=bpe[1]), legal_intervals(0, 6)
    model = random_model(tokenizer.size, seed=seed)
    truth = Oracle(tokenizer, legal, model).truth()
    search = Search(settled=-1.0, extra_reads=10_000, least=0.0, forks=1_000_000)
    answer = drive(TimeReader(INTERVAL, tokenizer, context(0.1, 0.5, width=64), search), model).answer
    worth = {value: expected(truth.probability, value) for value in legal.values()}
    assert isinstance(answer.value, tuple)
    assert worth[answer.value] == pytest.approx(max(worth.values()))
    assert worth[answer.value] >= worth[legal[answer.text]] - 1e-9


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("end", [Estimate(t=0.9, lo=0.7, hi=1.0), None])
def test_with_the_student_an_interval_is_the_best_of_what_both_believe(seed: int, end: Estimate | None) -> None:
    """Every legal answer's probability times what a density of the student's own says of its two numbers."""
    tokenizer, legal = train_bpe(280, split="digits"), legal_intervals(4, 11)
    model = random_model(tokenizer.size, seed=seed)
    believed = Oracle(tokenizer, legal, model).truth().probability
    start = Estimate(t=0.7, lo=0.6, hi=0.9)
    joined = {
        pair: mass * _student(start, round(10 * pair[0])) * _student(end, round(10 * pair[1]))
        for pair, mass in believed.items()
    }
    joined = {pair: mass / sum(joined.values()) for pair, mass in joined.items()}
    fit = FusedFit(scale=1.0, offset=0.4, margin_s=0.1)
    given = context(
        0.5,
        1.0,
        width=64,
        calibration={INTERVAL.id: AnswerCalibration(with_student=fit)},
        sighting=Sighting(score=0.9, start=start, end=end),
    )
    search = Search(settled=-1.0, extra_reads=10_000, least=0.0, forks=1_000_000)
    answer = drive(TimeReader(INTERVAL, tokenizer, given, search), model).answer
    assert isinstance(answer.value, tuple)
    worth = {value: expected(joined, value) for value in legal.values()}
    assert worth[answer.value] == pytest.approx(max(worth.values()))
    right = sum(mass for pair, mass in joined.items() if interval_iou([pair], [answer.value])[0] >= 0.5 - 1e-9)
    assert answer.probability == pytest.approx(1 / (1 + np.exp(-(np.log(right / (1 - right)) + 0.4))), rel=1e-4)
    assert (answer.with_student, answer.calibrated) == (True, True)
    assert isinstance(answer.lo, tuple)
    assert isinstance(answer.hi, tuple)
    for number, (low, high) in enumerate(zip(answer.lo, answer.hi, strict=True)):
        first, last = Truth(probability=joined).quantiles(number)
        assert low == pytest.approx(min(max(0.4, first - 0.1), answer.value[number]))
        assert high == pytest.approx(max(min(1.1, last + 0.1), answer.value[number]))


def _student(seen: Estimate | None, time: int) -> float:
    """Nine tenths of two normal halves, of which the part outside of the tenths 4 to 11 is even, like the rest."""
    if seen is None:
        return 1.0

    def half(at: int) -> float:
        width = (seen.t - seen.lo if at / 10 < seen.t else seen.hi - seen.t) / norm.ppf(0.9)
        return float(np.exp(-(((at / 10 - seen.t) / width) ** 2) / 2))

    whole = sum(half(at) for at in range(-30, 60))
    inside = 0.9 * sum(half(at) for at in range(4, 12)) / whole
    return 0.9 * half(time) / whole + (1 - inside) / 8


def test_a_joint_belief_has_the_marginals_that_are_told_of_it() -> None:
    """Ends that were not read lie behind their starts alike in both; a start known by its first digit is left out."""
    grammar = Grammar("interval", 0.0, 20.0)
    read = [
        Belief(State(part=3, times=(31, 45)), 0.3),
        Belief(State(part=2, at=1, number=5, times=(31,)), 0.1),
        Belief(State(part=1, times=(34,)), 0.2),
        Belief(State(part=1, times=(195,)), 0.15),
        Belief(State(part=1, at=1, times=(200,)), 0.05),
    ]
    found = joint(grammar, [*read, Belief(State(at=1, number=1), 0.2)])
    starts, ends = marginals(grammar, [Belief(state, mass / 0.8) for state, mass in read])
    assert found.masses.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(found.masses.sum(axis=1), starts[found.starts - grammar.first], atol=1e-12)
    np.testing.assert_allclose(found.masses.sum(axis=0), ends[found.ends - grammar.first], atol=1e-12)
    assert not found.masses[found.ends[None] <= found.starts[:, None]].any()


def test_of_two_crashes_the_likelier_is_given_whole() -> None:
    """Where each end's own median would begin in one and end in the other, or lie at the edge of one."""
    early = {(10 + n, 30 + n): 0.17 for n in (-1, 0, 1)}
    late = {(70 + n, 90 + n): 0.49 / 3 for n in (-1, 0, 1)}
    assert told(0.0, 10.0, early | late).best() == (10, 30)


def test_a_clip_of_hours_is_answered_from_what_is_likeliest(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(3)
    states = [Belief(State(part=1, at=3, times=(int(s),)), 0.01) for s in chance.integers(0, 36_000, 90)]
    states += [
        Belief(State(part=2, at=1, number=1, times=(12_000,)), 0.1),
        Belief(State(part=3, times=(12_000, 12_050)), 0.4),
    ]
    found = joint(Grammar("interval", 0.0, 3600.0), states)
    assert (len(found.starts), len(found.ends)) <= (module._STARTS, module._ENDS)
    assert found.masses.sum() == pytest.approx(1.0)
    assert found.best() == (12_000, 12_050)
    monkeypatch.setattr(module, "_STARTS", 1)
    assert joint(Grammar("interval", 0.0, 3600.0), states).starts.tolist() == [12_000]
