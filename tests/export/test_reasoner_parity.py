"""Whole answers of the reasoner against transformers' greedy generation: the same tokens, however they came about."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from equivalence_cases import (
    DIALECTS,
    KINDS,
    ORDERS,
    SHAPES,
    SHOWN,
    USUAL,
    Spoken,
    but_probability,
    by_forms,
    compared,
    leaking,
    opened,
    said,
    shown_to,
    together,
    tokens_of,
    transformers_answers,
)
from reasoner_cases import Speaker, make_speaker, transformers_answer

from edge_sdk.reasoning.answer import Answer
from edge_sdk.tasks import TASK_IDS
from edge_sdk.types import Dialect

# Two float32 runs of one model are some millionths apart; a token that one question sees of another is a hundredth.
LOGIT_ERROR = 1e-4
# Relative; a product of some probabilities, each a millionth off.
PROBABILITY_ERROR = 1e-4
# How calls are cut does not know the dialect, so one of them is cut in every way.
CALLS: list[tuple[Dialect, str]] = [
    *(("native", each) for each in SHAPES if each != USUAL),
    ("decomposed", "3, padded"),
    ("decomposed", "32, padded"),
]


@pytest.fixture(scope="module")
def vocabulary(shared_data: Path) -> Path:
    """The folder of Qwen2.5's tokenizer files."""
    return shared_data / "qwen2.5-tokenizer"


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Speaker]:
    return cache(lambda kind: make_speaker(tmp_path_factory.mktemp(kind), kind))


@pytest.fixture(scope="module")
def reals(
    toys: Callable[[str], Speaker], vocabulary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Speaker]:
    return cache(lambda kind: toys(kind).with_vocabulary(vocabulary, tmp_path_factory.mktemp(kind) / "real"))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def toy(toys: Callable[[str], Speaker], kind: str) -> Speaker:
    return toys(kind)


@pytest.fixture
def real(reals: Callable[[str], Speaker], kind: str) -> Speaker:
    return reals(kind)


@pytest.fixture(params=["toy", "real"])
def speaker(request: pytest.FixtureRequest, toy: Speaker) -> Speaker:
    """A model with the toy vocabulary, and with the real one."""
    if request.param == "toy":
        return toy
    found: Speaker = request.getfixturevalue("real")
    return found


@pytest.fixture(scope="module")
def answered() -> dict[Path, Spoken]:
    """What transformers said, by the bundle's folder."""
    return {}


@pytest.fixture
def expected(speaker: Speaker, answered: dict[Path, Spoken]) -> Spoken:
    """transformers' six answers, each from a run of its own."""
    folder = speaker.bundle.folder
    if folder not in answered:
        answered[folder] = transformers_answers(speaker)
    return answered[folder]


def assert_same(found: Spoken, expected: Spoken) -> None:
    assert tokens_of(found) == tokens_of(expected)
    assert compared(found, expected).max_error <= LOGIT_ERROR


@pytest.mark.parametrize("dialect", DIALECTS)
def test_six_answers_in_any_order_are_six_runs_of_transformers(
    speaker: Speaker, expected: Spoken, dialect: Dialect
) -> None:
    with opened(speaker, dialect=dialect) as reasoner:
        with shown_to(reasoner.begin(), SHOWN) as clip:
            assert_same(said(clip), expected)
            assert 0.3 < clip.kept_ratio < 0.9
        for order in ORDERS.values():
            assert_same(order(reasoner), expected)
        assert compared(leaking(reasoner), expected).max_error > 100 * LOGIT_ERROR


@pytest.mark.parametrize(("dialect", "shape"), CALLS)
def test_any_length_of_calls(speaker: Speaker, expected: Spoken, dialect: Dialect, shape: str) -> None:
    with opened(speaker, shape, dialect) as reasoner:
        assert_same(together(reasoner), expected)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_answers_by_their_forms_are_those_to_questions_asked_alone(speaker: Speaker, dialect: Dialect) -> None:
    packed, alone = by_forms(speaker, dialect)
    for task in TASK_IDS:
        assert but_probability(packed[task]) == but_probability(alone[task])
        assert packed[task].probability == pytest.approx(alone[task].probability, rel=PROBABILITY_ERROR)
    formed = [task for task in TASK_IDS if packed[task].form_share is not None]
    assert formed == [task for task in TASK_IDS if packed[task].value is not None]
    assert len(formed) == 3
    for task in formed:
        # Such a share may be smaller than the absolute error that approx takes for none.
        assert packed[task].form_share == pytest.approx(alone[task].form_share, rel=PROBABILITY_ERROR, abs=0)


def test_the_probability_of_yes_or_no_is_that_of_transformers_logits(real: Speaker, vocabulary: Path) -> None:
    tokens: dict[str, int] = json.loads((vocabulary / "vocab.json").read_text(encoding="utf-8"))
    words = {
        meaning: [tokens[space + each] for space in ("", "Ġ") for each in (word, word.lower(), word.upper())]
        for meaning, word in ((True, "Yes"), (False, "No"))
    }
    logits = transformers_answer(real, "recognition", SHOWN, 1).logits[0].astype(np.float64)
    shares = {meaning: np.exp(logits[ids]).sum() for meaning, ids in words.items()}
    with opened(real) as reasoner, shown_to(reasoner.begin(), SHOWN) as clip:
        *_, answer = clip.ask(["recognition"])
        assert clip.timings.steps == 0
    assert isinstance(answer, Answer)
    likeliest = max(words, key=lambda meaning: float(logits[words[meaning]].max()))
    assert answer.value is likeliest
    assert answer.probability == pytest.approx(shares[likeliest] / sum(shares.values()), rel=PROBABILITY_ERROR)
    assert answer.form_share == pytest.approx(sum(shares.values()) / np.exp(logits).sum(), rel=PROBABILITY_ERROR)


def test_without_compression(toy: Speaker, tmp_path: Path) -> None:
    speaker = toy.without_compression(tmp_path / "whole")
    expected = transformers_answers(speaker)
    assert tokens_of(expected) != tokens_of(transformers_answers(toy))
    with opened(speaker) as reasoner, shown_to(reasoner.begin(), SHOWN) as clip:
        assert_same(said(clip), expected)
        assert clip.kept_ratio == 1.0
