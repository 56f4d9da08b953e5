"""How often the graphs are run and with what: each picture is seen once, and who has answered costs nothing more."""

from __future__ import annotations

from collections import defaultdict

import pytest
from toy_speaker import STEP_S, ToySpeaker, make_toy_speaker, pictures

from edge_sdk.reasoning.answer import Answer
from edge_sdk.reasoning.clip import Clip
from edge_sdk.reasoning.reasoner import Reasoner
from edge_sdk.reasoning.vision_input import VisionInput
from edge_sdk.runtime import Array, Feeds, SessionOptions
from edge_sdk.runtimes.ort import OrtBound, OrtSession
from edge_sdk.tasks import TASK_IDS

SHOWN = pictures(4)
# Answers as text end at their limit in the toy model; the first token of each comes with its question.
LIMITS = {"recognition": 1, "description": 2, "cause": 6, "prevention": 4, "crash_interval": 3, "pre_crash_time": 5}


class Runs:
    """What the graphs were given: `seen` pictures, `projected` tokens by run, and each prefix's tokens by call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[int, ...]] = []
        self.projected: list[int] = []
        self.decoded: dict[int, list[int]] = defaultdict(list)
        plain, bound = OrtSession.run, OrtBound.run

        def run(session: OrtSession, feeds: Feeds) -> dict[str, Array]:
            if "patches" in feeds:
                self.seen.append(feeds["patches"].shape)
            else:
                self.projected.append(len(feeds["tokens"]))
            return plain(session, feeds)

        def run_bound(state: OrtBound, feeds: Feeds) -> dict[str, Array]:
            self.decoded[id(state)].append(feeds["embeds"].shape[1])
            return bound(state, feeds)

        monkeypatch.setattr(OrtSession, "run", run)
        monkeypatch.setattr(OrtBound, "run", run_bound)


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> ToySpeaker:
    return make_toy_speaker(tmp_path_factory.mktemp("speaker"), "switchable")


def show(clip: Clip) -> Clip:
    for number, pixels in enumerate(SHOWN):
        clip.push(pixels, STEP_S * number)
    return clip


def test_adapters_share_what_the_vision_tower_saw(speaker: ToySpeaker, monkeypatch: pytest.MonkeyPatch) -> None:
    with Reasoner(speaker.bundle) as reasoner, reasoner.begin() as clip:
        runs = Runs(monkeypatch)
        show(clip)
    assert len(speaker.models) == 2
    assert [shape[:1] for shape in runs.seen] == [(1,)] * len(SHOWN)
    # Each adapter has a projector of its own, which is given the same tokens.
    assert len(runs.projected) == 2 * len(SHOWN)
    assert runs.projected[::2] == runs.projected[1::2]


def test_a_branch_that_has_answered_is_in_no_later_call(speaker: ToySpeaker, monkeypatch: pytest.MonkeyPatch) -> None:
    language = speaker.bundle.manifest.language
    assert language is not None
    with Reasoner(speaker.bundle, max_tokens=LIMITS) as reasoner, show(reasoner.begin()) as clip:
        runs = Runs(monkeypatch)
        said = [each for each in clip.ask(free=True) if isinstance(each, Answer)]
    assert {each.task: each.text for each in said} == {
        task: speaker.greedy(task, SHOWN, LIMITS[task]) for task in TASK_IDS
    }
    wanted = []
    for adapter in language.adapters.values():
        lengths = [LIMITS[task] - 1 for task in adapter.tasks]
        wanted.append([sum(length > step for length in lengths) for step in range(max(lengths))])
    assert len(wanted) == len(runs.decoded) == 2
    for expected, calls in zip(wanted, runs.decoded.values(), strict=True):
        assert calls[-len(expected) :] == expected, "a token of each branch that goes on"
        assert min(calls[: -len(expected)]) > len(language.adapters), "questions before them"


@pytest.mark.parametrize(("wanted", "threads"), [(0, 1), (1, 1), (3, 3)])
def test_pictures_are_made_ready_by_as_many_threads_as_were_asked_for(
    speaker: ToySpeaker, monkeypatch: pytest.MonkeyPatch, wanted: int, threads: int
) -> None:
    made: list[int] = []
    native = VisionInput.from_rgb

    def from_rgb(self: VisionInput, pixels: Array) -> Array:
        made.append(self.threads)
        return native(self, pixels)

    monkeypatch.setattr(VisionInput, "from_rgb", from_rgb)
    with Reasoner(speaker.bundle, options=SessionOptions(threads=wanted)) as reasoner:
        show(reasoner.begin())
    assert made == [threads] * len(SHOWN)
