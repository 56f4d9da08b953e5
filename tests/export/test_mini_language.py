"""`make_language` from rendered scenes to a judged bundle, and what another run in the same work folder may take up."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import mini_material
import pytest
import torch
from safetensors.torch import load_file
from scene_needs import need_drawing, need_encoding

from edge_sdk.bundle import Bundle, rewrite
from edge_sdk.calibration.scenes.render import render
from edge_sdk.calibration.scenes.truth import write_truths
from edge_sdk.clips import read_scenes
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.export.mini import language
from edge_sdk.export.mini.answering import Answerer
from edge_sdk.export.mini.language import Trained, train_language
from edge_sdk.export.mini.recipe import Recipe, load_recipe
from edge_sdk.toolchain.language_training import LanguageReport, make_language
from edge_sdk.toolchain.seen_scenes import language_trained_on

LINEARS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
ADAPTERS = ("linguistic", "perception")
# One of the two scenes of `Made.second` is among these.
SEEN = 'training = [{ family = "close", first = 20000035, count = 4, fps = 4.0 }]'


def adapters_alone(text: str) -> str:
    """The recipe `text` without what comes before its adapters."""
    found, count = re.subn(r"^\[tower\].*?(?=^\[linguistic\])", "", text, flags=re.DOTALL | re.MULTILINE)
    assert count == 1
    return found


class Made(NamedTuple):
    """A run of `make_language` on the scenes of `first`, which answered one of the two of `second`.

    `checkpoints` are what it came to before the export.
    """

    report: LanguageReport
    recipe: Recipe
    recipe_file: Path
    work: Path
    checkpoints: Path
    first: Path
    second: Path


@pytest.fixture(scope="module", autouse=True)
def short_answers() -> Iterator[None]:
    """What hardly a step has taught runs to the longest answer."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(language, "Answerer", partial(Answerer, most=3))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    need_drawing()
    need_encoding()
    place = tmp_path_factory.mktemp("language")
    # A crash; then one of another kind, and a scene without any.
    scenes = {"first": [20000009], "second": [20000033, 20000035]}
    for name, seeds in scenes.items():
        render(seeds, place / name, fps=4.0, size=(160, 96), jobs=1, family="close")
        write_truths(place / name)
    file, first, second = place / "small.toml", place / "first", place / "second"
    file.write_text(mini_material.small_text(), encoding="utf-8")
    report = make_language(
        str(file), place / "work", place / "bundle", training=first, held_out=second, most=1, quiet=True
    )
    assert report
    [checkpoints] = (place / "work").glob("checkpoints-*")
    return Made(report, load_recipe(file)[0], file, place / "work", checkpoints, first, second)


def again(made: Made, training: Path, held_out: Path, most: int | None = None) -> tuple[Trained, list[str]]:
    """Another run in the same work folder, and what it reported but decoding."""
    notes: list[str] = []

    def report(done: int, total: int, note: str) -> None:
        notes.append(note)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(language, "draw_curves", lambda *_: None)
        found = train_language(made.recipe, training, held_out, made.work, report, most=most)
    return found, [note for note in notes if note != "decode"]


def answered(found: Trained) -> list[set[str]]:
    """The clips that base and adapters have answered."""
    return [set(json.loads(Path(path).read_text())) for path in found.predictions.values()]


@pytest.mark.parametrize("kind", ADAPTERS)
def test_the_bundle_s_adapters_are_what_their_stages_learnt(made: Made, kind: str) -> None:
    bundle = Bundle.open(made.report.bundle)
    assert bundle.manifest.language
    lora = bundle.manifest.language.adapters[kind].lora
    assert lora
    [stage] = made.work.glob(f"{kind}-*.pt")
    learnt = torch.load(stage, weights_only=True)["weights"]
    found = load_file(bundle.path(lora))
    assert len(found) == 2 * len(LINEARS)
    for name, public in LINEARS.items():
        a, b = (
            learnt[f"model.base_model.model.model.language_model.layers.0.{public}.lora_{each}.default.weight"]
            for each in "AB"
        )
        assert b.abs().max() > 1e-4, "a stage that learns nothing would prove nothing"
        torch.testing.assert_close(found[f"lora.0.{name}.a"].float(), a.T, rtol=2e-3, atol=1e-6)
        torch.testing.assert_close(found[f"lora.0.{name}.b"].float(), b.T * 0.25, rtol=2e-3, atol=1e-6)


def test_what_is_judged_are_the_clips_that_were_asked(made: Made) -> None:
    assert made.report.seconds.keys() == {"tower", "language-1", "language-2", *ADAPTERS}
    assert all(scores["recognition"] is not None for scores in made.report.scores.values())
    assert all(Path(table).stat().st_size > 100 for table in made.report.tables.values())


def test_a_bundle_says_how_its_video_llm_was_made(made: Made, tmp_path: Path) -> None:
    own = Bundle.open(made.report.bundle)
    text = made.recipe_file.read_text(encoding="utf-8")
    known = own.manifest.provenance["language"]
    assert known.keys() == {"recipe", "clips_sha256", "training_clips"}
    assert (known["recipe"], known["training_clips"]) == (text, 1)
    # As `calibrate --answers` writes a bundle.
    calibrated = rewrite(own, tmp_path / "calibrated", provenance={"answer_calibration": {"clips": 9}})
    onward, out = tmp_path / "onward.toml", tmp_path / "out"
    onward.write_text(text.replace('name = "language-mini"', 'name = "onward"'), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(language, "draw_curves", lambda *_: None)
        scenes = {"training": made.second, "held_out": made.second}
        make_language(str(onward), made.work, out, **scenes, start=calibrated.folder, most=1, quiet=True)
    found = Bundle.open(out).manifest.provenance["language"]
    assert (found["recipe"], found["training_clips"]) == (onward.read_text(encoding="utf-8"), 2)
    assert found["clips_sha256"] != known["clips_sha256"]
    assert found["start"] == {"bundle": own.manifest.name, "sha256": calibrated.sha256, "language": known}


def test_adapters_alone_are_tuned_over_a_base_that_stays(made: Made, tmp_path: Path) -> None:
    own, file = Bundle.open(made.report.bundle), tmp_path / "adapters.toml"
    file.write_text(adapters_alone(made.recipe_file.read_text(encoding="utf-8")), encoding="utf-8")
    scenes = {"training": made.second, "held_out": made.second}
    report = make_language(
        str(file), tmp_path / "work", tmp_path / "out", **scenes, start=own.folder, most=1, quiet=True
    )
    assert report
    assert report.seconds.keys() == set(ADAPTERS)
    for part in ("vision.weights", "decoder.weights"):
        [old], [new] = ([*folder.rglob(part)] for folder in (own.folder, tmp_path / "out"))
        assert old.read_bytes() == new.read_bytes(), part
    for kind in ADAPTERS:
        name = f"language/lora.{kind}.safetensors"
        old, new = (load_file(folder / name) for folder in (own.folder, tmp_path / "out"))
        assert any(not torch.equal(tensor, new[key]) for key, tensor in old.items()), kind


def test_adapters_alone_need_the_model_that_they_are_tuned_on(made: Made, tmp_path: Path) -> None:
    file, text = tmp_path / "adapters.toml", made.recipe_file.read_text(encoding="utf-8")
    file.write_text(adapters_alone(text), encoding="utf-8")
    scenes = {"training": made.second, "held_out": made.second}
    with pytest.raises(ConfigError, match=r"tunes adapters alone; .*--from"):
        make_language(str(file), tmp_path / "work", tmp_path / "out", **scenes, quiet=True)
    with pytest.raises(ConfigError, match=r"tunes adapters alone; .*--from"):
        train_language(load_recipe(file)[0], made.second, made.second, tmp_path / "work", lambda *_: None)
    file.write_text(re.sub(r"\[tower\].*?\n\n", "", text, flags=re.DOTALL), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"both of \[tower\] and \[language\], or neither"):
        load_recipe(file)
    file.write_text(text.replace("dropout = 0.05", "dropout = 0.05\ndriving = -1"), encoding="utf-8")
    with pytest.raises(ConfigError, match="driving must be at least 0, found -1"):
        load_recipe(file)


def test_training_a_model_further_needs_that_model(made: Made, tmp_path: Path) -> None:
    scenes = {"training": made.second, "held_out": made.second}
    with pytest.raises(ConfigError, match=r"language-onward trains a model further; .*--from"):
        make_language("language-onward", tmp_path / "work", tmp_path / "out", **scenes, quiet=True)
    assert not (tmp_path / "work").exists()


def test_a_profile_that_the_bundle_will_not_show_is_refused(made: Made, tmp_path: Path) -> None:
    file, text = tmp_path / "more.toml", made.recipe_file.read_text(encoding="utf-8")
    assert text.count('profile = "24f"') == 1
    file.write_text(text.replace('profile = "24f"', 'profile = "48f"'), encoding="utf-8")
    scenes = {"training": made.second, "held_out": made.second}
    with pytest.raises(ConfigError, match="expected a profile of the exported bundle, 24f, found 48f"):
        make_language(str(file), tmp_path / "work", tmp_path / "out", **scenes, quiet=True)
    assert not (tmp_path / "work").exists()


def test_scenes_without_a_crash_are_refused_before_anything_is_trained(made: Made, tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    shutil.copytree(made.second, scenes)
    for path in scenes.glob("*20000033*"):
        path.unlink()
    with pytest.raises(ConfigError, match="the perception adapter needs clips with a crash, found none"):
        train_language(made.recipe, scenes, made.second, tmp_path / "work", lambda *_: None)
    assert not list((tmp_path / "work").glob("*.pt"))


def test_it_is_said_which_held_out_scenes_the_first_model_was_trained_on(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, own = made.recipe_file.read_text(encoding="utf-8"), Bundle.open(made.report.bundle)
    seen = re.sub(r"^training = .+$", SEEN, text, flags=re.MULTILINE)
    origin = {"recipe": "", "start": {"language": {"recipe": seen}}}
    start = rewrite(own, tmp_path / "start", provenance={"language": origin})
    assert [clip.group for clip in language_trained_on(start, read_scenes(made.second))] == ["close_20000035"]
    unknown = rewrite(own, tmp_path / "unknown", provenance={"language": {"recipe": "not TOML"}})
    assert not language_trained_on(unknown, read_scenes(made.second))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(language, "draw_curves", lambda *_: None)
        scenes = {"training": made.first, "held_out": made.second}
        make_language(
            str(made.recipe_file), made.work, tmp_path / "out", **scenes, start=start.folder, most=1, quiet=True
        )
    assert "name for training 1 of 2 scenes" in capsys.readouterr().err


def test_other_clips_in_the_same_work_folder_give_other_weights(made: Made) -> None:
    after, notes = again(made, made.second, made.second, most=1)
    assert sum(" loss " in note for note in notes) == sum(stage.steps for stage in made.recipe.stages)
    assert sum("answers" in note for note in notes) == 3
    for kind, folder in [("base", after.base), *after.adapters.items()]:
        name = "model.safetensors" if kind == "base" else "adapter_model.safetensors"
        old, new = load_file(made.checkpoints / kind / name), load_file(Path(folder) / name)
        assert old.keys() == new.keys()
        assert any(not torch.equal(tensor, new[key]) for key, tensor in old.items()), kind


def test_other_questions_in_the_same_work_folder_are_asked_anew(made: Made) -> None:
    names = [path.name for path in sorted(made.second.glob("*.mp4"))]
    known, notes = again(made, made.first, made.second, most=1)
    assert answered(known) == [{names[0]}] * 2
    assert not notes, "the same clips were asked before"
    every, notes = again(made, made.first, made.second)
    assert answered(every) == [set(names)] * 2
    assert Path(every.base) == Path(known.base) == made.checkpoints / "base"
    assert not any(" loss " in note for note in notes)
    other, _ = again(made, made.first, made.first)
    assert answered(other) == [{path.name for path in made.first.glob("*.mp4")}] * 2


def test_parts_that_do_not_fit_are_refused_before_anything_is_trained(made: Made, tmp_path: Path) -> None:
    own, work, nothing = Path(made.report.bundle), tmp_path / "work", tmp_path / "nothing"

    def make(recipe: str = str(made.recipe_file), **parts: Path) -> None:
        make_language(recipe, work, tmp_path / "out", training=nothing, held_out=nothing, quiet=True, **parts)

    with pytest.raises(ConfigError, match="expected a bundle with a student, this one has none"):
        make(student=own)
    with pytest.raises(BundleError, match="nothing"):
        make(student=nothing)
    with pytest.raises(ConfigError, match=r"expected hidden 192, .*, found hidden 32, .*sizes must be those"):
        make("language-mini", start=own)
    # Equal matrices, cut into other heads.
    text = made.recipe_file.read_text().replace("\nheads = 2\nkv_heads = 1", "\nheads = 4\nkv_heads = 2")
    heads = tmp_path / "heads.toml"
    heads.write_text(text)
    with pytest.raises(ConfigError, match="expected heads 4, kv_heads 2, found heads 2, kv_heads 1;"):
        make(str(heads), start=own)
    with pytest.raises(ConfigError, match="nothing"):
        make(start=own)
    assert not list(work.glob("*.pt"))
