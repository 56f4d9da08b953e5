from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoint_makers import TARGETS

from edge_sdk.errors import CheckpointError
from edge_sdk.export.lora_config import LoraConfig

# As peft 0.4.0 writes it, with CrashChat's own values.
FIRST: dict[str, Any] = {
    "auto_mapping": None,
    "base_model_name_or_path": "ckpt/videollama3_baseline",
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layers_pattern": None,
    "layers_to_transform": None,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "modules_to_save": None,
    "peft_type": "LORA",
    "r": 64,
    "revision": None,
    "target_modules": TARGETS,
    "task_type": "CAUSAL_LM",
}


def read(folder: Path, **changes: Any) -> LoraConfig:
    (folder / "adapter_config.json").write_text(json.dumps(FIRST | changes))
    return LoraConfig.read(folder)


def test_crashchats_settings(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert (found.rank, found.alpha, found.scale) == (64, 16.0, 0.25)
    assert found.base == "ckpt/videollama3_baseline"
    assert found.targets_module("layers.27.mlp.down_proj")
    assert not found.targets_module("layers.27.mlp.other_down_proj")


def test_rank_stabilised_scale(tmp_path: Path) -> None:
    assert read(tmp_path, use_rslora=True).scale == 2.0


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": "all-linear"},
        {"layers_to_transform": [0, 1]},
        {"exclude_modules": ["lm_head"]},
    ],
)
def test_modules_that_the_settings_leave_open(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert not read(tmp_path, **changes).targets_module("layers.0.self_attn.q_proj")


def test_settings_without_effect(tmp_path: Path) -> None:
    later = {
        "peft_version": "0.21.2",
        "qalora_group_size": 16,
        "megatron_core": "megatron.core",
        "init_lora_weights": "gaussian",
        "loftq_config": {},
        "rank_pattern": {},
        "a_setting_of_the_future": None,
    }
    assert read(tmp_path, **later) == read(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("bias", "all"),
        ("modules_to_save", ["lm_head"]),
        ("fan_in_fan_out", True),
        ("rank_pattern", {"q_proj": 8}),
        ("alpha_pattern", {"q_proj": 8}),
        ("layer_replication", [[0, 2]]),
        ("lora_bias", True),
        ("trainable_token_indices", [1]),
        ("target_parameters", ["x"]),
        ("use_qalora", True),
        ("megatron_config", {"a": 1}),
        ("init_lora_weights", "pissa_niter_4"),
        ("init_lora_weights", "loftq"),
        ("peft_type", "IA3"),
        ("peft_type", None),
        ("r", 0),
        ("lora_alpha", None),
        ("target_modules", None),
        ("a_setting_of_the_future", {"on": True}),
    ],
)
def test_settings_that_are_not_honoured(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path, **{key: value})
    for word in (str(tmp_path / "adapter_config.json"), key, json.dumps(value)):
        assert word in str(caught.value), caught.value
