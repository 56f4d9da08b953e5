"""LoRA inputs trained on beside a rounded base: lessons against transformers, what training gains, whole bundles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence as Rows
from pathlib import Path
from typing import Any

import pytest
import torch
from asking_clips import make_clip
from checkpoint_makers import save_both, tiny_model, tune
from decoder_loop import lively
from pipeline_runs import QUICK, adapters, content, make_inputs
from safetensors.torch import load_file
from torch import Tensor

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.proof import describe, read_proof
from edge_sdk.errors import ConfigError
from edge_sdk.export.adapters import Adapter
from edge_sdk.export.checkpoint import ChangedWeights, Checkpoint
from edge_sdk.export.device import CPU
from edge_sdk.export.eager import lora_pairs
from edge_sdk.export.layouts import HEAD
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.probing import nearest
from edge_sdk.export.quantise.recipe import Recover
from edge_sdk.export.quantise.recovery import training
from edge_sdk.export.quantise.recovery.lesson import Lesson, Teacher
from edge_sdk.export.quantise.recovery.recovered import RecoveredAdapter, save_pairs
from edge_sdk.export.quantise.recovery.training import Recovery, drawn
from edge_sdk.export.quantise.recovery.whole_decoder import LayerPairs, WholeDecoder
from edge_sdk.export.quantise.sequences import Sequence
from edge_sdk.toolchain.quantising import quantise_bundle
from edge_sdk.verify import verify

LENGTHS = (9, 4, 6)  # a prefix, and two questions
TOKENS = 5
LESSONS = 6
PUBLIC = {name: f"self_attn.{name}_proj" for name in ("q", "k", "v", "o")} | {
    name: f"mlp.{name}_proj" for name in ("gate", "up", "down")
}
SETTINGS = Recover(steps=24, batch=2, rate=3e-3, seed=5)
needs_clips = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg is not installed")


class Rounded(ChangedWeights):
    """The layers' linears in 4 bits. Keeps to `Weights`."""

    def tensor(self, name: str) -> Tensor:
        found = self._weights.tensor(name)
        few = name.startswith("decoder.layers.") and found.ndim == 2
        return nearest(found, Format(bits=4, block=16)) if few else found


@pytest.fixture(scope="module")
def model() -> Any:
    return lively(tiny_model(), 3.0)


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base`, `adapter`, and `lessons` of the two."""
    place = save_both(model, tmp_path_factory.mktemp("model"))
    (place / "lessons").mkdir()
    teacher = Teacher(Checkpoint.open(place / "base"), CPU, (), TOKENS)
    for seed in range(LESSONS):
        prefix, *questions = parts(seed)
        teacher.lesson(Sequence.of(prefix, questions), begun(place)).save(place / "lessons" / f"{seed}.safetensors")
    return place


def parts(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, 32, generator=generator) for length in LENGTHS]


def begun(folder: Path) -> LayerPairs:
    base, adapter = Checkpoint.open(folder / "base"), Adapter.open(folder / "adapter")
    return [lora_pairs(adapter, layer) for layer in range(base.config.text.layers)]


def lessons(folder: Path) -> list[Path]:
    return [folder / "lessons" / f"{seed}.safetensors" for seed in range(LESSONS)]


def recovery(folder: Path, recover: Recover = SETTINGS) -> Recovery:
    base = Checkpoint.open(folder / "base")
    return Recovery(WholeDecoder(Rounded(base), CPU), base.tensor(HEAD).float(), recover)


@torch.no_grad()
def behind(model: Any, given: Tensor) -> Tensor:
    """transformers' logits behind every row of `given`."""
    states = model.model.language_model(inputs_embeds=given[None], use_cache=False).last_hidden_state[0]
    logits: Tensor = states @ model.lm_head.weight.T
    return logits


def test_lessons_are_what_transformers_answers_and_holds_to_be_next(model: Any, folder: Path) -> None:
    oracle = tune(model, rank=4, seed=1).merge_and_unload()
    head = Checkpoint.open(folder / "base").tensor(HEAD).float()
    for seed, path in enumerate(lessons(folder)):
        lesson = Lesson.load(path)
        assert lesson.lengths.tolist() == [TOKENS, TOKENS]
        exact = (lesson.states @ head.T).split(TOKENS)
        for number in (1, 2):
            given = torch.cat([parts(seed)[0], parts(seed)[number]])
            for step in range(TOKENS):
                logits = behind(oracle, given)[-1]
                torch.testing.assert_close(exact[number - 1][step], logits, rtol=1e-3, atol=1e-3)
                given = torch.cat([given, oracle.get_input_embeddings().weight[[int(logits.argmax())]]]).detach()


def test_an_answer_ends_with_its_end(model: Any, folder: Path) -> None:
    prefix, *questions = parts(0)
    base, asked = Checkpoint.open(folder / "base"), Sequence.of(prefix, questions)
    free = Teacher(base, CPU, (), TOKENS).lesson(asked, begun(folder))
    said = [each.argmax(1).tolist() for each in (free.states @ base.tensor(HEAD).float().T).split(TOKENS)]
    end = next(token for token in said[0][1:] if token != said[0][0])
    short = Teacher(base, CPU, (end,), TOKENS).lesson(asked, begun(folder))
    assert short.lengths.tolist() == [ids.index(end) + 1 if end in ids else TOKENS for ids in said]


@torch.no_grad()
def kl(folder: Path, model: Any, pairs: LayerPairs, path: Path) -> list[float]:
    """KL of each answer's rows from the lesson, by transformers with rounded weights that hold the pairs."""
    base, lesson = Checkpoint.open(folder / "base"), Lesson.load(path)
    changed = lively(tiny_model(), 3.0)
    for index, layer in enumerate(changed.model.language_model.layers):
        for name, module in PUBLIC.items():
            linear = layer.get_submodule(module)
            weight = Rounded(base).tensor(f"decoder.layers.{index}.{name}.weight")
            a, b = pairs[index].get(name, (torch.zeros(weight.shape[1], 1), torch.zeros(1, weight.shape[0])))
            linear.weight.copy_(weight + (a @ b).T)
    exact = (lesson.states @ base.tensor(HEAD).float().T).double().log_softmax(1).split(lesson.lengths.tolist())
    found = []
    for number, wanted in enumerate(exact, 1):
        own = lesson.tokens.embeds[(lesson.tokens.branch == 0) | (lesson.tokens.branch == number)]
        given = behind(changed, own)[-len(wanted) :].double().log_softmax(1)
        found.append(float((wanted.exp() * (wanted - given)).sum(1).mean()))
    return found


def test_the_change_and_the_loss_are_those_of_transformers(model: Any, folder: Path, tmp_path: Path) -> None:
    paths, pairs = lessons(folder), begun(folder)
    costs = [kl(folder, model, pairs, path) for path in paths]
    change = recovery(folder).change(pairs, paths)
    assert change.mean_kl == pytest.approx(sum(map(sum, costs)) / (2 * LESSONS), rel=1e-3)
    assert change.steps == 2 * TOKENS * LESSONS
    losses: list[float] = []
    still = Recover(steps=1, batch=LESSONS, rate=1e-9)
    recovery(folder, still).run(pairs, paths, tmp_path / "s.pt", "", lambda done, loss: losses.append(loss))
    assert losses == [pytest.approx(change.mean_kl, rel=1e-3)]


def run(folder: Path, saved: Path, identity: str = "one") -> LayerPairs:
    return recovery(folder).run(begun(folder), lessons(folder), saved, identity, lambda done, loss: None)


def same(one: LayerPairs, other: LayerPairs) -> bool:
    return all(
        torch.equal(matrix, found)
        for layer, others in zip(one, other, strict=True)
        for name, pair in layer.items()
        for matrix, found in zip(pair, others[name], strict=True)
    )


def test_training_brings_the_rounded_base_nearer_and_leaves_what_it_began_with(folder: Path, tmp_path: Path) -> None:
    before = begun(folder)
    found = run(folder, tmp_path / "state.pt")
    measured = recovery(folder)
    gain = [measured.change(pairs, lessons(folder)).mean_kl for pairs in (before, found)]
    assert gain[1] < 0.5 * gain[0]
    assert same(before, begun(folder))


class Killed(Exception):
    pass


def test_a_stopped_run_goes_on_and_gives_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_SAVE_EVERY", 5)
    whole, steps = run(folder, tmp_path / "whole.pt"), list[int]()

    def kill(done: int, loss: float) -> None:
        if done == 13:
            raise Killed

    with pytest.raises(Killed):
        recovery(folder).run(begun(folder), lessons(folder), tmp_path / "s.pt", "one", kill)
    rest = recovery(folder).run(
        begun(folder), lessons(folder), tmp_path / "s.pt", "one", lambda done, loss: steps.append(done)
    )
    assert steps == list(range(11, 25))
    assert same(whole, rest)
    assert same(whole, run(folder, tmp_path / "s.pt", "another")), "what another run has saved is left alone"


def test_every_clip_is_drawn_before_one_comes_again() -> None:
    recover = Recover(batch=3, seed=2)
    taken = [number for step in range(10) for number in drawn(recover, 5, step)]
    turns = [taken[at : at + 5] for at in range(0, 30, 5)]
    assert all(sorted(turn) == list(range(5)) for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1


def test_a_recovered_adapter_gives_the_matrices_of_its_file(folder: Path, tmp_path: Path) -> None:
    adapter, pairs = Adapter.open(folder / "adapter"), begun(folder)
    other = [{name: (a + 1, b - 1) for name, (a, b) in layer.items()} for layer in pairs]
    save_pairs(other, tmp_path / "lora.safetensors")
    found = RecoveredAdapter(adapter, tmp_path / "lora.safetensors")
    assert same(other, [lora_pairs(found, layer) for layer in range(len(pairs))])
    assert found.lora(len(pairs), "q") is None


RECIPE = """
name = "small"
[linears]
bits = 4
block = 16
"""
RECOVER = "[recover]\nsteps = 12\nbatch = 2\nanswer_tokens = 3\nrate = 1e-3\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base` with two adapters, nine `clips`, and the recipes `plain.toml` and `recover.toml`."""
    place = tmp_path_factory.mktemp("recovered")
    make_inputs(place)
    (place / "clips").mkdir()
    for number in range(9):
        make_clip(place / f"clips/{number}.mp4", seconds=0.1 + number / 100, rate=f"{20 + number}")
    (place / "plain.toml").write_text(RECIPE)
    (place / "recover.toml").write_text(RECIPE + RECOVER)
    return place


def quantised(root: Path, out: Path, recipe: str = "recover.toml", **settings: Any) -> Bundle:
    how: dict[str, Any] = QUICK | {"quiet": True, "clips": root / "clips", "switchable": True}
    how |= {"adapters": adapters(root, "linguistic", "perception")} | settings
    quantise_bundle(root / "base", out, str(root / recipe), **how)
    return Bundle.open(out)


@pytest.fixture(scope="module")
def found(root: Path) -> Bundle:
    return quantised(root, root / "found")


@needs_clips
def test_a_bundle_holds_recovered_matrices_beside_the_same_base(root: Path, found: Bundle, tmp_path: Path) -> None:
    plain = quantised(root, tmp_path / "plain", "plain.toml", clips=None)
    old, new = (content(bundle.folder) for bundle in (plain, found))
    weights = [name for name in old if name.endswith(".weights")]
    assert {name: new[name] for name in weights} == {name: old[name] for name in weights}
    evidence = json.loads(found.path("quantise/evidence.json").read_text())
    for name in ("linguistic", "perception"):
        told = evidence["recovered"][name]
        assert (told["clips"], told["kept_out"], told["steps"]) == (8, 1, 12)
        file = f"language/lora.{name}.safetensors"
        assert (new[file] != old[file]) == told["taken"]
        assert evidence["files"][file] == new[file]
        one, other = (load_file(bundle.path(file)) for bundle in (plain, found))
        assert {key: each.shape for key, each in one.items()} == {key: each.shape for key, each in other.items()}
    assert verify(found).ok
    proof = read_proof(found)
    assert proof is not None
    assert any("LoRA of linguistic" in line and "of 8 clips" in line for line in describe(proof))
    assert len(found.manifest.provenance["recovery"]["clips"]) == 9


@needs_clips
def test_a_killed_recovery_goes_on_with_what_is_finished_and_gives_the_same_bytes(
    root: Path, found: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = Recovery._step, list[int]()

    def killing(self: Recovery, pairs: LayerPairs, paths: Rows[Path]) -> float:
        calls.append(1)
        if len(calls) == 8:
            raise Killed
        return step(self, pairs, paths)

    monkeypatch.setattr(training, "_SAVE_EVERY", 5)
    monkeypatch.setattr(Recovery, "_step", killing)
    with pytest.raises(Killed):
        quantised(root, tmp_path / "bundle", keep=True)
    work = tmp_path / "bundle.work"
    kept = {path.name for path in work.iterdir()}
    assert sum(name.startswith("recover.clip.") for name in kept) == 9
    before, made = len(calls), list[str]()
    monkeypatch.setattr(Teacher, "lesson", lambda *given: made.append("lesson"))
    resumed = quantised(root, tmp_path / "bundle", keep=True)
    assert not made
    assert len(calls) - before == (12 - 5) + 12  # the first adapter goes on behind its fifth step
    assert content(resumed.folder) == content(found.folder)


@needs_clips
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"clips": None}, "give a folder of clips with --clips"),
        ({"recipe": "plain.toml"}, r"--clips are for recipes that train LoRA inputs \(\[recover\]"),
        ({"merge": ("linguistic", "perception"), "switchable": None}, "the bundle would have none"),
        ({"adapters": (), "switchable": None}, "the bundle would have none"),
        ({"clips": "few"}, "needs at least 8 of them, found 3"),
        ({"clips": "nothing"}, "expected clips"),
    ],
)
def test_what_cannot_be_recovered_is_refused_before_anything_is_written(
    root: Path, tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    if isinstance(name := settings.get("clips"), str):
        (tmp_path / name).mkdir()
        settings = settings | {"clips": tmp_path / name}
        for number in range(3 if name == "few" else 0):
            shutil.copyfile(root / f"clips/{number}.mp4", tmp_path / name / f"{number}.mp4")
    with pytest.raises(ConfigError, match=reason):
        quantised(root, tmp_path / "bundle", **settings)
    assert not (tmp_path / "bundle").exists()
    assert not (tmp_path / "bundle.work").exists()


@pytest.mark.parametrize("wrong", ["steps", "batch", "clips", "answer_tokens", "rate"])
def test_settings_that_train_nothing_are_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match=f"recover: {wrong} must be above 0, found 0"):
        Recover(**{wrong: 0})
