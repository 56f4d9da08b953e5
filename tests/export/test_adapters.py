from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_makers import (
    LAYOUTS,
    LayoutName,
    canonical_state,
    make_model,
    merged_model,
    native_state,
    save,
    save_adapter,
    tiny_model,
    tune,
    video_logits,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from edge_sdk.errors import CheckpointError
from edge_sdk.export.adapters import Adapter, Merged
from edge_sdk.export.checkpoint import Checkpoint, Weights

State = dict[str, Tensor]
DECODER = "base_model.model.model.layers.0."
VISION = "base_model.model.model.vision_encoder.vision_encoder.encoder.layers.1.self_attn.q_proj."
PROJECTOR = "base_model.model.model.mm_projector.readout."


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model(seed=0)


@pytest.fixture(scope="module")
def tuned(model: Any) -> Any:
    return tune(model, rank=4, alpha=2.0)


@pytest.fixture(scope="module")
def base(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint.open(save(model, tmp_path_factory.mktemp("base"), "crashchat", "bin"))


@pytest.fixture(scope="module")
def made(tuned: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(tuned, tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "adapter"))


def merged_tensors(weights: Weights, adapter: Adapter) -> State:
    merged = Merged(weights, adapter)
    assert merged.names() == weights.names()
    return {name: merged.tensor(name) for name in merged.names()}


def refused(act: Callable[[], object], *words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        act()
    for word in words:
        assert word in str(caught.value), caught.value


def edit(folder: Path, change: Callable[[State], Any]) -> None:
    path = folder / "adapter_model.safetensors"
    state = load_file(path)
    change(state)
    path.unlink()  # its old bytes may be mapped
    save_file(state, path)


def rename(folder: Path, name: Callable[[str], str]) -> None:
    path = folder / "adapter_model.safetensors"
    state = {name(key): tensor for key, tensor in load_file(path).items()}
    path.unlink()
    save_file(state, path)


def settings(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_merged_is_pefts_merge(tmp_path: Path, base: Checkpoint, tuned: Any, layout: LayoutName, form: Any) -> None:
    adapter = Adapter.open(save_adapter(tuned, tmp_path, layout, form))
    expected = canonical_state(merged_model(tuned))
    found = merged_tensors(base, adapter)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_merged_logits_are_the_tuned_models(base: Checkpoint, made: Path, model: Any, tuned: Any) -> None:
    rebuilt = tiny_model(seed=9)
    rebuilt.load_state_dict(native_state(merged_tensors(base, Adapter.open(made)), rebuilt))
    assert torch.allclose(video_logits(rebuilt), video_logits(tuned.base_model.model), atol=1e-5)
    assert not torch.allclose(video_logits(rebuilt), video_logits(model), atol=1e-2)


def test_merge_rounds_once(tmp_path: Path) -> None:
    """In bfloat16 the sum is the exact one, rounded; peft rounds the product first."""
    model = tiny_model(tied=True, seed=3).bfloat16()
    tuned = tune(model, rank=4, alpha=2.0)
    base = Checkpoint.open(save(model, tmp_path / "base"))
    adapter = Adapter.open(save_adapter(tuned, tmp_path / "adapter"))
    merged, pefts = merged_tensors(base, adapter), canonical_state(merged_model(tuned))
    further = 0
    for layer in range(2):
        for linear in ("q", "k", "v", "o", "gate", "up", "down"):
            name = f"decoder.layers.{layer}.{linear}.weight"
            pair = adapter.lora(layer, linear)
            assert pair
            exact = base.tensor(name).double() + pair[2] * pair[1].double() @ pair[0].double()
            # bfloat16 has eight places: half of the last one, and float32's own rounding before it
            limit = torch.exp2(exact.frexp().exponent.double() - 9) * 1.0001
            assert merged[name].dtype == torch.bfloat16
            assert ((merged[name].double() - exact).abs() <= limit).all()
            further += int(((pefts[name].double() - exact).abs() > limit).sum())
    assert further > 0
    assert torch.equal(merged["decoder.embed_tokens.weight"], base.tensor("decoder.embed_tokens.weight"))


def test_an_adapter_in_float32_over_a_base_in_bfloat16(tmp_path: Path, model: Any, made: Path) -> None:
    checkpoint = Checkpoint.open(save(tiny_model(seed=0).bfloat16(), tmp_path))
    merged = Merged(checkpoint, Adapter.open(made))
    for name in merged.names():
        assert merged.spec(name) == checkpoint.spec(name)
        assert merged.tensor(name).dtype == torch.bfloat16


def test_pairs_and_scale(made: Path, tuned: Any) -> None:
    adapter = Adapter.open(made)
    layer = tuned.base_model.model.model.language_model.layers[1]
    for linear, module in (("q", layer.self_attn.q_proj), ("down", layer.mlp.down_proj)):
        pair = adapter.lora(1, linear)
        assert pair
        assert torch.equal(pair[0], module.lora_A["default"].weight)
        assert torch.equal(pair[1], module.lora_B["default"].weight)
        assert pair[2] == module.scaling["default"] == 0.5
    assert adapter.lora(2, "q") is None
    assert adapter.linears == ("q", "k", "v", "o", "gate", "up", "down")
    assert adapter.dropped == 6  # q, k and v of two layers of the tower
    assert adapter.projector
    assert list(adapter.projector) == [
        "projector.0.weight",
        "projector.0.bias",
        "projector.2.weight",
        "projector.2.bias",
    ]


def test_scale_of_rank_stabilised_lora(tmp_path: Path, model: Any, base: Checkpoint) -> None:
    tuned = tune(model, rank=9, alpha=6.0, use_rslora=True)
    adapter = Adapter.open(save_adapter(tuned, tmp_path))
    pair = adapter.lora(0, "v")
    assert pair
    assert pair[2] == pytest.approx(2.0)
    same = torch.equal(
        merged_tensors(base, adapter)["decoder.layers.0.v.weight"],
        canonical_state(merged_model(tuned))["decoder.layers.0.v.weight"],
    )
    assert same


def test_some_linears_in_some_layers(tmp_path: Path, model: Any, base: Checkpoint) -> None:
    pattern = r".*language_model\.layers\.1\.self_attn\.(q|o)_proj"
    tuned = tune(model, target_modules=pattern)
    adapter = Adapter.open(save_adapter(tuned, tmp_path))
    assert (adapter.linears, adapter.dropped) == (("q", "o"), 0)
    assert adapter.lora(0, "q") is None
    found, expected = merged_tensors(base, adapter), canonical_state(merged_model(tuned))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key.replace(".lora_A.weight", ".lora_A.default.weight").replace(
            ".lora_B.weight", ".lora_B.default.weight"
        ),
        lambda key: key.removeprefix("base_model.model."),
        lambda key: key.removeprefix("base_model."),
        lambda key: key.replace("base_model.model.model.", "base_model.model."),
        lambda key: key.replace("base_model.model.model.", ""),
        lambda key: key.replace("vision_encoder.vision_encoder", "vision_encoder"),
    ],
)
def test_every_prefix(folder: Path, base: Checkpoint, made: Path, change: Callable[[str], str]) -> None:
    rename(folder, change)
    assert change(VISION + "lora_A.weight") in load_file(folder / "adapter_model.safetensors")
    projector = torch.load(folder / "non_lora_trainables.bin", weights_only=True)
    torch.save({change(name): value for name, value in projector.items()}, folder / "non_lora_trainables.bin")
    found, expected = Adapter.open(folder), Adapter.open(made)
    assert found.dropped == expected.dropped
    merged, reference = merged_tensors(base, found), merged_tensors(base, expected)
    assert all(torch.equal(merged[name], reference[name]) for name in reference)


def test_trained_vision_tower(folder: Path) -> None:
    edit(folder, lambda state: state[VISION + "lora_B.weight"][3].fill_(1e-6))
    refused(lambda: Adapter.open(folder), "adapter_model.safetensors", VISION + "lora_B.weight", "expected zeros")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda state: state.update({DECODER + "mlp.up_proj.lora_A.weight": torch.zeros(5, 32)}),
            (DECODER + "mlp.up_proj.lora_A.weight", "rank 4", "[5, 32]"),
        ),
        (
            lambda state: state.update({DECODER + "mlp.up_proj.lora_B.weight": torch.zeros(48, 5)}),
            (DECODER + "mlp.up_proj.lora_B.weight", "rank 4", "[48, 5]"),
        ),
        (lambda state: state.pop(DECODER + "mlp.up_proj.lora_A.weight"), (DECODER + "mlp.up_proj.lora_B", "alone")),
        (
            lambda state: state.update(
                {
                    "base_model.model.lm_head.lora_A.weight": torch.zeros(4, 32),
                    "base_model.model.lm_head.lora_B.weight": torch.zeros(128, 4),
                }
            ),
            ("base_model.model.lm_head.lora_A.weight", "lm_head", "down"),
        ),
        (
            lambda state: state.update({DECODER + "self_attn.q_proj.lora_A.default.weight": torch.zeros(4, 32)}),
            (DECODER + "self_attn.q_proj.lora_A", "twice"),
        ),
        (
            lambda state: state.update({DECODER + "self_attn.q_proj.lora_magnitude_vector": torch.zeros(32)}),
            (DECODER + "self_attn.q_proj.lora_magnitude_vector", "variants"),
        ),
        (lambda state: state.clear() or state.update({"x.lora_C": torch.zeros(1)}), ("x.lora_C",)),
        (
            lambda state: state.update({DECODER + "mlp.up_proj.lora_B.weight": torch.zeros(48, 4, dtype=torch.int8)}),
            (DECODER + "mlp.up_proj.lora_B.weight", "found I8", "bfloat16"),
        ),
    ],
)
def test_tensors_that_are_no_adapter(folder: Path, change: Callable[[State], Any], words: tuple[str, ...]) -> None:
    edit(folder, change)
    refused(lambda: Adapter.open(folder), "adapter_model.safetensors", *words)


def test_an_empty_adapter(folder: Path) -> None:
    edit(folder, lambda state: [state.pop(key) for key in list(state) if "vision" not in key])
    refused(lambda: Adapter.open(folder), "expected LoRA on the decoder")


def test_values_that_are_not_finite(folder: Path, base: Checkpoint) -> None:
    edit(folder, lambda state: state[DECODER + "mlp.up_proj.lora_B.weight"][7, 1].fill_(torch.nan))
    refused(lambda: merged_tensors(base, Adapter.open(folder)), DECODER + "mlp.up_proj.lora_B.weight", "NaN")


def test_sum_beyond_the_element_type(folder: Path, tmp_path: Path, model: Any) -> None:
    checkpoint = Checkpoint.open(save(tiny_model(seed=0).half(), tmp_path / "half"))
    edit(folder, lambda state: [state[DECODER + f"mlp.up_proj.lora_{side}.weight"].fill_(300) for side in "AB"])
    refused(
        lambda: merged_tensors(checkpoint, Adapter.open(folder)), "decoder.layers.0.up.weight as float16", "infinity"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": 64}, ("lora_", ".weight", "expected 64 along axis", "32", "another/base")),
        ({"num_hidden_layers": 1}, ("layers.1.", "1 decoder layers")),
        ({"num_hidden_layers": 3}, ("layers.2.self_attn.q_proj", "targets")),
    ],
)
def test_adapter_for_another_base(
    folder: Path, tmp_path: Path, model: Any, change: dict[str, Any], words: tuple[str, ...]
) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2} | change
    other = tiny_like(**sizes)
    settings(folder, base_model_name_or_path="another/base")
    checkpoint = Checkpoint.open(save(other, tmp_path / "other"))
    refused(lambda: Merged(checkpoint, Adapter.open(folder)), "adapter_model.safetensors", *words)


def tiny_like(hidden_size: int, num_hidden_layers: int) -> Any:
    text = {"hidden_size": hidden_size, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
    vision = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 40}
    return make_model(text, vision, layers=num_hidden_layers, vocabulary=128, tied=False, seed=0)


def projector(folder: Path, change: Callable[[State], Any]) -> None:
    path = folder / "non_lora_trainables.bin"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop(PROJECTOR + "2.bias"), ("missing: projector.2.bias",)),
        (lambda state: state.update({PROJECTOR + "4.bias": torch.zeros(32)}), (PROJECTOR + "4.bias", "nothing else")),
        (
            lambda state: state.update({"model.embed_tokens.weight": torch.zeros(128, 32)}),
            ("model.embed_tokens.weight", "nothing else"),
        ),
        (
            lambda state: state.update({PROJECTOR + "0.bias": torch.zeros(32, dtype=torch.int64)}),
            (PROJECTOR + "0.bias", "found int64"),
        ),
        (lambda state: state[PROJECTOR + "0.weight"][0].fill_(torch.inf), (PROJECTOR + "0.weight", "infinity")),
        (lambda state: state.update({PROJECTOR + "0.bias": torch.zeros(8)}), (PROJECTOR + "0.bias", "[32]", "[8]")),
    ],
)
def test_projectors_that_are_none(
    folder: Path, base: Checkpoint, change: Callable[[State], Any], words: tuple[str, ...]
) -> None:
    projector(folder, change)
    refused(lambda: Merged(base, Adapter.open(folder)), "non_lora_trainables.bin", *words)


def test_a_projector_is_never_silently_the_bases(folder: Path, base: Checkpoint, tuned: Any) -> None:
    refused(lambda: Adapter.open(folder, base_projector=True), "non_lora_trainables.bin", "base's projector")
    (folder / "non_lora_trainables.bin").unlink()
    refused(lambda: Adapter.open(folder), "non_lora_trainables.bin", "copy the whole folder")
    merged = Merged(base, Adapter.open(folder, base_projector=True))
    assert torch.equal(merged.tensor("projector.0.weight"), base.tensor("projector.0.weight"))
    assert not torch.equal(merged.tensor("decoder.layers.0.q.weight"), base.tensor("decoder.layers.0.q.weight"))


def test_files_that_are_not_whole(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    data = path.read_bytes()
    path.unlink()
    refused(lambda: Adapter.open(folder), "expected adapter_model.safetensors or adapter_model.bin")
    path.write_bytes(data[: len(data) // 2])
    refused(lambda: Adapter.open(folder), "adapter_model.safetensors", "whole")
    (folder / "adapter_config.json").unlink()
    refused(lambda: Adapter.open(folder), "adapter_config.json", "cannot be read")
    refused(lambda: Adapter.open(folder / "none"), "none", "check the path")
