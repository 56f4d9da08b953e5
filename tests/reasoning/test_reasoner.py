"""A reasoner when things go wrong: every fault is one clear error or an answer that abstains, and what follows it is
as if it had not been.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from math import ceil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from asking_bundles import watching
from memory_use import anonymous_mb
from safetensors.numpy import load_file, save_file
from toy_speaker import STEP_S, ToySpeaker, make_toy_speaker, pictures

from edge_sdk.bundle import Bundle, rewrite
from edge_sdk.errors import BundleError, Cancelled, ConfigError, RuntimeFailure, UnknownNameError
from edge_sdk.reasoning.answer import Answer
from edge_sdk.reasoning.asking import Piece
from edge_sdk.reasoning.cache.calls import CallShape
from edge_sdk.reasoning.clip import Clip
from edge_sdk.reasoning.patches import Pixels
from edge_sdk.reasoning.reasoner import Reasoner
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import Session
from edge_sdk.tasks import TASK_IDS

TOKENS = 6
SLOTS = (160, 192, 1024)
SHAPE = CallShape(prefill=48, step=8, rows=8)
SHOWN = pictures(5)
Read = dict[str, tuple[str, int]]


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> ToySpeaker:
    return make_toy_speaker(tmp_path_factory.mktemp("speaker"), "switchable", slots=SLOTS)


@pytest.fixture(scope="module")
def reasoner(speaker: ToySpeaker) -> Iterable[Reasoner]:
    with opened(speaker) as reasoner:
        yield reasoner


@pytest.fixture
def clip(reasoner: Reasoner) -> Iterable[Clip]:
    with reasoner.begin() as clip:
        yield clip


@pytest.fixture(scope="module")
def expected(speaker: ToySpeaker) -> Read:
    with opened(speaker) as reasoner, reasoner.begin() as clip:
        return asked(show(clip))


def opened(speaker: ToySpeaker, **settings: object) -> Reasoner:
    return Reasoner(speaker.bundle, **{"max_tokens": TOKENS, "shape": SHAPE, **settings})  # type: ignore[arg-type]


def show(clip: Clip, shown: list[Pixels] = SHOWN) -> Clip:
    for number, pixels in enumerate(shown):
        clip.push(pixels, STEP_S * number)
    return clip


def asked(clip: Clip, tasks: list[str] | None = None) -> Read:
    """Text and number of tokens of each answer, all forms read as text: random weights keep to none."""
    return texts(clip.ask(tasks, free=True))


def texts(spoken: Iterable[Piece | Answer]) -> Read:
    return {task: (answer.text, answer.tokens) for task, answer in answers(spoken).items()}


def answers(spoken: Iterable[Piece | Answer]) -> dict[str, Answer]:
    return {each.task: each for each in spoken if isinstance(each, Answer)}


def test_a_clip_without_frames_is_refused(clip: Clip) -> None:
    with pytest.raises(ConfigError, match="expected a clip with at least 1 frame to ask about, found none"):
        clip.ask()


def test_one_frame_is_enough(clip: Clip) -> None:
    found = answers(show(clip, SHOWN[:1]).ask())
    assert found.keys() == set(TASK_IDS)
    assert all(answer.grid == "84x56" for answer in found.values())


def test_a_frame_too_many_is_refused_and_the_clip_stays(speaker: ToySpeaker, expected: Read) -> None:
    language = speaker.bundle.manifest.language
    assert language is not None
    profile = msgspec.structs.replace(language.profiles["96f"], frames=5)
    few = msgspec.structs.replace(language, profiles={"5f": profile})
    manifest = msgspec.structs.replace(speaker.bundle.manifest, language=few)
    with Reasoner(msgspec.structs.replace(speaker.bundle, manifest=manifest), max_tokens=TOKENS) as reasoner:
        clip = show(reasoner.begin())
        with pytest.raises(ConfigError, match="expected at most 5 frames, the most of this profile, found one more"):
            clip.push(SHOWN[0], 1.0)
        assert asked(clip) == expected


def test_a_clip_that_fills_the_slots_is_refused_with_the_numbers(speaker: ToySpeaker) -> None:
    small = opened(speaker, max_memory_mb=budget_of(speaker, 160))
    with small as reasoner, reasoner.begin() as clip:
        message = (
            r"expected room for \d+ tokens, found \d+ free of 160 slots, where the clip has \d+.*graph of 192 slots"
        )
        shown = pictures(40, seed=3)
        with pytest.raises(ConfigError, match=message):
            show(clip, shown)
        frames = clip.frames
        assert 3 < frames < 40
        before = (clip.kept_ratio, clip.timings.weight_reads)
        with pytest.raises(ConfigError, match=message):
            clip.push(shown[frames], frames * STEP_S)
        assert (clip.frames, clip.kept_ratio, clip.timings.weight_reads) == (frames, *before)
        with pytest.raises(ConfigError, match=r"expected room for \d+ tokens, found \d+ free of 160 slots"):
            clip.ask()


def budget_of(speaker: ToySpeaker, slots: int) -> float:
    """A memory budget that just suffices for two caches of `slots`."""
    with opened(speaker) as reasoner:
        layers, kept, kv_heads, head_dim, float_bytes, mask_bytes = 2, 2, 2, 8, 4, SHAPE.prefill
        a_slot = layers * kept * kv_heads * head_dim * float_bytes + mask_bytes
        return reasoner.memory_mb - 2 * a_slot * (SLOTS[-1] - slots) / 1e6


def test_questions_that_do_not_fit_together_are_asked_one_after_the_other(speaker: ToySpeaker, expected: Read) -> None:
    with opened(speaker) as reasoner, reasoner.begin() as clip:
        asked(show(clip))
        together = clip.timings
        assert together.rounds == 1
    with opened(speaker, max_memory_mb=budget_of(speaker, 192)) as reasoner, reasoner.begin() as clip:
        assert asked(show(clip)) == expected
        assert clip.timings.steps > together.steps
        assert clip.timings.rounds > 1


def test_a_budget_that_is_too_small_is_refused_before_anything_is_opened(speaker: ToySpeaker) -> None:
    if "native" not in open_runtime("ort").dialects:
        pytest.skip("this onnxruntime runs no native graphs, whose bytes are counted here: they came with 1.25")
    smallest = budget_of(speaker, 160)
    message = (
        f"expected a memory budget of at least {ceil(smallest)} MB, for weights and caches of 160 slots, found 1.0 MB"
    )
    with pytest.raises(ConfigError, match=message):
        opened(speaker, max_memory_mb=1.0)
    with opened(speaker, max_memory_mb=smallest) as reasoner:
        assert {graph.slots for graph in reasoner.fit.decoders.values()} == {160}
        assert reasoner.memory_mb == pytest.approx(smallest)


def test_a_profile_that_does_not_open_leaves_the_others(speaker: ToySpeaker, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(speaker) as reasoner:
        own = reasoner.profile
        language = speaker.bundle.manifest.language
        assert language is not None
        other = next(name for name in language.profiles if name != own)

        def fails(name: str) -> Session:
            raise RuntimeFailure(f"{name}: no room")

        with monkeypatch.context() as broken:
            broken.setattr(reasoner, "_open", fails)
            with pytest.raises(RuntimeFailure, match="no room"):
                reasoner.begin(other)
        with reasoner.begin(own) as clip:
            assert len(answers(show(clip).ask())) == len(TASK_IDS)


class Stopper:
    """Stops the work at its chunk `number`, once."""

    def __init__(self, number: int) -> None:
        self.left, self.stopped = number, False

    def __call__(self) -> None:
        self.left -= 1
        if not self.left:
            self.stopped = True
            raise Cancelled("nobody waits")


def push_anyhow(clip: Clip, pixels: Pixels, time_s: float) -> None:
    frames = clip.frames
    with suppress(Cancelled):
        clip.push(pixels, time_s)
    if clip.frames == frames:
        clip.push(pixels, time_s)


def test_work_that_is_stopped_at_any_chunk_can_be_taken_up(reasoner: Reasoner, expected: Read) -> None:
    for at in count(1):
        stopper = Stopper(at)
        with reasoner.begin(on_chunk=stopper) as clip:
            for number, pixels in enumerate(SHOWN):
                push_anyhow(clip, pixels, number * STEP_S)
            with suppress(Cancelled):
                assert asked(clip) == expected
            if not stopper.stopped:
                break
            assert asked(clip) == expected, f"stopped at chunk {at}"
    assert at > 10


def test_a_clip_that_is_asked_cannot_be_asked_again_or_shown_more(clip: Clip, expected: Read) -> None:
    show(clip)
    first, second = clip.ask(free=True), clip.ask(free=True)
    next(first)
    for attempt in (lambda: next(second), clip.ask, clip.reset, lambda: clip.push(SHOWN[0], 1.0)):
        with pytest.raises(ConfigError, match="this clip is still answering; read its answers to the end, or close"):
            attempt()
    first.close()
    assert asked(clip) == expected


def test_answers_that_nobody_reads_to_the_end_leave_nothing_behind(reasoner: Reasoner, expected: Read) -> None:
    with show(reasoner.begin()) as clip:
        left = clip.ask(free=True)
        for _ in range(4):
            next(left)
    assert list(left) == []
    with show(reasoner.begin()) as clip:
        assert asked(clip) == expected


def test_all_that_was_asked_of_a_clip_ends_with_it(reasoner: Reasoner, expected: Read) -> None:
    """Also where one was asked for and another read."""
    with show(reasoner.begin()) as clip:
        first, second = clip.ask(free=True), clip.ask(free=True)
        next(first)
    with show(reasoner.begin()) as other:
        assert list(first) == list(second) == []
        assert asked(other) == expected


def test_answers_are_of_the_clip_as_it_is_when_they_are_read(clip: Clip, expected: Read) -> None:
    show(clip, SHOWN[:3])
    late = clip.ask(free=True)
    for number in (3, 4):
        clip.push(SHOWN[number], STEP_S * number)
    assert texts(late) == expected
    late = clip.ask(free=True)
    clip.reset()
    with pytest.raises(ConfigError, match="at least 1 frame"):
        next(late)


def test_one_clip_at_a_time(reasoner: Reasoner) -> None:
    clip = reasoner.begin()
    with pytest.raises(ConfigError, match="a clip is open already"):
        reasoner.begin()
    clip.close()
    clip.close()
    with pytest.raises(ConfigError, match="this clip is closed"):
        clip.push(SHOWN[0], 0.0)
    reasoner.begin().close()


def test_a_deadline_gives_what_there_is(clip: Clip, expected: Read) -> None:
    show(clip)
    late = answers(clip.ask(free=True, deadline_s=0.0))
    assert late.keys() == expected.keys()
    assert all(answer.abstain and not answer.text for answer in late.values())
    assert texts(clip.ask(free=True, deadline_s=600.0)) == expected


def test_an_answer_that_does_not_end_is_cut_and_abstains(clip: Clip) -> None:
    show(clip)
    found = answers(clip.ask(free=True))
    assert all(answer.abstain and answer.tokens == TOKENS - 1 for answer in found.values())
    assert clip.timings.steps <= 2 * TOKENS


def test_each_task_has_the_length_it_is_given(speaker: ToySpeaker) -> None:
    with opened(speaker, max_tokens={"cause": 2, "prevention": 4}) as reasoner, show(reasoner.begin()) as clip:
        found = answers(clip.ask(["cause", "prevention"], free=True))
        assert {task: answer.tokens for task, answer in found.items()} == {"cause": 1, "prevention": 3}
    with pytest.raises(UnknownNameError, match="unknown task 'weather'"):
        opened(speaker, max_tokens={"weather": 2})


def test_every_form_is_read(clip: Clip) -> None:
    found = answers(show(clip).ask())
    assert isinstance(found["recognition"].value, bool)
    assert 0.0 <= float(str(found["pre_crash_time"].value)) <= 0.5
    start, end = found["crash_interval"].value  # type: ignore[misc]
    # a moment may follow the last frame by as much as frames lie apart
    assert 0.0 <= start <= end <= 0.5
    assert found["cause"].value is None


def test_logits_that_are_not_numbers_fail_the_request_and_not_the_next(
    speaker: ToySpeaker, expected: Read, tmp_path: Path
) -> None:
    broken = with_lora(speaker.bundle, tmp_path, 1e38)
    with Reasoner(broken, max_tokens=TOKENS) as reasoner:
        clip = show(reasoner.begin())
        with pytest.raises(RuntimeFailure, match=r"recognition|description|cause|prevention"):
            asked(clip)
        clip.reset()
        show(clip)
        assert asked(clip, ["crash_interval"]) == {"crash_interval": expected["crash_interval"]}


def with_lora(bundle: Bundle, folder: Path, value: float) -> Bundle:
    """A copy whose linguistic adapter has one matrix full of `value`."""
    name = "language/lora.linguistic.safetensors"
    values = load_file(bundle.path(name))
    values["lora.0.q.b"] = np.full_like(values["lora.0.q.b"], value)
    save_file(values, folder / "lora.safetensors")
    return rewrite(bundle, folder / "bundle", extra_files={name: folder / "lora.safetensors"})


def test_pictures_and_times_are_checked(reasoner: Reasoner) -> None:
    with reasoner.begin(source=(84, 56)) as clip:
        clip.push(SHOWN[0], 0.5)
        with pytest.raises(
            ConfigError, match=re.escape("expected the time of a frame in seconds from 0.5 on, found 0.4")
        ):
            clip.push(SHOWN[1], 0.4)
        with pytest.raises(ConfigError, match="found nan"):
            clip.push(SHOWN[1], np.nan)
        with pytest.raises(ConfigError, match="expected pictures of 84x56, found 56x84"):
            clip.push(SHOWN[1].transpose(1, 0, 2), 0.6)
        with pytest.raises(ConfigError, match="expected a picture uint8"):
            clip.push(SHOWN[1].astype(np.float32), 0.6)
        assert clip.frames == 1


def test_names_are_checked(speaker: ToySpeaker, clip: Clip) -> None:
    show(clip)
    with pytest.raises(UnknownNameError, match="unknown task of this bundle 'weather'; known: cause"):
        clip.ask(["weather"])
    for wrong in ([], ["cause", "cause"]):
        with pytest.raises(ConfigError, match="expected 1 task or more, each once"):
            clip.ask(wrong)
    with pytest.raises(UnknownNameError, match="unknown profile of this bundle '12f'; known: 48f, 96f"):
        opened(speaker, profile="12f")
    with pytest.raises(ConfigError, match="answers of at least 1 token"):
        opened(speaker, max_tokens=0)


def test_a_bundle_that_cannot_speak_is_refused(speaker: ToySpeaker, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="has no language model"):
        Reasoner(watching())
    folder = tmp_path / "bundle"
    shutil.copytree(speaker.bundle.folder, folder)
    prompts = folder / "language/prompts.json"
    prompts.write_text('{"cause": {}}')
    with pytest.raises(BundleError, match="expected the text of every question"):
        Reasoner(msgspec.structs.replace(speaker.bundle, folder=folder))


def test_each_clip_has_the_profile_it_asks_for(reasoner: Reasoner, expected: Read) -> None:
    with show(reasoner.begin("48f")) as clip:
        small = answers(clip.ask(free=True))
        assert {answer.grid for answer in small.values()} == {"56x28"}
    with show(reasoner.begin()) as clip:
        assert asked(clip) == expected


def test_times_and_calls_are_told(clip: Clip) -> None:
    show(clip)
    before = clip.timings
    assert before.vision_ms > 0
    assert before.prefill_ms > 0
    assert before.decode_ms == before.steps == 0
    asked(clip)
    after = clip.timings
    assert 0 < after.first_answer_ms <= after.after_last_frame_ms
    assert 0 < after.questions_ms < after.after_last_frame_ms
    # two adapters, each with one step for every token but the first
    assert after.steps == 2 * (TOKENS - 1)
    assert after.weight_reads > after.steps
    clip.reset()
    assert clip.timings == type(before)()


@pytest.mark.native
def test_many_requests_leak_nothing(speaker: ToySpeaker) -> None:
    with opened(speaker, max_tokens=2) as reasoner:
        for number in range(200):
            with show(reasoner.begin(), SHOWN[:2]) as clip:
                assert len(asked(clip)) == len(TASK_IDS)
            if number == 100:
                before = anonymous_mb()
        assert anonymous_mb() - before < 3
