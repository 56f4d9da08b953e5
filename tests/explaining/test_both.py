"""The demo bundle's video LLM and student together: one verdict, by the manifest's numbers, and answers that agree."""

from __future__ import annotations

import math

import msgspec
import pytest
from command_line import last_json, sdk
from demo_pictures import CLIP

from edge_sdk.analysis import analyze
from edge_sdk.bundle import open_bundle
from edge_sdk.bundle.manifest_language import FusedFit
from edge_sdk.cli.demo import QUIET_DRIVE
from edge_sdk.events import Answer, Event
from edge_sdk.explaining import ReasonerSettings, ask_file
from edge_sdk.reasoning.consistency import says_none
from edge_sdk.tasks import TASKS, find_task
from edge_sdk.unit import Unit

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


def test_on_an_event_by_hand_the_model_is_alone() -> None:
    """The student's crash is in the same clip, and meets what the model says of it; of the trigger it says neither."""
    with Unit(CLIP, reasoning=PROMPT) as unit:
        found, name = [], ""
        for step in unit.steps():
            if step.frame.sequence == 20:
                name = unit.trigger()
            found += step.events
        closed = {event.trigger: event for event in [*found, *unit.finish()] if event.state == "closed"}
        assert closed["manual"].id == name
        answers = {trigger: _recognition(unit, event) for trigger, event in closed.items()}
    assert (answers["student"].with_student, answers["student"].contradiction) == (True, False)
    assert (answers["manual"].with_student, answers["manual"].contradiction) == (False, None)
    assert answers["manual"].value is True
    words = ("explain", closed["manual"].to_json(), "--task", "recognition", "--json")
    told = last_json(sdk(*words))
    assert told["answers"]["recognition"]["contradiction"] is None
    assert (told["event"]["id"], told["event"]["reasoning"]) == (name, told["answers"])


def _recognition(unit: Unit, event: Event) -> Answer:
    *_, whole = unit.explain(event, ["recognition"])
    assert isinstance(whole, Event)
    assert whole.reasoning is not None
    return whole.reasoning["recognition"]


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


def test_the_score_of_another_bundle_s_student_says_nothing() -> None:
    """Such a score, of no crash at all, would outvote the model; as with `edge-sdk explain` the model is alone."""
    with Unit(CLIP, reasoning=PROMPT) as unit:
        event = [found for step in unit.steps() for found in step.events if found.state == "closed"][-1]
        change = msgspec.structs.replace
        other = change(event, score=0.01, provenance=change(event.provenance, bundle_sha256="0" * 64))
        own, foreign = _recognition(unit, event), _recognition(unit, other)
    assert (own.value, own.with_student) == (True, True)
    assert (foreign.value, foreign.with_student) == (True, False)
