"""What a bundle's references say, against transformers' own model and peft's merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from checkpoint_makers import merged_model, save, save_adapter, tune
from language_bundles import Assembly, speaking_model
from safetensors.numpy import load_file

from edge_sdk.bundle.manifest_language import ChainReference
from edge_sdk.errors import CheckpointError
from edge_sdk.export.references import References, write_references
from edge_sdk.export.seeded_cases import TOP
from edge_sdk.reasoning import Tokenizer
from edge_sdk.runtime import Array

STEPS = 8


class Case(NamedTuple):
    """An assembly with its references, and transformers' model of each adapter."""

    assembly: Assembly
    found: References
    models: dict[str, Any]


@pytest.fixture(scope="module", params=["base", "merged", "switchable"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("case")
    model = speaking_model(tied=True) if request.param == "base" else speaking_model(seed=1)
    checkpoint, models, adapters = save(model, folder / "model"), {"base": model}, {}
    if request.param != "base":
        tuned = {name: tune(model, rank=4, seed=seed) for seed, name in enumerate(("linguistic", "perception"), 1)}
        adapters = {name: save_adapter(each, folder / name) for name, each in tuned.items()}
        models = {name: merged_model(each) for name, each in tuned.items()}
    assembly = Assembly(checkpoint, folder / "parts", adapters, switchable=request.param == "switchable")
    found = write_references(assembly.weights, assembly.exported(), assembly.folder, lambda *_: None)
    return Case(assembly, found, models)


def test_the_answer_is_that_of_transformers(case: Case) -> None:
    for name, model in case.models.items():
        reference = case.found.chains[name]
        tensors = load_file(case.assembly.folder / reference.file)
        logits = oracle_logits(model, tensors, case.assembly.sides[0])
        assert tensors["tokens"].tolist() == logits.argmax(1).tolist()
        assert len(set(tensors["tokens"].tolist())) > 3, "an answer that repeats itself would prove little"
        expected = np.take_along_axis(logits, tensors["top_ids"], 1)
        np.testing.assert_allclose(tensors["top_logits"], expected, atol=1e-5 * np.abs(expected).max())
        assert tensors["top_ids"].shape == (STEPS, TOP)
        np.testing.assert_array_equal(np.sort(expected)[:, ::-1], np.sort(logits)[:, : -TOP - 1 : -1])


def test_the_prompt_is_a_real_one_and_compression_drops_what_stands_still(case: Case) -> None:
    tokenizer = Tokenizer.open(case.assembly.folder / "language/tokenizer.json")
    asked = json.loads((case.assembly.folder / "language/prompts.json").read_text())
    for name, reference in case.found.chains.items():
        tensors = load_file(case.assembly.folder / reference.file)
        task = case.assembly.language.adapters[name].tasks[0]
        text = tokenizer.decode(tensors["ids"])
        assert text.startswith("user\nTime 0.0s:,Time 0.1s:\n")
        assert asked[task]["text"] in text
        frames, patches, _ = tensors["patches"].shape
        images = int((tensors["ids"] == tokenizer.control.image).sum())
        assert frames == 2
        assert patches // 4 < images < 2 * patches // 4


def test_every_graph_has_a_case_that_dialects_and_slots_share(case: Case) -> None:
    language, folder = case.assembly.language, case.assembly.folder
    assert case.found.graphs.keys() == case.assembly.graphs.keys()
    assert case.found.chains.keys() == language.adapters.keys()
    for decoder in language.decoders.values():
        logits = [load_file(folder / case.found.graphs[each.graph].file)["out.logits"] for each in decoder.graphs]
        assert logits[0].std() > 0.01
        for other in logits[1:]:
            np.testing.assert_array_equal(logits[0], other)
    for name, reference in case.found.graphs.items():
        tensors = load_file(folder / reference.file)
        assert (folder / reference.file).stat().st_size <= 2_000_000
        assert tensors.keys() >= {"in.patches" if "vision" in name else "in.tokens" if "proj" in name else "in.embeds"}
        assert {tensor.dtype.name for key, tensor in tensors.items() if key.startswith("out.")} == {"float32"}
        switched = case.assembly.switchable and "decoder" in name
        assert reference.inputs_from == ("language/lora.linguistic.safetensors" if switched else None)


def test_references_are_the_same_each_time_and_go_into_the_manifest(case: Case, tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    assembly = case.assembly
    again = write_references(assembly.weights, assembly.exported(), tmp_path, lambda *at: calls.append(at))
    assert again == case.found
    for reference in (*again.graphs.values(), *again.chains.values()):
        assert (tmp_path / reference.file).read_bytes() == (assembly.folder / reference.file).read_bytes()
    total = 2 + 2 * STEPS * len(assembly.language.decoders)
    assert [(done, of) for done, of, _ in calls] == [(done, total) for done in range(1, total + 1)]
    graphs, language = again.apply(assembly.graphs, assembly.language)
    assert all(graphs[name].reference == again.graphs[name] for name in assembly.graphs)
    for name, adapter in language.adapters.items():
        assert isinstance(adapter.reference, ChainReference)
        assert adapter.reference == again.chains[name]


def test_a_vocabulary_without_the_prompts_tokens_is_refused(case: Case, tmp_path: Path) -> None:
    prompts = case.assembly.folder / "language/prompts.json"
    text = prompts.read_text()
    asked = {task: {**entry, "ids": [200_000]} for task, entry in json.loads(text).items()}
    prompts.write_text(json.dumps(asked))
    try:
        with pytest.raises(CheckpointError, match=r"up to 200000.*one of 151672"):
            write_references(case.assembly.weights, case.assembly.exported(), tmp_path, lambda *_: None)
    finally:
        prompts.write_text(text)


@torch.no_grad()
def oracle_logits(model: Any, tensors: dict[str, Array], sides: tuple[int, int]) -> Array:
    """transformers' logits `[steps, vocab]` after the prompt and each token but the last."""
    patches = tensors["patches"]
    frames, width, height = len(patches), sides[0] // 14, sides[1] // 14
    pixels = torch.from_numpy(patches).float() / 255 * 2 - 1
    windows = pixels.reshape(frames, height * width // 4, -1)
    changed = (windows[1:] - windows[:-1]).abs().mean(2) * 255 > 0.1
    kept = torch.cat([torch.ones_like(changed[:1]), changed]).flatten()
    ids = np.concatenate([tensors["ids"], tensors["tokens"][:-1]])
    logits = model(
        input_ids=torch.from_numpy(ids)[None],
        pixel_values_videos=pixels.flatten(0, 1),
        video_grid_thw=torch.tensor([[frames, height, width]]),
        video_merge_sizes=torch.tensor([2]),
        video_compression_mask=kept,
    ).logits
    found: Array = logits[0, len(tensors["ids"]) - 1 :].numpy()
    return found
