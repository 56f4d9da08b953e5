"""Whole answers of the reasoner against transformers' greedy generation: the same tokens, however they came about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from reasoner_cases import Speaker, expected_tokens, make_speaker, true_questions
from toy_speaker import STEP_S, pictures

from edge_sdk.reasoning.answer import Answer
from edge_sdk.reasoning.asking import Piece
from edge_sdk.reasoning.cache.calls import CallShape
from edge_sdk.reasoning.clip import Clip
from edge_sdk.reasoning.patches import Pixels
from edge_sdk.reasoning.reasoner import Reasoner
from edge_sdk.tasks import TASK_IDS
from edge_sdk.types import Dialect

FRAMES, TOKENS = 7, 10
SHOWN = pictures(FRAMES)
SHAPES = {
    "free": CallShape(prefill=64, step=8, rows=8),
    "fixed": CallShape(prefill=32, step=8, rows=8, fixed=True),
    "short": CallShape(prefill=3, step=3, rows=2, fixed=True),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("speakers")


@pytest.fixture(scope="module", params=["base", "merged", "switchable"])
def speaker(request: pytest.FixtureRequest, folder: Path) -> Speaker:
    return make_speaker(folder / request.param, request.param)


@pytest.fixture(scope="module")
def expected(speaker: Speaker) -> dict[str, str]:
    """transformers' six answers, each from a run of its own."""
    return texts_of(speaker, SHOWN)


def texts_of(speaker: Speaker, shown: Sequence[Pixels]) -> dict[str, str]:
    tokens = {task: expected_tokens(speaker, task, shown, TOKENS) for task in TASK_IDS}
    for found in tokens.values():
        assert len(set(found)) > TOKENS // 2, "an answer that repeats itself would prove little"
    assert len({tuple(found) for found in tokens.values()}) == len(TASK_IDS)
    return {task: speaker.tokenizer.decode(found) for task, found in tokens.items()}


def opened(speaker: Speaker, shape: str = "free", dialect: Dialect = "native") -> Reasoner:
    return Reasoner(speaker.bundle, shape=SHAPES[shape], dialect=dialect, max_tokens=TOKENS)


def shown_to(clip: Clip, shown: Sequence[Pixels], start: int = 0) -> Clip:
    for number, pixels in enumerate(shown, start):
        clip.push(pixels, STEP_S * number)
    return clip


def said(spoken: Iterable[Piece | Answer]) -> dict[str, str]:
    """The text of each answer, which its pieces must add up to."""
    everything = list(spoken)
    answers = {each.task: each.text for each in everything if isinstance(each, Answer)}
    pieces = dict.fromkeys(answers, "")
    for each in everything:
        if isinstance(each, Piece):
            pieces[each.task] += each.text
    assert pieces == answers
    return answers


@pytest.mark.parametrize("dialect", ["native", "decomposed"])
def test_six_answers_together_are_six_runs_of_transformers(
    speaker: Speaker, expected: dict[str, str], dialect: Dialect
) -> None:
    with opened(speaker, dialect=dialect) as reasoner, shown_to(reasoner.begin(), SHOWN) as clip:
        assert said(clip.ask(free=True)) == expected
        assert 0.3 < clip.kept_ratio < 0.9


@pytest.mark.parametrize("shape", ["fixed", "short"])
@pytest.mark.parametrize("dialect", ["native", "decomposed"])
def test_any_length_of_calls(speaker: Speaker, expected: dict[str, str], shape: str, dialect: Dialect) -> None:
    with opened(speaker, shape, dialect) as reasoner, shown_to(reasoner.begin(), SHOWN) as clip:
        assert said(clip.ask(free=True)) == expected


def test_one_question_at_a_time_again_and_again(speaker: Speaker, expected: dict[str, str]) -> None:
    with opened(speaker) as reasoner, shown_to(reasoner.begin(), SHOWN) as clip:
        for task in ("cause", "recognition", "crash_interval", "cause"):
            assert said(clip.ask([task], free=True)) == {task: expected[task]}


def test_a_clip_that_goes_on_after_questions_is_like_one_that_was_never_asked(
    speaker: Speaker, expected: dict[str, str]
) -> None:
    with opened(speaker) as reasoner, shown_to(reasoner.begin(), SHOWN[:4]) as clip:
        early = said(clip.ask(free=True))
        shown_to(clip, SHOWN[4:], 4)
        assert said(clip.ask(free=True)) == expected != early


def test_another_clip_in_the_same_caches_is_like_a_first_one(speaker: Speaker, expected: dict[str, str]) -> None:
    with opened(speaker) as reasoner:
        with shown_to(reasoner.begin(), pictures(9, seed=5)) as clip:
            said(clip.ask(free=True))
            clip.reset()
            assert said(shown_to(clip, SHOWN).ask(free=True)) == expected
        with shown_to(reasoner.begin(), SHOWN) as clip:
            assert said(clip.ask(free=True)) == expected


def test_without_compression(folder: Path) -> None:
    compressed = make_speaker(folder / "whole", "base")
    speaker = compressed.without_compression(folder / "whole-bundle")
    expected = texts_of(speaker, SHOWN[:4])
    assert expected != texts_of(compressed, SHOWN[:4])
    with opened(speaker) as reasoner, shown_to(reasoner.begin(), SHOWN[:4]) as clip:
        assert said(clip.ask(free=True)) == expected
        assert clip.kept_ratio == 1.0


def test_the_real_vocabulary_and_the_true_questions(shared_data: Path, tmp_path: Path) -> None:
    speaker = make_speaker(
        tmp_path, "switchable", vocabulary=shared_data / "qwen2.5-tokenizer", questions=true_questions(), slots=(1024,)
    )
    expected = texts_of(speaker, SHOWN)
    for dialect in ("native", "decomposed"):
        with opened(speaker, dialect=dialect) as reasoner, shown_to(reasoner.begin(), SHOWN) as clip:
            assert said(clip.ask(free=True)) == expected
            before = clip.timings.steps
            *_, answer = clip.ask(["recognition"])
            assert isinstance(answer, Answer)
            assert answer.text in ("Yes", "No")
            assert clip.timings.steps == before
