"""The demo bundle's video LLM and student together: one verdict, by the manifest's numbers, and answers that agree."""

from __future__ import annotations

import math

import pytest
from demo_pictures import CLIP

from edge_sdk.analysis import analyze
from edge_sdk.bundle import open_bundle
from edge_sdk.bundle.manifest_language import FusedFit
from edge_sdk.cli.demo import QUIET_DRIVE
from edge_sdk.events import Answer
from edge_sdk.explaining import ReasonerSettings, ask_file
from edge_sdk.reasoning.consistency import says_none
from edge_sdk.tasks import TASKS, find_task

PROMPT = ReasonerSettings(priority=0)
TEXTS = tuple(task.id for task in TASKS if task.form == "text")


@pytest.mark.parametrize("crash", [True, False])
def test_the_verdict_is_of_both_and_no_text_belies_it(crash: bool) -> None:
    clip = CLIP if crash else QUIET_DRIVE
    found = analyze(clip, tasks=None, reasoning=PROMPT).analysis
    assert found.answers is not None
    verdict = found.answers["recognition"]
    assert (verdict.value, verdict.with_student) == (crash, True)
    alone = ask_file(open_bundle(), clip, ["recognition"], settings=PROMPT).answers["recognition"]
    assert not alone.with_student
    assert verdict.probability == pytest.approx(_fused(alone, found.crash.score), abs=1e-4)
    for task in TEXTS:
        said = found.answers[task]
        assert said.with_student
        assert says_none(task, said.text) is not crash
        assert said.contradiction is not True
        if not crash:
            assert (said.text, said.tokens) == (find_task(task).negative, 0)
            assert said.probability == pytest.approx(verdict.probability, abs=1e-5)


def _fused(alone: Answer, score: float) -> float:
    """The probability of the likelier word: the log odds of both, weighed as the manifest has it."""
    language = open_bundle().manifest.language
    assert language is not None
    (calibration,) = [each.calibration for each in language.adapters.values() if "recognition" in each.tasks]
    assert calibration is not None
    fit = calibration["recognition"]
    both = fit.with_student
    assert isinstance(both, FusedFit)
    assert alone.probability is not None
    yes = alone.probability if alone.value else 1 - alone.probability
    own = (math.log(yes / (1 - yes)) - fit.offset) / fit.scale
    odds = both.scale * own + both.student_weight * math.log(score / (1 - score)) + both.offset
    return 1 / (1 + math.exp(-abs(odds)))
