"""Contradictions as users meet them: through the reasoner's process, and on the command line."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from changed_worker import started_with
from command_line import last_json, sdk
from demo_pictures import CLIP
from watched_events import event

from edge_sdk.bundle import Bundle
from edge_sdk.events import CrashTimeline, State
from edge_sdk.explaining import ReasonerProcess, ReasonerSettings, Reply, child
from edge_sdk.types import Estimate

PICTURE = np.zeros((56, 84, 3), np.uint8)
# What the model says, in this order and without a doubt, whatever it is shown.
SAYS = """
from edge_sdk.reasoning import answer, clip
TOLD = {
    "recognition": ("yes_no", True, "Yes"),
    "prevention": ("text", None, "Drivers must slow down."),
    "description": ("text", None, "no collision."),
}
def ask(self, tasks, deadline_s=None, sighting=None):
    for task, (form, value, text) in TOLD.items():
        if task in tasks:
            yield answer.Answer(task=task, form=form, value=value, text=text, abstain=False)
clip.Clip.ask = ask
"""


@pytest.fixture
def process(asking: Bundle, monkeypatch: pytest.MonkeyPatch) -> ReasonerProcess:
    """It is closed by the test that uses it."""
    monkeypatch.setattr(child, "_start", started_with(SAYS))
    return ReasonerProcess(asking, ReasonerSettings(priority=0))


def test_an_answer_comes_again_when_a_later_one_belies_it(process: ReasonerProcess) -> None:
    with process, process.begin() as clip:
        clip.push(PICTURE, 0.0)
        said = [
            (item.task, item.answer.contradiction)
            for item in clip.ask(["recognition", "prevention", "description"])
            if isinstance(item, Reply)
        ]
        # "Yes" has nothing to be compared with at first; that measures agree with it is no news.
        assert said[:2] == [("recognition", None), ("prevention", False)]
        assert sorted(said[2:]) == [("description", True), ("prevention", True), ("recognition", True)]


@pytest.mark.parametrize(("state", "belied"), [("closed", False), ("rejected", True), ("provisional", None)])
def test_what_the_student_saw_is_compared(process: ReasonerProcess, state: State, belied: bool | None) -> None:
    with process, process.begin() as clip:
        clip.push(PICTURE, 0.0)
        (said,) = [item for item in clip.ask(["recognition"], events=[event("a", state)]) if isinstance(item, Reply)]
        assert said.answer.contradiction is belied


def test_the_command_line_says_that_an_answer_speaks_against_the_student() -> None:
    """The demo's model tells the crash of the demo's clip, in which this student saw none."""
    denied = msgspec.structs.replace(event("a", "rejected"), source=CLIP.absolute().as_uri())
    words = ("explain", denied.to_json(), "--task", "recognition")
    answer = last_json(sdk(*words, "--json"))["answers"]["recognition"]
    assert (answer["value"], answer["abstain"], answer["contradiction"]) == (True, False, True)
    (line,) = [line for line in sdk(*words).stdout.splitlines() if line.startswith("recognition")]
    assert line.endswith("contradicts the student or another answer)")


SEES = """
from edge_sdk.reasoning import answer, clip
def ask(self, tasks, deadline_s=None, sighting=None):
    said = "nothing" if sighting is None else f"{sighting.score} {sighting.start.t:.2f}"
    yield answer.Answer(task="description", form="text", text=said, abstain=False)
clip.Clip.ask = ask
"""


@pytest.mark.parametrize(("evidence", "said"), [(0.7, "0.7 3.50"), (None, "nothing")])
def test_what_the_student_saw_is_told_on_the_clip_s_own_clock(
    asking: Bundle, monkeypatch: pytest.MonkeyPatch, evidence: float | None, said: str
) -> None:
    """The clip says 1.5 s at the source's first frame, from which the student's 2 s count."""
    monkeypatch.setattr(child, "_start", started_with(SEES))
    line = CrashTimeline(crash_start=Estimate(t=2.0, lo=1.8, hi=2.3))
    seen = msgspec.structs.replace(event("a", "closed"), timeline=line)
    with ReasonerProcess(asking, ReasonerSettings(priority=0)) as process, process.begin() as shown:
        shown.push(PICTURE, 1.5)
        spoken = shown.ask(["description"], zero_s=1.5, events=[seen], evidence=evidence)
        (reply,) = [item for item in spoken if isinstance(item, Reply)]
    assert reply.answer.text == said
