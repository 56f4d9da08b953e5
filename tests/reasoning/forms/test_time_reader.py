"""Times and intervals: the search agrees with scoring every legal answer, whatever the vocabulary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf, nan

import numpy as np
import pytest
from answer_driver import Model, Path, context, drive, random_model, train_bpe
from answer_oracle import Oracle, legal_intervals, legal_times
from numpy.typing import NDArray

from edge_sdk.bundle.manifest_language import AnswerCalibration
from edge_sdk.errors import BundleError, ConfigError, RuntimeFailure
from edge_sdk.evaluation.boundaries import interval_iou
from edge_sdk.reasoning.forms import distribution, prepare
from edge_sdk.reasoning.forms.digit_tree import Search
from edge_sdk.reasoning.forms.time_reader import TimeReader
from edge_sdk.reasoning.text import Tokenizer
from edge_sdk.tasks import find_task

TIME, INTERVAL = find_task("pre_crash_time"), find_task("crash_interval")
WHOLE = Search(settled=-1.0, extra_reads=10_000, least=0.0, forks=1_000_000)
SPLITS = ("gpt2", "digits", "none")
SIZES = (280, 300, 400)
BPES = [(size, split, seed) for seed, size in enumerate(SIZES) for split in SPLITS]
# First and last frame, and the earliest and latest tenth that may be said.
CLIPS = [(0.0, 0.9, 0, 10), (9.5, 10.3, 94, 104), (0.083, 0.783, 0, 9), (0.0, 0.0, 0, 1), (98.9, 100.0, 988, 1001)]


@pytest.mark.parametrize("bpe", BPES, ids=str)
def test_a_search_to_the_end_is_the_score_of_every_legal_time(bpe: tuple[int, str, int]) -> None:
    tokenizer = train_bpe(bpe[0], split=bpe[1], seed=bpe[2])
    for seed, (first_s, last_s, first, last) in enumerate(CLIPS):
        model = random_model(tokenizer.size, seed=seed)
        _agrees(tokenizer, model, first_s, last_s, legal_times(first, last), interval=False)


@pytest.mark.parametrize("bpe", [(size, split, 2) for size in (280, 330) for split in SPLITS], ids=str)
@pytest.mark.parametrize("clip", [(0.0, 0.3, 0, 4), (9.8, 10.0, 97, 101), (0.0, 0.0, 0, 1)], ids=str)
def test_a_search_to_the_end_is_the_score_of_every_legal_interval(
    bpe: tuple[int, str, int], clip: tuple[float, float, int, int]
) -> None:
    tokenizer = train_bpe(bpe[0], split=bpe[1], seed=bpe[2])
    first_s, last_s, first, last = clip
    model = random_model(tokenizer.size, seed=3)
    _agrees(tokenizer, model, first_s, last_s, legal_intervals(first, last), interval=True)


def _agrees(
    tokenizer: Tokenizer,
    model: Model,
    first_s: float,
    last_s: float,
    legal: dict[str, tuple[float, ...]],
    *,
    interval: bool,
) -> None:
    truth = Oracle(tokenizer, legal, model).truth()
    reader = TimeReader(INTERVAL if interval else TIME, tokenizer, context(first_s, last_s, width=64), WHOLE)
    answer = drive(reader, model).answer
    value = answer.value if isinstance(answer.value, tuple) else (answer.value,)
    lows = answer.lo if isinstance(answer.lo, tuple) else (answer.lo,)
    highs = answer.hi if isinstance(answer.hi, tuple) else (answer.hi,)
    assert answer.text == truth.greedy
    assert _risk(truth.probability, value) == pytest.approx(
        min(_risk(truth.probability, each) for each in legal.values())
    )
    right = [mass for times, mass in truth.probability.items() if _right(times, value)]
    assert answer.probability == pytest.approx(sum(right), rel=1e-5)
    assert answer.form_share == pytest.approx(truth.share, rel=1e-5)
    assert answer.abstain == (truth.share < 0.5)
    for number, masses in enumerate(reader.distributions()):
        assert masses.sum() == pytest.approx(1.0)
        assert masses.min() >= 0
        for time, mass in truth.marginal(number).items():
            assert masses[round((time - reader.first_s) * 10)] == pytest.approx(mass, rel=1e-5, abs=1e-9)
        low, high = truth.quantiles(number)
        assert (lows[number], highs[number]) == (min(low, value[number]), max(high, value[number]))


def _risk(believed: Mapping[tuple[float, ...], float], value: tuple[float, ...]) -> float:
    """What a value costs on average: seconds for a time, 1 - IoU for an interval."""
    return sum(mass * _cost(times, value) for times, mass in believed.items())


def _cost(true: tuple[float, ...], value: tuple[float, ...]) -> float:
    return abs(true[0] - value[0]) if len(value) == 1 else 1 - float(interval_iou([true], [value])[0])


def _right(true: tuple[float, ...], value: tuple[float, ...]) -> bool:
    return _cost(true, value) <= 0.5 + 1e-9


@pytest.mark.parametrize("bpe", BPES[::2], ids=str)
@pytest.mark.parametrize("last_s", [0.083, 4.983, 9.5, 59.7, 600.0])
def test_a_bounded_search_keeps_its_bounds(bpe: tuple[int, str, int], last_s: float) -> None:
    tokenizer = train_bpe(bpe[0], split=bpe[1], seed=bpe[2])
    for task in (TIME, INTERVAL):
        run = drive(TimeReader(task, tokenizer, context(0.083, last_s)), random_model(tokenizer.size, seed=5))
        answer = run.answer
        numbers = [float(each) for each in re.findall(r"\d+\.\d", answer.text)]
        assert answer.text == _spoken(numbers)
        assert "".join(run.pieces) == answer.text
        assert numbers == sorted(set(numbers))
        assert 0 <= numbers[0] <= numbers[-1] <= last_s + 0.2
        assert answer.tokens == run.taken
        lows, highs = (list(np.atleast_1d(each)) for each in (answer.lo, answer.hi))
        assert lows == sorted(set(lows))
        assert highs == sorted(set(highs))
        value = np.atleast_1d(answer.value).tolist()
        assert value == sorted(set(value))
        assert all(0 <= low <= number <= high for low, number, high in zip(lows, value, highs, strict=True))
        assert highs[-1] <= last_s + 0.2
        for step in run.steps[:-1]:
            assert sum(len(each.tokens) for each in step) <= max(8, len(step[0].tokens))
        assert run.taken <= 40 + len(answer.text)
        # No digit, dot, dash or blank is asked for twice.
        assert len(run.steps) <= len(answer.text) + 2


@pytest.mark.parametrize("bpe", [(280, "digits"), (300, "none"), (400, "gpt2")], ids=str)
def test_branches_that_had_no_room_do_not_count_against_those_that_are_followed(bpe: tuple[int, str]) -> None:
    """Followed without end, the branches beside the answer are as many tokens as they may be, but for a last one."""
    tokenizer = train_bpe(bpe[0], split=bpe[1])
    search = Search(settled=-1.0, extra_reads=10_000, least=0.0, forks=40)
    for task in (TIME, INTERVAL):
        for seed in range(2):
            reader = TimeReader(task, tokenizer, context(0.0, 30.0, width=8), search)
            steps = drive(reader, random_model(tokenizer.size, seed=seed)).steps
            sizes = [len(growth.tokens) for step in steps for growth in step]
            own = len(reader.ids) - 1  # the last is not taken in: nothing follows it
            assert 40 - max(sizes) < sum(sizes) - own <= 40


def _spoken(numbers: list[float]) -> str:
    return " - ".join(f"{number:.1f}" for number in numbers) + " seconds"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("split", SPLITS)
def test_a_bounded_search_is_greedy_as_the_whole_one(size: int, split: str) -> None:
    tokenizer = train_bpe(size, split=split)
    for seed in range(2):
        model = random_model(tokenizer.size, seed=seed)
        for task in (TIME, INTERVAL):
            narrow, wide = (
                drive(TimeReader(task, tokenizer, context(0.0, 30.0, width=width)), model).answer for width in (1, 24)
            )
            assert (narrow.text, narrow.form_share) == (wide.text, wide.form_share)


def test_a_peaked_belief_is_known_well_enough_after_the_answer_s_own_steps() -> None:
    tokenizer = train_bpe(280, split="digits")
    sure = _believing(tokenizer, start_s=4.4, end_s=6.1, spread_s=0.4)
    bounded = TimeReader(INTERVAL, tokenizer, context(0.0, 7.9))
    run = drive(bounded, sure)
    whole = drive(TimeReader(INTERVAL, tokenizer, context(0.0, 7.9, width=10_000), WHOLE), sure).answer
    assert np.abs(np.subtract(run.answer.value, whole.value)).max() < 0.11
    for wider in (np.subtract(whole.lo, run.answer.lo), np.subtract(run.answer.hi, whole.hi)):
        assert wider.min() > -0.01
        assert wider.max() < 0.31
    # Three for the answer: "4.", "4 - ", "6."; one more for the belief.
    assert len(run.steps) - 1 <= 4
    assert not run.answer.abstain


def _believing(tokenizer: Tokenizer, *, start_s: float, end_s: float, spread_s: float) -> Model:
    """A model that spells canonically and holds two normal beliefs, whatever it is made to say."""
    weight = {
        text: float(np.exp(-((a - start_s) ** 2 + (b - end_s) ** 2) / (2 * spread_s**2)))
        for text, (a, b) in legal_intervals(0, 96).items()
    }
    masses: dict[Path, dict[int, float]] = {}
    for text, mass in weight.items():
        path = tuple(tokenizer.encode(text).tolist())
        for length, token in enumerate(path):
            following = masses.setdefault(path[:length], {})
            following[token] = following.get(token, 0.0) + mass

    def logits(path: Path) -> NDArray[np.float32]:
        row = np.full(tokenizer.size, -60.0, np.float32)
        for token, mass in masses.get(path, {}).items():
            row[token] = np.log(max(mass, 1e-25))
        return row

    return logits


def test_forced_text_is_jumped_and_its_end_not_taken_in() -> None:
    tokenizer = train_bpe(280, split="digits")
    run = drive(TimeReader(INTERVAL, tokenizer, context(0.0, 9.0, width=1)), random_model(tokenizer.size))
    said = [tokenizer.decode(growth.tokens) for step in run.steps for growth in step]
    assert len(said) == 3
    assert re.fullmatch(r"\d\.", said[0])
    assert re.fullmatch(r"\d - ", said[1])
    assert re.fullmatch(r"\d\.", said[2])


def test_what_can_be_said_in_one_way_only_is_said_at_once() -> None:
    tokenizer = train_bpe(300)
    run = drive(TimeReader(INTERVAL, tokenizer, context(0.0, 0.0)), random_model(tokenizer.size))
    assert [list(step) for step in run.steps] == [[]]
    answer = run.answer
    assert (answer.value, answer.lo, answer.hi, answer.probability) == ((0.0, 0.1), (0.0, 0.1), (0.0, 0.1), 1.0)
    assert answer.tokens == 0


def test_an_end_token_or_other_words_in_the_middle_are_not_followed_but_counted() -> None:
    tokenizer = train_bpe(300)
    end, free = tokenizer.control.im_end, random_model(tokenizer.size, spread=0.1)

    def ending(path: Path) -> NDArray[np.float32]:
        row = free(path).copy()
        row[end if len(path) else tokenizer.encode("c")[0]] = 20.0
        return row

    answer = drive(TimeReader(TIME, tokenizer, context(0.0, 4.9, end)), ending).answer
    assert re.fullmatch(r"\d\.\d seconds", answer.text)
    assert answer.abstain
    assert answer.form_share is not None
    assert answer.form_share < 1e-6


@pytest.mark.parametrize("bad", [nan, inf])
@pytest.mark.parametrize("step", [0, 1])
def test_logits_that_are_no_numbers_fail_with_the_task_s_name(bad: float, step: int) -> None:
    tokenizer = train_bpe(300)
    free = random_model(tokenizer.size)

    def broken(path: Path) -> NDArray[np.float32]:
        row = free(path).copy()
        row[7] = bad if (len(path) > 0) == (step > 0) else 0.0
        return row

    with pytest.raises(RuntimeFailure, match="pre_crash_time"):
        drive(TimeReader(TIME, tokenizer, context(0.0, 4.9)), broken)
    with pytest.raises(RuntimeFailure, match="crash_interval"):
        TimeReader(INTERVAL, tokenizer, context()).read({0: np.full(tokenizer.size, -inf, np.float32)})


def test_where_nothing_legal_is_possible_the_answer_abstains_without_a_value() -> None:
    tokenizer = train_bpe(300)
    row = np.full(tokenizer.size, -inf, np.float32)
    row[tokenizer.encode("c")[0]] = 1.0
    reader = TimeReader(TIME, tokenizer, context())
    assert list(reader.read({0: row})) == []
    answer = reader.answer()
    assert (answer.value, answer.probability, answer.form_share, answer.abstain) == (None, None, 0.0, True)


def test_an_answer_that_is_asked_for_too_early_says_what_there_is() -> None:
    tokenizer = train_bpe(280, split="digits")
    reader, model = TimeReader(INTERVAL, tokenizer, context(0.0, 9.0)), random_model(tokenizer.size)
    assert reader.answer().text == ""
    assert reader.answer().form_share is None
    reader.read({0: model(())})
    answer = reader.answer()
    assert re.fullmatch(r"\d\.", answer.text)
    assert (answer.value, answer.lo, answer.abstain) == (None, None, True)


def test_calibration_corrects_the_probability_and_widens_the_interval() -> None:
    tokenizer = train_bpe(280, split="digits")
    model = _believing(tokenizer, start_s=4.4, end_s=6.1, spread_s=0.2)
    fit = AnswerCalibration(scale=2.0, offset=0.5, margin_s=0.3)
    plain = drive(TimeReader(INTERVAL, tokenizer, context(0.0, 9.5)), model).answer
    fitted = drive(TimeReader(INTERVAL, tokenizer, context(0.0, 9.5, calibration={INTERVAL.id: fit})), model).answer
    assert plain.probability is not None
    odds = (plain.probability / (1 - plain.probability)) ** 2 * np.exp(0.5)
    assert fitted.probability == pytest.approx(odds / (1 + odds))
    assert fitted.value == plain.value
    assert (plain.calibrated, fitted.calibrated) == (False, True)
    assert np.subtract(plain.lo, fitted.lo) == pytest.approx([0.3, 0.3])
    assert np.subtract(fitted.hi, plain.hi) == pytest.approx([0.3, 0.3])
    assert not fitted.abstain
    strict = {INTERVAL.id: AnswerCalibration(abstain_below=plain.probability * 1.1)}
    assert drive(TimeReader(INTERVAL, tokenizer, context(0.0, 9.5, calibration=strict)), model).answer.abstain


def test_ids_beyond_the_model_s_vocabulary_are_never_said() -> None:
    tokenizer = train_bpe(360)
    cut = 265
    run = drive(TimeReader(TIME, tokenizer, context(0.0, 30.0)), random_model(cut))
    chosen = {token for step in run.steps for growth in step for token in growth.tokens[:1]}
    assert run.answer.value is not None
    assert all(token < cut for token in chosen)


def test_impossible_clips_and_tokenizers_are_refused() -> None:
    with pytest.raises(ConfigError, match="first and last frame"):
        TimeReader(TIME, train_bpe(300), context(2.0, 1.0))
    with pytest.raises(ConfigError, match="first and last frame"):
        TimeReader(TIME, train_bpe(300), context(0.0, nan))
    with pytest.raises(BundleError, match="no token for '7'"):
        TimeReader(TIME, train_bpe(300, without="7"), context())
    with pytest.raises(BundleError, match="no token for '-'"):
        prepare(train_bpe(300, without="-"))


@pytest.mark.parametrize("size", [distribution._PLAIN, distribution._PLAIN + 905])
def test_ends_of_hours_are_summed_as_those_of_minutes(size: int) -> None:
    """Behind so many tenths a transform takes the place of the sum."""
    chance = np.random.default_rng(5)
    starts, lengths = (each / each.sum() for each in (chance.random(size) ** 9, chance.random(size) ** 9))
    found = distribution._convolved(starts, lengths)
    np.testing.assert_allclose(found, np.convolve(starts, lengths)[:size], atol=1e-15)
    assert (found >= 0).all()
