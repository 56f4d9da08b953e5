"""Whole answers out of caches against a model without any: the same text, however it came about.

transformers' own answers are compared where torch is; see `tests/export/test_reasoner_parity.py`.
"""

from __future__ import annotations

import pytest
from toy_speaker import DIALECTS, STEP_S, Kind, ToySpeaker, make_toy_speaker, pictures

from edge_sdk.engine.tensorrt_library import runtime_dialects
from edge_sdk.reasoning.answer import Answer
from edge_sdk.reasoning.asking import Piece
from edge_sdk.reasoning.cache.calls import CallShape
from edge_sdk.reasoning.clip import Clip
from edge_sdk.reasoning.reasoner import Reasoner
from edge_sdk.tasks import TASK_IDS
from edge_sdk.types import Dialect

TOKENS = 10
SHOWN = pictures(7)
SHAPES = {
    "free": CallShape(prefill=64, step=8, rows=8),
    "fixed": CallShape(prefill=32, step=8, rows=8, fixed=True),
    "short": CallShape(prefill=3, step=3, rows=2, fixed=True),
    "few slots": CallShape(prefill=8, step=8, rows=8, slot_step=16),
}
KINDS: tuple[Kind, ...] = ("base", "merged", "switchable")


@pytest.fixture(scope="module", params=KINDS)
def speaker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ToySpeaker:
    return make_toy_speaker(tmp_path_factory.mktemp("speakers"), request.param)


@pytest.fixture(scope="module")
def expected(speaker: ToySpeaker) -> dict[str, str]:
    found = {task: speaker.greedy(task, SHOWN, TOKENS) for task in TASK_IDS}
    assert len(set(found.values())) == len(TASK_IDS)
    return found


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    chosen: Dialect = request.param
    if chosen not in runtime_dialects("ort"):
        pytest.skip(f"this release of onnxruntime does not read {chosen} graphs")
    return chosen


def said(clip: Clip, tasks: list[str] | None = None) -> dict[str, str]:
    """The text of each answer, which its pieces must add up to."""
    everything = list(clip.ask(tasks, free=True))
    answers = {each.task: each.text for each in everything if isinstance(each, Answer)}
    for task, text in answers.items():
        assert "".join(each.text for each in everything if isinstance(each, Piece) and each.task == task) == text
    return answers


def show(clip: Clip, first: int = 0, end: int = len(SHOWN)) -> Clip:
    for number in range(first, end):
        clip.push(SHOWN[number], STEP_S * number)
    return clip


@pytest.mark.parametrize("shape", SHAPES)
def test_six_answers_together_are_six_of_a_model_without_a_cache(
    speaker: ToySpeaker, expected: dict[str, str], dialect: Dialect, shape: str
) -> None:
    opened = Reasoner(speaker.bundle, dialect=dialect, shape=SHAPES[shape], max_tokens=TOKENS)
    with opened as reasoner, show(reasoner.begin()) as clip:
        assert said(clip) == expected
        assert said(clip, ["cause", "crash_interval"]) == {task: expected[task] for task in ("cause", "crash_interval")}
        assert 0.3 < clip.kept_ratio < 0.9


def test_a_clip_that_goes_on_after_questions_is_like_one_that_was_never_asked(
    speaker: ToySpeaker, expected: dict[str, str], dialect: Dialect
) -> None:
    with Reasoner(speaker.bundle, dialect=dialect, max_tokens=TOKENS) as reasoner, reasoner.begin() as clip:
        early = said(show(clip, end=4))
        assert early == {task: speaker.greedy(task, SHOWN[:4], TOKENS) for task in TASK_IDS}
        assert said(show(clip, first=4)) == expected != early
        clip.reset()
        assert said(show(clip)) == expected
