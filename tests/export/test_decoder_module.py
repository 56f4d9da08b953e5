"""The decoder as a module, in both dialects, against transformers' own: whole, in chunks, and with an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from checkpoint_makers import merged_model, save, save_adapter, tiny_model, tune, video_logits, wide_model
from decoder_loop import EagerCaller, Loop, lively, oracle_embeds, oracle_tokens, scattered_feeds

from edge_sdk.errors import ConfigError
from edge_sdk.export.adapters import Adapter, Merged
from edge_sdk.export.checkpoint import Checkpoint, Weights
from edge_sdk.export.graphs.decoder import Decoder
from edge_sdk.export.graphs.decoder_io import DecoderForm, decoder_inputs, decoder_outputs
from edge_sdk.export.graphs.loading import load
from edge_sdk.export.graphs.lora import lora_inputs
from edge_sdk.types import Dialect

DIALECTS: tuple[Dialect, ...] = ("native", "decomposed")
SLOTS, TOKENS = 96, 32


class Case(NamedTuple):
    model: Any
    weights: Checkpoint


@pytest.fixture(scope="module", params=["tiny", "tied", "2b"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    if request.param == "2b":
        model = wide_model("2b", layers=1)
    else:
        model = lively(tiny_model(tied=request.param == "tied", seed=2))
    return Case(model, Checkpoint.open(save(model, tmp_path_factory.mktemp("model"))))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Checkpoint, Adapter]:
    """peft's merge, and our base and adapter."""
    model = lively(tiny_model())
    peft_model = tune(model, rank=4, alpha=2.0)
    base = Checkpoint.open(save(model, tmp_path_factory.mktemp("base")))
    return merged_model(peft_model), base, Adapter.open(save_adapter(peft_model, tmp_path_factory.mktemp("adapter")))


def decoder(weights: Weights, dialect: Dialect) -> Decoder:
    return load(weights, "decoder.", lambda: Decoder(weights.config.text, dialect))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_logits_and_greedy_tokens_equal_transformers_whole_and_in_chunks(case: Case, dialect: Dialect) -> None:
    module = decoder(case.weights, dialect)
    embeds, table = oracle_embeds(case.model), case.weights.tensor("decoder.embed_tokens.weight").numpy()
    logits, tokens = video_logits(case.model)[0].numpy(), oracle_tokens(case.model, TOKENS)
    assert len(set(tokens)) > 4, "an answer that repeats itself would prove little"
    for width in (len(embeds), 7):
        np.testing.assert_allclose(Loop(EagerCaller(module, SLOTS), SLOTS, width).extend(embeds), logits, atol=1e-4)
        # The last call may leave `width` padded rows behind the answer.
        slots = SLOTS + width
        assert Loop(EagerCaller(module, slots), slots, width).greedy(embeds, table, TOKENS) == tokens


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_dead_slots_hold_does_not_matter(case: Case, dialect: Dialect) -> None:
    module, embeds = decoder(case.weights, dialect), oracle_embeds(case.model)
    clean = Loop(EagerCaller(module, SLOTS), SLOTS, 5).extend(embeds)
    np.testing.assert_allclose(Loop(EagerCaller(module, SLOTS, fill=50.0), SLOTS, 5).extend(embeds), clean, atol=1e-5)


def test_both_dialects_agree_in_the_middle_of_a_full_cache(case: Case) -> None:
    config = case.weights.config.text
    feeds = scattered_feeds(decoder_inputs(config, DecoderForm(dialect="native", slots=16)))
    with torch.inference_mode():
        native, decomposed = (decoder(case.weights, dialect)(feeds) for dialect in DIALECTS)
    torch.testing.assert_close(native["logits"], decomposed["logits"], atol=1e-4, rtol=1e-4)
    for index in range(config.layers):
        present, past = native[f"present_key.{index}"], feeds[f"past_key.{index}"]
        torch.testing.assert_close(present[:, :, 6:11], decomposed[f"new_key.{index}"], atol=1e-4, rtol=1e-4)
        for untouched in (slice(0, 6), slice(11, 16)):
            assert torch.equal(present[:, :, untouched], past[:, :, untouched])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_merged_and_switchable_adapters_equal_pefts_merge(
    tuned: tuple[Any, Checkpoint, Adapter], dialect: Dialect
) -> None:
    model, base, adapter = tuned
    config, form = base.config.text, DecoderForm(dialect=dialect, slots=SLOTS, lora_rank=6)
    embeds, expected = oracle_embeds(model), video_logits(model)[0].numpy()
    lora = dict(lora_inputs(adapter, config, form))
    merged = EagerCaller(decoder(Merged(base, adapter), dialect), SLOTS)
    switched = EagerCaller(decoder(base, dialect), SLOTS, lora)
    for caller in (merged, switched):
        np.testing.assert_allclose(Loop(caller, SLOTS, len(embeds)).extend(embeds), expected, atol=1e-4)
    plain = Loop(EagerCaller(decoder(base, dialect), SLOTS), SLOTS, len(embeds)).extend(embeds)
    assert np.abs(plain - expected).max() > 0.01


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("rank", [0, 3])
def test_inputs_and_outputs_are_those_of_the_contract(case: Case, dialect: Dialect, rank: int) -> None:
    config = case.weights.config.text
    form = DecoderForm(dialect=dialect, slots=16, lora_rank=rank)
    sizes, dtypes = {"q": 4, "r": 2}, {"float32": torch.float32, "int64": torch.int64, "bool": torch.bool}
    feeds = {
        spec.name: torch.ones([sizes.get(str(d), d) for d in spec.shape], dtype=dtypes[spec.dtype])
        for spec in decoder_inputs(config, form)
    }
    with torch.inference_mode():
        found = decoder(case.weights, dialect)(feeds)
    expected = decoder_outputs(config, form)
    assert list(found) == [spec.name for spec in expected]
    for spec in expected:
        assert found[spec.name].shape == torch.Size([sizes.get(str(d), d) for d in spec.shape])
    assert sum(name.startswith("lora.") for name in feeds) == (14 * config.layers if rank else 0)


def test_an_adapter_that_the_graph_has_no_room_for_is_refused(tuned: tuple[Any, Checkpoint, Adapter]) -> None:
    _, base, adapter = tuned
    small = DecoderForm(dialect="native", slots=8, lora_rank=3)
    narrow = DecoderForm(dialect="native", slots=8, lora_rank=4, lora_linears=("q", "v"))
    for form, words in ((small, "rank 3 or less on q, k"), (narrow, "on q, v, found rank 4 on q, k")):
        with pytest.raises(ConfigError, match=words):
            list(lora_inputs(adapter, base.config.text, form))


def test_what_an_adapter_leaves_alone_is_zero(tmp_path: Path) -> None:
    model = tiny_model()
    adapter = Adapter.open(save_adapter(tune(model, target_modules=["q_proj"]), tmp_path / "adapter"))
    config = Checkpoint.open(save(model, tmp_path / "base")).config.text
    found = dict(lora_inputs(adapter, config, DecoderForm(dialect="native", slots=8, lora_rank=4)))
    assert found["lora.1.q.a"].any()
    assert not found["lora.1.down.a"].any()
    assert found["lora.1.down.b"].shape == (4, model.config.text_config.hidden_size)
