"""A whole course at a tiny size: its checkpoints are read as the public ones are, and its bundle answers as it does."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mini_material
import msgspec
import pytest
import torch
import toy_bundle
from checkpoint_makers import canonical_state, merged_model

from edge_sdk.bundle import Bundle
from edge_sdk.errors import ConfigError
from edge_sdk.export.adapters import Adapter, Merged
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.export_recipe import settle
from edge_sdk.export.mini.answering import Answerer
from edge_sdk.export.mini.checkpoints import save_adapter, save_base
from edge_sdk.export.mini.course import Course
from edge_sdk.export.mini.examples import Example, Writer
from edge_sdk.export.mini.material import Material
from edge_sdk.export.mini.questions import Pair
from edge_sdk.export.mini.tuning import tasks_of
from edge_sdk.export.mini.windows import Shot, whole
from edge_sdk.export.pipeline import run_export
from edge_sdk.reasoning.reasoner import Reasoner
from edge_sdk.tasks import AdapterKind, find_task

CLIPS = mini_material.clips(2)
RECIPE = mini_material.small_recipe()


class Finished(NamedTuple):
    """A course that was run, its base and its adapters as models, and the folder with their checkpoints."""

    course: Course
    base: Any
    tuned: dict[str, Any]
    folder: Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("course")
    course = Course(RECIPE, CLIPS, folder / "work", lambda *_: None)
    base = course.base
    with torch.no_grad():  # two steps leave answers that repeat one token
        for parameter in base.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    tuned = {kind: course.adapter(kind) for kind in ("linguistic", "perception")}
    save_base(base, course.vocabulary, folder / "base")
    for kind, model in tuned.items():
        save_adapter(model, folder / "base", folder / kind)
    return Finished(course, base, tuned, folder)


def test_the_base_is_read_as_a_public_checkpoint(finished: Finished) -> None:
    checkpoint = Checkpoint.open(finished.folder / "base")
    assert checkpoint.layout.name == "videollama3"
    expected = canonical_state(finished.base)
    assert set(checkpoint.names()) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(checkpoint.tensor(name), tensor.detach(), rtol=0, atol=0)
    assert not checkpoint.config.compression
    assert checkpoint.config.tokens.image == finished.course.tokenizer.control.image


@pytest.mark.parametrize("kind", ["linguistic", "perception"])
def test_an_adapter_is_read_as_crashchats_own(finished: Finished, kind: str) -> None:
    checkpoint, adapter = Checkpoint.open(finished.folder / "base"), Adapter.open(finished.folder / kind)
    assert adapter.config.scale == 0.25
    assert adapter.dropped == 3 * RECIPE.sizes.tower_layers  # q, k and v of the frozen tower, by their suffixes
    assert len(adapter.linears) == 7
    merged = Merged(checkpoint, adapter)
    for name, tensor in canonical_state(merged_model(finished.tuned[kind])).items():
        torch.testing.assert_close(merged.tensor(name), tensor.detach(), rtol=1e-5, atol=1e-6)


def test_only_what_crashchat_trains_has_moved(finished: Finished) -> None:
    before = canonical_state(finished.base)
    after = canonical_state(merged_model(finished.tuned["linguistic"]))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not {name for name in moved if name.startswith(("vision.", "decoder.embed"))}
    assert sum(name.startswith("projector.") for name in moved) == 4
    assert sum(name.startswith("decoder.layers.") for name in moved) == 7 * RECIPE.sizes.decoder_layers


def test_a_second_course_takes_up_what_the_first_has_made(finished: Finished) -> None:
    steps: list[str] = []
    again = Course(RECIPE, CLIPS, finished.folder / "work", lambda done, total, note: steps.append(note))
    expected = torch.load(next((finished.folder / "work").glob("tower-*.pt")), weights_only=True)["weights"]
    found = again.seeing.model.vision_model.state_dict()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[f"vision.{name}"], rtol=0, atol=0)
    assert again.base is again.seeing
    assert not steps


@pytest.fixture(scope="module")
def bundle(finished: Finished) -> Bundle:
    order = settle(
        finished.folder / "base",
        adapters=tuple(f"{kind}={finished.folder / kind}" for kind in finished.tuned),
        recipe="crashchat-mini",
        dtype="float32",
        dialects=("native",),
    )
    run_export(order, finished.folder / "bundle", quiet=True)
    return Bundle.open(finished.folder / "bundle")


def test_a_bundle_answers_as_the_model_in_training_does(finished: Finished, bundle: Bundle) -> None:
    [clip, *_] = CLIPS
    shot, pictures, course = whole(clip, finished.course.profile), clip.pictures.rgb, finished.course
    with Reasoner(bundle, max_tokens=24) as reasoner, reasoner.begin() as shown:
        for picture, time_s in zip(shot.pictures, shot.stamps_s, strict=True):
            shown.push(pictures[picture], time_s)
        said = {answer.task: answer.text for answer in shown.ask(free=True) if hasattr(answer, "probability")}
    for kind, model in finished.tuned.items():
        answerer = Answerer(model, course.tokenizer, course.writer, course.profile, course.tower, most=24)
        expected, sure = answerer.answers(clip, tasks_of(kind))
        assert {task: said[task] for task in expected} == expected
        assert len(set("".join(expected.values()))) > 3, "answers that repeat one character would prove little"
        assert (sure is None) == (kind == "perception")


def test_the_recipe_is_the_checkpoints_name(finished: Finished) -> None:
    longer = msgspec.structs.replace(RECIPE, perception=msgspec.structs.replace(RECIPE.perception, questions=1))
    names = {path.name for path in (finished.folder / "work").glob("*.pt")}
    steps: list[str] = []
    Course(longer, CLIPS, finished.folder / "work", lambda done, total, note: steps.append(note)).adapter("perception")
    assert {path.name for path in (finished.folder / "work").glob("*.pt")} > names
    assert all(note.startswith("perception") for note in steps)


def test_training_goes_on_from_a_bundle(finished: Finished, bundle: Bundle, tmp_path: Path) -> None:
    still = msgspec.structs.replace(RECIPE, tower=msgspec.structs.replace(RECIPE.tower, learning_rate=0.0))
    course = Course(still, CLIPS, tmp_path, lambda *_: None, start=bundle)
    found, before = canonical_state(course.seeing), canonical_state(finished.base)
    tuned = canonical_state(merged_model(finished.tuned["linguistic"]))
    assert set(found) == set(before)
    for name, tensor in found.items():
        expected = tuned if name.startswith("projector.") else before
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
    assert course.vocabulary.read_bytes() == finished.course.vocabulary.read_bytes()
    assert not {path.name for path in tmp_path.glob("*.pt")} & {
        path.name for path in (finished.folder / "work").glob("*.pt")
    }


def test_a_bundle_of_other_sizes_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    larger = msgspec.structs.replace(RECIPE, sizes=msgspec.structs.replace(RECIPE.sizes, decoder_layers=2))
    with pytest.raises(ConfigError, match=r"layers\.1.*sizes must be those of the bundle"):
        _ = Course(larger, CLIPS, tmp_path, lambda *_: None, start=bundle).seeing


def test_a_bundle_without_a_video_llm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no video LLM"):
        _ = Course(RECIPE, CLIPS, tmp_path, lambda *_: None, start=toy_bundle.write(tmp_path / "toy")).seeing


@pytest.mark.parametrize(("kind", "driving"), [("linguistic", 3), ("perception", 0)])
def test_questions_of_the_pre_training_go_with_the_adapters_own(
    finished: Finished, tmp_path: Path, kind: AdapterKind, driving: int
) -> None:
    tuning = msgspec.structs.replace(getattr(RECIPE, kind), driving=driving, dropout=0.1)
    recipe = msgspec.structs.replace(RECIPE, **{kind: tuning})
    seen: list[set[str]] = []
    known = Writer.example

    def spy(self: Writer, clip: Material, shot: Shot, pairs: Sequence[Pair]) -> Example:
        seen.append({question for question, _ in pairs})
        return known(self, clip, shot, pairs)

    shutil.copytree(finished.folder / "work", tmp_path / "work")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Writer, "example", spy)
        Course(recipe, CLIPS, tmp_path / "work", lambda *_: None).adapter(kind)
    own = {find_task(task).prompt for task in tasks_of(kind)}
    assert seen
    for asked in seen:
        assert len(asked - own) == driving
        assert ("Does anything touch?" in asked) == (driving > 0)
        assert 1 <= len(asked & own) <= tuning.questions
