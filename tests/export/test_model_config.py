from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import CheckpointError
from edge_sdk.export.model_config import ModelConfig, ProjectorConfig, TextConfig, TokenIds, VisionConfig

# Published sizes; the tower is the same in both.
TOWER = VisionConfig(
    hidden=1152, layers=27, heads=16, intermediate=4304, patch=14, channels=3, eps=1e-6, rope_theta=1e4
)
COMMON: dict[str, Any] = {"layers": 28, "head_dim": 128, "rope_theta": 1e6, "eps": 1e-6}
SMALL = {"hidden": 1536, "heads": 12, "kv_heads": 2, "intermediate": 8960, "vocab": 151936, "tied": True}
LARGE = {"hidden": 3584, "heads": 28, "kv_heads": 4, "intermediate": 18944, "vocab": 152064, "tied": False}
ORIGINAL = TokenIds(image=151665, video=151665, end=(151645,))
NATIVE = TokenIds(image=151655, video=151656, end=(151645,))

FLAT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 128,
    "rope_theta": 1e6,
    "image_token_index": 120,
    "eos_token_id": 122,
}


def read(folder: Path, values: Any) -> ModelConfig:
    (folder / "config.json").write_text(values if isinstance(values, str) else json.dumps(values))
    return ModelConfig.read(folder)


def nested(**text: Any) -> dict[str, Any]:
    return {"text_config": FLAT | text, "image_token_id": 120, "video_token_id": 121}


@pytest.mark.parametrize(
    ("name", "sizes", "positions", "tokens"),
    [
        ("DAMO-NLP-SG__VideoLLaMA3-2B", SMALL, 32768, ORIGINAL),
        ("DAMO-NLP-SG__VideoLLaMA3-7B", LARGE, 32768, ORIGINAL),
        # This snapshot says <|endoftext|> and four times the positions.
        ("lkhl__VideoLLaMA3-2B-Image-HF", SMALL, 131072, TokenIds(image=151655, video=151656, end=(151645, 151643))),
        ("lkhl__VideoLLaMA3-7B-Image-HF", LARGE, 32768, NATIVE),
    ],
)
def test_public_configurations(
    shared_data: Path, name: str, sizes: dict[str, Any], positions: int, tokens: TokenIds
) -> None:
    config = ModelConfig.read(shared_data / "videollama3-configs" / f"{name}__config.json")
    assert config == ModelConfig(
        vision=TOWER,
        text=TextConfig(**COMMON, **sizes, max_positions=positions),
        projector=ProjectorConfig(input=1152, output=sizes["hidden"]),
        tokens=tokens,
        compression=True,
    )
    assert (config.vision.head_dim, config.vision.patch_values) == (72, 588)


def test_tower_left_out_is_videollama3s(tmp_path: Path) -> None:
    assert read(tmp_path, FLAT).vision == TOWER
    assert read(tmp_path, FLAT | {"vision_encoder_config": None, "vision_encoder": "some/tower"}).vision == TOWER
    assert read(tmp_path, nested()).vision == TOWER


def test_head_width_of_its_own(tmp_path: Path) -> None:
    assert read(tmp_path, FLAT).text.head_dim == 8
    assert read(tmp_path, FLAT | {"head_dim": 16}).text.head_dim == 16


def test_rope_as_newer_transformers_writes_it(tmp_path: Path) -> None:
    text = {key: value for key, value in FLAT.items() if key != "rope_theta"}
    text["rope_parameters"] = {"rope_theta": 5e5, "rope_type": "default"}
    vision = {"rope_parameters": {"rope_theta": 2e4, "rope_type": "axial"}}
    found = read(tmp_path, nested() | {"text_config": text, "vision_config": vision})
    assert (found.text.rope_theta, found.vision.rope_theta) == (5e5, 2e4)


def test_tied_in_either_place(tmp_path: Path) -> None:
    assert not read(tmp_path, nested()).text.tied
    assert read(tmp_path, nested(tie_word_embeddings=True)).text.tied
    assert read(tmp_path, nested() | {"tie_word_embeddings": True}).text.tied


def test_image_token_that_nobody_has_set(tmp_path: Path) -> None:
    assert read(tmp_path, FLAT | {"vocab_size": 151936, "image_token_index": -1}).tokens.image == 151665


def test_end_tokens(tmp_path: Path) -> None:
    assert read(tmp_path, FLAT | {"eos_token_id": [3, 4]}).tokens.end == (3, 4)
    assert read(tmp_path, FLAT | {"vocab_size": 151936, "eos_token_id": None}).tokens.end == (151645,)


def test_compression(tmp_path: Path) -> None:
    assert read(tmp_path, FLAT).compression
    assert not read(tmp_path, FLAT | {"use_token_compression": False}).compression
    assert read(tmp_path, nested()).compression
    (tmp_path / "processor_config.json").write_text('{"video_processor": {"use_token_compression": false}}')
    assert not read(tmp_path, nested()).compression
    (tmp_path / "video_preprocessor_config.json").write_text('{"use_token_compression": true}')
    assert read(tmp_path, nested()).compression


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_act": "gelu"}, ("hidden_act", "silu", "gelu")),
        ({"mm_projector_type": "linear"}, ("mm_projector_type", "mlp2x_gelu", "linear")),
        ({"use_sliding_window": True}, ("use_sliding_window", "false")),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [1, 2]}}, ("rope_scaling", "type", "mrope")),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}}, ("rope_parameters", "yarn")),
        ({"layer_types": ["full_attention", "sliding_attention"]}, ("layer_types", "sliding_attention")),
        ({"rope_theta": None}, ("rope_theta", "null")),
        ({"hidden_size": "32"}, ("hidden_size", '"32"')),
        ({"num_hidden_layers": 0}, ("num_hidden_layers", "0")),
        ({"num_hidden_layers": True}, ("num_hidden_layers", "true")),
        ({"intermediate_size": None}, ("intermediate_size", "null")),
        ({"num_key_value_heads": 3}, ("num_key_value_heads", "3")),
        ({"rms_norm_eps": 0}, ("rms_norm_eps", "0")),
        ({"image_token_index": 500}, ("image_token_index", "vocab_size 128", "500")),
        ({"image_token_index": None}, ("image_token_index", "vocab_size 128", "151665")),
        ({"eos_token_id": None}, ("eos_token_id", "null")),
        ({"eos_token_id": [3, "x"]}, ("eos_token_id", "x")),
        ({"eos_token_id": 128}, ("eos_token_id", "128")),
        ({"tie_word_embeddings": "yes"}, ("tie_word_embeddings", "yes")),
        ({"vision_encoder_config": {"hidden_act": "gelu"}}, ("vision_encoder_config", "gelu_pytorch_tanh")),
        ({"vision_encoder_config": {"num_attention_heads": 7}}, ("vision_encoder_config", "1152 and 7")),
        ({"vision_encoder_config": [1]}, ("vision_encoder_config", "object")),
    ],
)
def test_wrong_values(tmp_path: Path, change: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path, FLAT | change)
    for word in (str(tmp_path / "config.json"), *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ("expected JSON",)),
        ("[]", ("expected a JSON object, found list",)),
        ('{"peft_type": "LORA"}', ("text_config", "hidden_size", "peft_type")),
    ],
)
def test_other_files(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path, text)
    for word in words:
        assert word in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: expected a JSON file, but it cannot be read"):
        ModelConfig.read(tmp_path)
