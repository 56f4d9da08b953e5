"""The model's ONNX graphs on ONNX Runtime, against transformers and against the modules."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from checkpoint_makers import merged_model, save, save_adapter, tiny_model, tune, video_logits, wide_model
from decoder_loop import Loop, lively, oracle_embeds, oracle_tokens, scattered_feeds
from ort_graphs import Exported

from edge_sdk.export.adapters import Adapter, Merged
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.graphs.decoder import Decoder
from edge_sdk.export.graphs.decoder_io import DecoderForm, decoder_inputs
from edge_sdk.export.graphs.loading import load
from edge_sdk.export.graphs.lora import lora_inputs
from edge_sdk.export.graphs.projector import Projector
from edge_sdk.export.graphs.vision import Grid, Vision
from edge_sdk.runtime import Array, Feeds
from edge_sdk.types import Dialect

DIALECTS: tuple[Dialect, ...] = ("native", "decomposed")
SLOTS, TOKENS = 96, 32


class Case(NamedTuple):
    model: Any
    weights: Checkpoint
    exported: Exported


class Fed:
    """A bound state with inputs that are the same in every call."""

    def __init__(self, bound: Any, fixed: dict[str, Array]) -> None:
        self.bound, self.fixed = bound, fixed

    def run(self, feeds: Feeds) -> dict[str, Array]:
        found: dict[str, Array] = self.bound.run({**feeds, **self.fixed})
        return found


# The 7B's widths are in `test_parity`, which lets go of transformers' model before it opens a graph.
@pytest.fixture(scope="module", params=["tiny", "tied", "2b"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    model = wide_model("2b") if request.param == "2b" else lively(tiny_model(tied=request.param == "tied", seed=2))
    weights = Checkpoint.open(save(model, tmp_path_factory.mktemp("model")))
    return Case(model, weights, Exported(weights, tmp_path_factory.mktemp("graphs")))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_vision_equals_the_module_on_every_grid_over_one_file(case: Case, dialect: Dialect) -> None:
    config = case.weights.config.vision
    for rows, columns in ((4, 6), (2, 4)):
        grid = Grid(rows=rows, columns=columns)
        patches = torch.rand(3, grid.patches, 588, generator=torch.Generator().manual_seed(rows)) * 2 - 1
        with torch.inference_mode():
            expected = load(case.weights, "vision.", partial(Vision, config, grid))(patches)
        session, _ = case.exported.open(case.exported.vision(grid, dialect))
        found = session.run({"patches": patches.numpy()})["tokens"]
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_allclose(session.run({"patches": patches[1:2].numpy()})["tokens"], found[1:2], atol=1e-5)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_projector_equals_the_module(case: Case, dialect: Dialect) -> None:
    tokens = torch.randn(5, case.weights.config.projector.input, generator=torch.Generator().manual_seed(3)) * 5
    module = load(case.weights, "projector.", lambda: Projector(case.weights.config.projector))
    session, _ = case.exported.open(case.exported.projector(dialect))
    with torch.inference_mode():
        np.testing.assert_allclose(session.run({"tokens": tokens.numpy()})["embeds"], module(tokens), atol=1e-4)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_logits_and_greedy_tokens_equal_transformers_whole_and_in_chunks(case: Case, dialect: Dialect) -> None:
    embeds, table = oracle_embeds(case.model), case.weights.tensor("decoder.embed_tokens.weight").numpy()
    logits, tokens = video_logits(case.model)[0].numpy(), oracle_tokens(case.model, TOKENS)
    for width in (len(embeds), 7):
        slots = SLOTS + width
        session, entry = case.exported.open(case.exported.decoder(DecoderForm(dialect=dialect, slots=slots)))
        bound = session.bind_state(entry.state, {})
        np.testing.assert_allclose(Loop(bound, slots, width).extend(embeds), logits, atol=1e-4)
        # The cache is not cleared: what is in it lies in dead slots.
        assert Loop(bound, slots, width).greedy(embeds, table, TOKENS) == tokens


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("rank", [0, 3])
def test_a_call_in_the_middle_of_a_full_cache_equals_the_module(case: Case, dialect: Dialect, rank: int) -> None:
    config = case.weights.config.text
    form = DecoderForm(dialect=dialect, slots=16, lora_rank=rank)
    feeds = scattered_feeds(decoder_inputs(config, form))
    with torch.inference_mode():
        expected = load(case.weights, "decoder.", lambda: Decoder(config, dialect))(feeds)
    session, entry = case.exported.open(case.exported.decoder(form))
    found = session.run({name: tensor.numpy() for name, tensor in feeds.items()})
    assert list(found) == [spec.name for spec in entry.outputs] == list(expected)
    for name, tensor in expected.items():
        scale = max(1.0, tensor.abs().max().item())
        np.testing.assert_allclose(found[name], tensor, atol=1e-4 * scale, err_msg=name)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_one_set_of_weights_serves_the_base_and_two_switched_adapters(tmp_path: Path, dialect: Dialect) -> None:
    model = lively(tiny_model())
    base = Checkpoint.open(save(model, tmp_path / "base"))
    exported = Exported(base, _made(tmp_path / "graphs"))
    form = DecoderForm(dialect=dialect, slots=SLOTS, lora_rank=6)
    session, entry = exported.open(exported.decoder(form))
    bound = session.bind_state(entry.state, {})
    embeds, outcomes = oracle_embeds(model), []
    for seed, rank in ((1, 4), (2, 6)):
        tuned = tune(model, rank=rank, seed=seed)
        adapter = Adapter.open(save_adapter(tuned, tmp_path / f"adapter{seed}"))
        lora = {name: value.numpy() for name, value in lora_inputs(adapter, base.config.text, form)}
        merged = merged_model(tuned)
        found = Loop(Fed(bound, lora), SLOTS, 9).extend(oracle_embeds(merged))
        np.testing.assert_allclose(found, video_logits(merged)[0], atol=1e-4)
        outcomes.append(found)
    none = {name: np.zeros_like(value) for name, value in lora.items()}
    np.testing.assert_allclose(Loop(Fed(bound, none), SLOTS, 9).extend(embeds), video_logits(model)[0], atol=1e-4)
    assert np.abs(outcomes[0] - outcomes[1]).max() > 0.01


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_merged_adapter_equals_pefts_merge(tmp_path: Path, dialect: Dialect) -> None:
    model = lively(tiny_model())
    tuned = tune(model, rank=4, alpha=2.0)
    base = Checkpoint.open(save(model, tmp_path / "base"))
    weights = Merged(base, Adapter.open(save_adapter(tuned, tmp_path / "adapter")))
    exported = Exported(weights, _made(tmp_path / "graphs"))
    session, entry = exported.open(exported.decoder(DecoderForm(dialect=dialect, slots=SLOTS)))
    merged = merged_model(tuned)
    found = Loop(session.bind_state(entry.state, {}), SLOTS, 9).extend(oracle_embeds(merged))
    np.testing.assert_allclose(found, video_logits(merged)[0], atol=1e-4)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_float16_stays_near_float32(tmp_path: Path, dialect: Dialect) -> None:
    model = lively(tiny_model())
    exported = Exported(Checkpoint.open(save(model, tmp_path / "model")), _made(tmp_path / "graphs"), "float16")
    grid = Grid(rows=4, columns=6)
    patches = torch.rand(2, 24, 588, generator=torch.Generator().manual_seed(0)) * 2 - 1
    session, _ = exported.open(exported.vision(grid, dialect))
    tokens = session.run({"patches": patches.half().numpy()})["tokens"]
    with torch.inference_mode():
        expected = load(exported.weights, "vision.", lambda: Vision(exported.config.vision, grid))(patches)
    np.testing.assert_allclose(tokens, expected, atol=5e-3 * expected.abs().max().item())
    form = DecoderForm(dialect=dialect, slots=SLOTS, dtype="float16")
    session, entry = exported.open(exported.decoder(form))
    logits = Loop(session.bind_state(entry.state, {}), SLOTS, 9).extend(oracle_embeds(model).astype(np.float16))
    reference = video_logits(model)[0].numpy()
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, reference, atol=5e-3 * np.abs(reference).max())


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
