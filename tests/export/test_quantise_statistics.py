"""Statistics of activations against transformers' own model with hooks; stopping, adding up, and what is refused."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from asking_clips import make_clip
from checkpoint_makers import Form, LayoutName, save, save_adapter, save_both, tiny_model, tune
from decoder_loop import lively
from pipeline_runs import QUICK, make_inputs
from safetensors.numpy import load_file
from torch import Tensor

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.activations import ACTIVATIONS
from edge_sdk.errors import ConfigError
from edge_sdk.export.adapters import Adapter, Merged
from edge_sdk.export.checkpoint import Checkpoint, Weights
from edge_sdk.export.quantise.activations.channel_file import write_channels
from edge_sdk.export.quantise.calibrate import probe_count
from edge_sdk.export.quantise.collect import Collection, Source
from edge_sdk.export.quantise.identity import Identity, identity_of
from edge_sdk.export.quantise.sequences import Sequence
from edge_sdk.export.quantise.statistics import (
    Clip,
    Index,
    Statistics,
    layer_file,
    merge_statistics,
    probe_file,
    write_index,
)
from edge_sdk.export.stage_store import StageStore
from edge_sdk.toolchain.calibrating import calibrate
from edge_sdk.toolchain.quantising import quantise_bundle
from edge_sdk.verify import verify

LENGTHS = (9, 4, 6)  # a prefix, and two questions
HOOKED = {"qkv": "self_attn.q_proj", "o": "self_attn.o_proj", "mlp": "mlp.gate_proj", "down": "mlp.down_proj"}


@pytest.fixture(scope="module")
def model() -> Any:
    return lively(tiny_model(), 3.0)


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_both(model, tmp_path_factory.mktemp("model"))


def parts(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, 32, generator=generator) for length in LENGTHS]


def sequences(folder: Path, count: int = 2) -> dict[str, Path]:
    found = {}
    for seed in range(count):
        prefix, *questions = parts(seed)
        found[f"{seed}"] = folder / f"{seed}.safetensors"
        Sequence.of(prefix, questions).save(found[f"{seed}"])
    return found


def collected(
    weights: Weights, folder: Path, adapter: Adapter | None = None, *, clips: int = 2, stop: int | None = None
) -> Statistics:
    """Statistics in `folder / "statistics"`; the run ends when `stop` layers are done."""
    (folder / "given").mkdir(parents=True, exist_ok=True)
    sources = {name: Source(path, adapter) for name, path in sequences(folder / "given", clips).items()}

    def on_layer(done: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    with StageStore.locked(folder / "work") as store:
        places = Collection("base", weights, sources, {"clips": clips}).run(store, on_layer)
    (folder / "statistics").mkdir()
    for layer, place in enumerate(places):
        shutil.copyfile(place / layer_file("base", layer), folder / "statistics" / layer_file("base", layer))
    text = weights.config.text
    index = Index(
        model="tiny",
        layers=text.layers,
        hidden=text.hidden,
        intermediate=text.intermediate,
        tokens={"base": clips * sum(LENGTHS)},
        clips=tuple(Clip(name=f"{n}.mp4", sha256=f"{folder.name}{n}") for n in range(clips)),
    )
    write_index(folder / "statistics", index)
    return Statistics(folder / "statistics")


@torch.no_grad()
def seen_by_transformers(model: Any, seeds: int = 2) -> dict[tuple[int, str], Tensor]:
    """Inputs of each group of each layer, `[tokens, n]`: every question by itself behind its prefix."""
    language = model.model.language_model
    rows: dict[tuple[int, str], list[Tensor]] = {}

    def taker(key: tuple[int, str], begin: int) -> Callable[[Any, tuple[Tensor, ...]], None]:
        return lambda module, given: rows.setdefault(key, []).append(given[0][0, begin:])

    for seed in range(seeds):
        prefix, *questions = parts(seed)
        for number, question in enumerate(questions):
            begin = len(prefix) if number else 0
            hooks = [
                language.layers[layer].get_submodule(name).register_forward_pre_hook(taker((layer, group), begin))
                for layer in range(2)
                for group, name in HOOKED.items()
            ]
            language(inputs_embeds=torch.cat([prefix, question])[None], use_cache=False)
            for hook in hooks:
                hook.remove()
    return {key: torch.cat(each) for key, each in rows.items()}


@pytest.mark.parametrize("form", ["bare", "merged", "beside"])
def test_statistics_are_of_what_transformers_layers_are_given(
    model: Any, folder: Path, tmp_path: Path, form: str
) -> None:
    base, adapter = Checkpoint.open(folder / "base"), Adapter.open(folder / "adapter")
    weights = Merged(base, adapter) if form == "merged" else base
    found = collected(weights, tmp_path, adapter if form == "beside" else None)
    oracle = model if form == "bare" else tune(model, rank=4, seed=1).merge_and_unload()
    for (layer, group), x in seen_by_transformers(oracle).items():
        held = found.group("base", layer, group)
        assert len(x) == 2 * sum(LENGTHS)
        torch.testing.assert_close(held.gram, x.T @ x, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(held.magnitude, x.abs().mean(0), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(held.largest, x.abs().amax(0), rtol=1e-3, atol=1e-4)


def test_a_bundle_is_given_what_numpy_says_of_every_channel(model: Any, folder: Path, tmp_path: Path) -> None:
    found = collected(Checkpoint.open(folder / "base"), tmp_path)
    write_channels(found, ["base"], tmp_path / "bundle")
    held = load_file(tmp_path / "bundle" / ACTIVATIONS)
    seen = seen_by_transformers(model)
    assert held.keys() == {f"decoder.base.{n:02}.{group}.{kind}" for n, group in seen for kind in ("largest", "mean")}
    for (layer, group), x in seen.items():
        name, size = f"decoder.base.{layer:02}.{group}", np.abs(x.numpy())
        np.testing.assert_allclose(held[f"{name}.largest"], size.max(0), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(held[f"{name}.mean"], size.mean(0), rtol=1e-3, atol=1e-4)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def test_a_stopped_run_goes_on_and_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    base = Checkpoint.open(folder / "base")
    whole = collected(base, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        collected(base, tmp_path / "stopped", stop=1)
    first = tmp_path / "stopped/work/statistics.base.00" / layer_file("base", 0)
    before = first.stat().st_mtime_ns
    again = collected(base, tmp_path / "stopped")
    assert first.stat().st_mtime_ns == before
    assert content(again.folder) == content(whole.folder)
    assert not list((tmp_path / "stopped/work").glob("states*"))


def test_states_that_are_gone_are_computed_from_the_first_layer(folder: Path, tmp_path: Path) -> None:
    base = Checkpoint.open(folder / "base")
    whole = collected(base, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        collected(base, tmp_path / "stopped", stop=1)
    shutil.rmtree(tmp_path / "stopped/work/states.base.01")
    assert content(collected(base, tmp_path / "stopped").folder) == content(whole.folder)


def test_statistics_add_up(folder: Path, tmp_path: Path) -> None:
    base = Checkpoint.open(folder / "base")
    one, two = collected(base, tmp_path / "one", clips=1), collected(base, tmp_path / "two", clips=2)
    index = merge_statistics([one.folder, two.folder], tmp_path / "sum")
    found = Statistics(tmp_path / "sum")
    assert index.tokens == {"base": 3 * sum(LENGTHS)}
    assert len(index.clips) == 3
    for group in HOOKED:
        held, first, second = (each.group("base", 1, group) for each in (found, one, two))
        torch.testing.assert_close(held.gram, first.gram + second.gram)
        torch.testing.assert_close(held.magnitude, (first.magnitude + 2 * second.magnitude) / 3)
        assert torch.equal(held.largest, torch.maximum(first.largest, second.largest))
    with pytest.raises(ConfigError, match="would count twice"):
        merge_statistics([one.folder, one.folder], tmp_path / "twice")


@pytest.mark.parametrize(("clips", "kept"), [(2, 0), (7, 0), (8, 2), (16, 4), (63, 8), (1000, 8)])
def test_a_quarter_of_the_clips_is_kept_out_in_pairs(clips: int, kept: int) -> None:
    assert probe_count(clips) == kept


def test_probes_stay_with_the_first_of_what_is_added_up(folder: Path, tmp_path: Path) -> None:
    base = Checkpoint.open(folder / "base")
    one, two = collected(base, tmp_path / "one", clips=1), collected(base, tmp_path / "two", clips=2)
    probes = (Clip(name="p.mp4", sha256="p"),)
    write_index(one.folder, msgspec.structs.replace(one.index, probes=probes, held_out=True))
    (one.folder / probe_file(0, "base")).write_bytes(b"sequence")
    index = merge_statistics([one.folder, two.folder], tmp_path / "sum")
    assert (index.probes, index.held_out) == (probes, True)
    assert (tmp_path / "sum" / probe_file(0, "base")).read_bytes() == b"sequence"
    write_index(two.folder, msgspec.structs.replace(two.index, clips=(*two.index.clips, *probes)))
    assert not merge_statistics([one.folder, two.folder], tmp_path / "seen").held_out


def test_activations_that_are_not_finite_are_refused(folder: Path, tmp_path: Path) -> None:
    base = Checkpoint.open(folder / "base")
    (tmp_path / "given").mkdir()
    Sequence.of(torch.full((5, 32), float("nan")), []).save(tmp_path / "given/x.safetensors")
    sources = {"x": Source(tmp_path / "given/x.safetensors")}
    with StageStore.locked(tmp_path / "work") as store, pytest.raises(ConfigError, match=r"not finite: the model gave"):
        Collection("base", base, sources, {}).run(store, lambda done: None)


def unasked() -> Identity:
    raise AssertionError("weights are read though the shape is another")


def test_statistics_of_another_model_are_refused(folder: Path, tmp_path: Path) -> None:
    found = collected(Checkpoint.open(folder / "base"), tmp_path)
    text = Checkpoint.open(folder / "base").config.text
    with pytest.raises(ConfigError, match="statistics of decoder linguistic, found base; calibrate with the same"):
        found.check(text, {"linguistic": "linguistic"}, unasked)
    other = Index(**{**{f: getattr(found.index, f) for f in found.index.__struct_fields__}, "hidden": 64})
    write_index(found.folder, other)
    with pytest.raises(ConfigError, match="expected statistics of 2 layers, hidden 32"):
        Statistics(found.folder).check(text, {"base": "base"}, unasked)
    with pytest.raises(ConfigError, match="expected what edge-sdk calibrate writes"):
        Statistics(tmp_path)


def given(base: Path, *adapters: Path) -> Identity:
    """The identity of a checkpoint with adapters, each called as its folder."""
    return identity_of(base.name, base, Checkpoint.open(base), {each.name: Adapter.open(each) for each in adapters})


def test_a_model_is_told_by_its_values_and_not_by_where_or_how_it_is_stored(
    model: Any, folder: Path, tmp_path: Path
) -> None:
    found = given(folder / "base", folder / "adapter")
    forms: dict[LayoutName, Form] = {"transformers": "safetensors", "crashchat": "sharded-bin"}
    for layout, form in forms.items():
        save(model, tmp_path / layout, layout, form)
        assert given(tmp_path / layout).weights == found.weights
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.model.language_model.norm.weight[0] += 1
    assert given(save(changed, tmp_path / "changed")).weights != found.weights
    save_adapter(tune(model, rank=4, seed=2), tmp_path / "adapter")
    again = given(folder / "base", tmp_path / "adapter")
    assert again.weights == found.weights
    assert again.adapters != found.adapters


def test_statistics_of_another_model_of_the_same_shape_are_refused(folder: Path, tmp_path: Path) -> None:
    found = collected(Checkpoint.open(folder / "base"), tmp_path)
    text, users = Checkpoint.open(folder / "base").config.text, {"base": "base"}
    asked = Identity(model="new", weights="b" * 64, adapters={"linguistic": "d" * 64})
    told = msgspec.structs.replace(found.index, weights="b" * 64, adapters={"linguistic": "d" * 64, "other": "e" * 64})
    write_index(found.folder, told)
    Statistics(found.folder).check(text, users, lambda: asked)
    write_index(found.folder, msgspec.structs.replace(told, weights="a" * 64))
    words = r"statistics of tiny \(weights a{12}\), not of new \(weights b{12}\); calibrate new, or"
    with pytest.raises(ConfigError, match=words):
        Statistics(found.folder).check(text, users, lambda: asked)
    write_index(found.folder, msgspec.structs.replace(told, adapters={"linguistic": "c" * 64}))
    with pytest.raises(ConfigError, match=r"another adapter linguistic: seen was one of c{12}, given is d{12}"):
        Statistics(found.folder).check(text, users, lambda: asked)
    write_index(found.folder, msgspec.structs.replace(told, adapters={"other": "e" * 64}))
    with pytest.raises(ConfigError, match=r"another adapter linguistic: seen was none \(other\)"):
        Statistics(found.folder).check(text, users, lambda: asked)


def test_probes_that_an_adapter_needs_are_missed_before_anything_is_computed(folder: Path, tmp_path: Path) -> None:
    found = collected(Checkpoint.open(folder / "base"), tmp_path)
    text, users = Checkpoint.open(folder / "base").config.text, {"linguistic": "base", "perception": "base"}
    write_index(found.folder, msgspec.structs.replace(found.index, probes=found.index.clips))
    for number in (0, 1):
        (found.folder / probe_file(number, "perception")).touch()
    with pytest.raises(ConfigError, match=r"expected probe.00.linguistic.safetensors, .* and 1 more .*calibrate with"):
        Statistics(found.folder).check(text, users, unasked)
    Statistics(found.folder).check(text, {"perception": "base"}, unasked)


def test_statistics_of_other_weights_do_not_add_up(folder: Path, tmp_path: Path) -> None:
    base = Checkpoint.open(folder / "base")
    one, two = collected(base, tmp_path / "one", clips=1), collected(base, tmp_path / "two", clips=2)
    known = {"weights": "a" * 64, "adapters": {"x": "b" * 64}}
    for part, change in ((one, known), (two, known)):
        write_index(part.folder, msgspec.structs.replace(part.index, **change))
    merge_statistics([one.folder, two.folder], tmp_path / "sum")
    assert (Statistics(tmp_path / "sum").index.weights, Statistics(tmp_path / "sum").index.adapters) == tuple(
        known.values()
    )
    write_index(two.folder, two.index)
    assert not merge_statistics([one.folder, two.folder], tmp_path / "unknown").weights
    for change, words in (({"weights": "c" * 64}, "weights c{12}"), ({"adapters": {"x": "d" * 64}}, "adapter x")):
        write_index(two.folder, msgspec.structs.replace(two.index, **(known | change)))
        with pytest.raises(ConfigError, match=f"two/statistics: these are statistics of tiny .*{words}"):
            merge_statistics([one.folder, two.folder], tmp_path / "none")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg is not installed")
def test_clips_become_statistics_and_statistics_a_bundle(tmp_path: Path) -> None:
    make_inputs(tmp_path)
    (tmp_path / "clips").mkdir()
    make_clip(tmp_path / "clips/one.mp4", seconds=0.5)
    make_clip(tmp_path / "clips/two.mp4", seconds=0.3, rate="20")
    report = calibrate(tmp_path / "base", tmp_path / "clips", tmp_path / "seen", frames=2, dtype="float32", quiet=True)
    assert (report.clips, report.crashes, set(report.tokens)) == (2, 0, {"base"})
    assert not (tmp_path / "seen.work").exists()
    recipe = 'rounding = "gptq"\nscaling = "awq"\n[linears]\nbits = 4\nblock = 16\n'
    (tmp_path / "recipe.toml").write_text(recipe)
    settings: dict[str, Any] = QUICK | {"statistics": tmp_path / "seen", "quiet": True}
    quantise_bundle(tmp_path / "base", tmp_path / "bundle", str(tmp_path / "recipe.toml"), **settings)
    bundle = Bundle.open(tmp_path / "bundle")
    checked = verify(bundle)
    assert checked.ok
    assert all(answer.equal_tokens + answer.near_ties == answer.steps for answer in checked.answers)
    evidence = json.loads(bundle.path("quantise/evidence.json").read_text())
    assert all(0 < each["output_error"] < 0.3 for each in evidence["matrices"] if "layers" in each["name"])
    clips = bundle.manifest.provenance["calibration"]["clips"]
    assert sorted(clip["name"] for clip in clips) == ["one.mp4", "two.mp4"]
