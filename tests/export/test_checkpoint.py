from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_makers import (
    FORMS,
    LAYOUTS,
    Form,
    LayoutName,
    canonical_state,
    hollow,
    native_state,
    save,
    save_state,
    tiny_model,
    video_logits,
    wide_model,
)
from memory_use import anonymous_mb
from safetensors.torch import load_file, save_file
from torch import Tensor

from edge_sdk.errors import CheckpointError
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.layouts import LAYOUTS as KNOWN_LAYOUTS
from edge_sdk.export.layouts import stored_shape, tensor_shapes
from edge_sdk.export.model_config import ModelConfig

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def untied() -> Any:
    return tiny_model(seed=0)


@pytest.fixture(scope="module")
def tied() -> Any:
    return tiny_model(tied=True, seed=1)


def all_tensors(checkpoint: Checkpoint) -> State:
    return {name: checkpoint.tensor(name) for name in checkpoint.names()}


def same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def refused(folder: Path, *words: str) -> None:
    """Opening and reading everything gives one `CheckpointError` that has each of `words`."""
    with pytest.raises(CheckpointError) as caught:
        all_tensors(Checkpoint.open(folder))
    for word in words:
        assert word in str(caught.value), caught.value


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_state(folder: Path, change: Callable[[State], None]) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    path.unlink()  # its old bytes may be mapped
    save_file(state, path)


def remove(state: State, part: str) -> None:
    for name in [name for name in state if part in name]:
        del state[name]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", FORMS)
def test_every_tensor_of_every_layout_and_form(
    tmp_path: Path, untied: Any, tied: Any, layout: LayoutName, form: Form
) -> None:
    for model in (untied, tied):
        checkpoint = Checkpoint.open(save(model, tmp_path / str(id(model)), layout, form))
        assert checkpoint.layout.name == layout
        assert checkpoint.config.text.tied == model.config.tie_word_embeddings
        same(all_tensors(checkpoint), canonical_state(model))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_of_a_model_rebuilt_from_our_tensors(tmp_path: Path, tied: Any, layout: LayoutName) -> None:
    checkpoint = Checkpoint.open(save(tied, tmp_path, layout))
    rebuilt = tiny_model(tied=True, seed=5)
    assert not torch.allclose(video_logits(rebuilt), video_logits(tied), atol=1e-3)
    rebuilt.load_state_dict(native_state(all_tensors(checkpoint), rebuilt))
    assert torch.equal(video_logits(rebuilt), video_logits(tied))


def test_true_head_sizes(tmp_path: Path) -> None:
    model = wide_model("2b", layers=1, vocabulary=512)
    checkpoint = Checkpoint.open(save(model, tmp_path, "crashchat", "bin"))
    assert (checkpoint.config.vision.head_dim, checkpoint.config.text.head_dim) == (72, 128)
    assert checkpoint.spec("decoder.layers.0.k.weight").shape == (256, 1536)
    same(all_tensors(checkpoint), canonical_state(model))


def test_a_folder_that_transformers_wrote(tmp_path: Path, untied: Any) -> None:
    untied.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    same(all_tensors(Checkpoint.open(tmp_path)), canonical_state(untied))


def test_element_types_are_kept(tmp_path: Path, untied: Any) -> None:
    state = {name: tensor.bfloat16() for name, tensor in untied.state_dict().items()}
    state["model.language_model.norm.weight"] = state["model.language_model.norm.weight"].float()
    state["model.projector.readout.0.bias"] = state["model.projector.readout.0.bias"].half()
    save(untied, tmp_path, "transformers")
    save_state(state, tmp_path, "safetensors")
    checkpoint = Checkpoint.open(tmp_path)
    dtypes = {name: checkpoint.spec(name).dtype for name in checkpoint.names()}
    assert dtypes.pop("decoder.norm.weight") == "float32"
    assert dtypes.pop("projector.0.bias") == "float16"
    assert set(dtypes.values()) == {"bfloat16"}
    for name in checkpoint.names():
        assert str(checkpoint.tensor(name).dtype) == f"torch.{checkpoint.spec(name).dtype}"


def test_layout_is_seen_from_names_alone(tmp_path: Path, untied: Any) -> None:
    folder = save(untied, tmp_path / "VideoLLaMA3-7B-Image-HF", "crashchat")
    edit_config(folder, model_type="video_llama_3", architectures=["VideoLlama3ForConditionalGeneration"])
    assert Checkpoint.open(folder).layout.name == "crashchat"


def test_tensors_of_older_code_that_follow_from_the_configuration(tmp_path: Path, untied: Any) -> None:
    save(untied, tmp_path)
    edit_state(tmp_path, lambda state: state.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}))
    same(all_tensors(Checkpoint.open(tmp_path)), canonical_state(untied))


@pytest.mark.parametrize(("size", "parameters"), [("2B", 1_959_993_584), ("7B", 8_044_744_944)])
def test_true_size_from_headers_alone(tmp_path: Path, shared_data: Path, size: str, parameters: int) -> None:
    source = shared_data / "videollama3-configs" / f"DAMO-NLP-SG__VideoLLaMA3-{size}__config.json"
    config = ModelConfig.read(source)
    layout = KNOWN_LAYOUTS[1]
    shapes = {
        layout.public(name): stored_shape(name, shape, config.vision) for name, shape in tensor_shapes(config).items()
    }
    hollow(tmp_path, shapes)
    (tmp_path / "config.json").write_bytes(source.read_bytes())
    before = anonymous_mb()
    checkpoint = Checkpoint.open(tmp_path)
    shapes_found = [checkpoint.spec(name).shape for name in checkpoint.names()]
    assert sum(torch.Size(shape).numel() for shape in shapes_found) == parameters
    largest = checkpoint.tensor("decoder.layers.27.down.weight")
    assert largest.numel() * 2 > 27e6
    assert anonymous_mb() - before < 20


def test_values_are_read_only_when_asked_for(tmp_path: Path, untied: Any) -> None:
    save(untied, tmp_path)
    edit_state(tmp_path, lambda state: state["model.norm.weight"].fill_(torch.nan))
    checkpoint = Checkpoint.open(tmp_path)
    checkpoint.tensor("decoder.layers.1.down.weight")
    with pytest.raises(CheckpointError, match=r"model\.safetensors, tensor model\.norm\.weight: .* NaN"):
        checkpoint.tensor("decoder.norm.weight")


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_values_that_are_not_finite(tmp_path: Path, untied: Any, form: Form, value: float, dtype: torch.dtype) -> None:
    save(untied, tmp_path, "transformers")
    (tmp_path / "model.safetensors").unlink()
    state = {name: tensor.to(dtype) for name, tensor in untied.state_dict().items()}
    state["model.language_model.layers.1.mlp.up_proj.weight"].view(-1)[777] = value
    save_state(state, tmp_path, form)
    refused(tmp_path, "model.language_model.layers.1.mlp.up_proj.weight", "NaN or infinity")


def test_names_outside_the_model(tmp_path: Path, tied: Any) -> None:
    checkpoint = Checkpoint.open(save(tied, tmp_path))
    for ask in (checkpoint.spec, checkpoint.tensor):
        with pytest.raises(KeyError):
            ask("decoder.lm_head.weight")


def test_tied_head_that_is_not_the_embedding(tmp_path: Path, tied: Any) -> None:
    save(tied, tmp_path)
    edit_state(tmp_path, lambda state: state.update({"lm_head.weight": state["model.embed_tokens.weight"] * 1.5}))
    refused(tmp_path, "lm_head.weight", "tie_word_embeddings", "model.embed_tokens.weight")
    edit_state(tmp_path, lambda state: state.update({"lm_head.weight": torch.zeros(3, 32)}))
    refused(tmp_path, "lm_head.weight", "[128, 32]", "[3, 32]")


def test_untied_model_without_a_head(tmp_path: Path, untied: Any) -> None:
    save(untied, tmp_path)
    edit_state(tmp_path, lambda state: remove(state, "lm_head"))
    refused(tmp_path, "model.safetensors", "lm_head.weight", "tie_word_embeddings")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 3}, ("not there", "model.layers.2.", "9 more")),
        ({"num_hidden_layers": 1}, ("not expected", "model.layers.1.", "9 more")),
        ({"hidden_size": 64}, ("model.mm_projector.readout.0.weight", "[64, 24]", "[32, 24]", "hidden_size 64")),
        ({"vocab_size": 130}, ("model.embed_tokens.weight", "[130, 32]", "[128, 32]")),
    ],
)
def test_configuration_of_another_model(
    tmp_path: Path, untied: Any, change: dict[str, int], words: tuple[str, ...]
) -> None:
    save(untied, tmp_path)
    edit_config(tmp_path, **change)
    refused(tmp_path, "model.safetensors", *words)


def test_shape_that_does_not_fit_names_the_tensor(tmp_path: Path, untied: Any) -> None:
    name = "model.vision_encoder.embeddings.patch_embedding.weight"
    save(untied, tmp_path)
    edit_state(tmp_path, lambda state: state.update({name: torch.zeros(24, 3, 16, 16)}))
    refused(tmp_path, "model.safetensors", name, "[24, 3, 14, 14]", "[24, 3, 16, 16]")


def test_quantised_weights(tmp_path: Path, untied: Any) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    save(untied, tmp_path)
    edit_state(tmp_path, lambda state: state.update({name: state[name].to(torch.float8_e4m3fn)}))
    refused(tmp_path, name, "F8_E4M3", "bfloat16, float16, float32")


def test_another_kind_of_model(tmp_path: Path, untied: Any) -> None:
    save(untied, tmp_path)
    edit_state(tmp_path, lambda state: remove(state, "vision"))
    refused(tmp_path, "model.safetensors", "VideoLLaMA3", "lm_head.weight", "transformers")


def test_no_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none", "none", "check the path")
