"""A mini on disk in the layout of the public weights: VideoLLaMA3's for the base, CrashChat's for an adapter.

Code that reads the public weights reads these too; nothing in the export toolchain knows that they are small.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from edge_sdk.export.adapters import NON_LORA
from edge_sdk.export.layouts import LAYOUTS, tensor_shapes
from edge_sdk.export.lora_config import CONFIG_FILE
from edge_sdk.export.model_config import ModelConfig
from edge_sdk.export.tokenizer import FINISHED
from edge_sdk.files import atomic_folder, write_bytes

ADAPTER_FILE = "adapter_model.safetensors"
_LAYOUT = {layout.name: layout for layout in LAYOUTS}
_WRAPPER = "base_model.model."
_FROM_NATIVE = (
    ("model.vision_model.", "model.vision_encoder.vision_encoder."),
    ("model.projector.", "model.mm_projector."),
    ("model.language_model.", "model."),
)


# Any: a transformers model, here and below.
def save_base(model: Any, tokenizer: Path, folder: Path) -> Path:
    """Write the checkpoint `folder`, which must not exist: `config.json`, `model.safetensors`, `tokenizer.json`."""
    native, public = _LAYOUT["transformers"], _LAYOUT["videollama3"]
    state: Mapping[str, Tensor] = model.state_dict()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as draft:
        (draft / "config.json").write_text(json.dumps(_config(model.config), indent=1) + "\n", encoding="utf-8")
        names = tensor_shapes(ModelConfig.read(draft))
        tensors = {public.public(name): state[native.public(name)].detach().cpu().contiguous() for name in names}
        save_file(tensors, draft / "model.safetensors", {"format": "pt"})
        write_bytes(draft / FINISHED, tokenizer.read_bytes())
    return folder


def save_adapter(tuned: Any, base: Path, folder: Path) -> Path:
    """Write the adapter `folder`, which must not exist, of peft's model `tuned` over the checkpoint in `base`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as draft, TemporaryDirectory() as beside:
        tuned.save_pretrained(beside)
        config = json.loads((Path(beside) / CONFIG_FILE).read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = base.name
        config["target_modules"] = sorted(config["target_modules"])
        (draft / CONFIG_FILE).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        pairs = {_public(name): tensor for name, tensor in load_file(Path(beside) / ADAPTER_FILE).items()}
        save_file(pairs, draft / ADAPTER_FILE, {"format": "pt"})
        trained = {name: value.detach().cpu() for name, value in tuned.named_parameters() if ".projector." in name}
        torch.save({_public(name): value for name, value in trained.items()}, draft / NON_LORA)
        for name in ("config.json", FINISHED):
            write_bytes(draft / name, (base / name).read_bytes())
    return folder


def _public(native: str) -> str:
    name = native.removeprefix(_WRAPPER)
    for old, new in _FROM_NATIVE:
        if name.startswith(old):
            return f"{_WRAPPER}{new}{name.removeprefix(old)}"
    return native


def _config(config: Any) -> dict[str, Any]:
    """`config.json` as VideoLLaMA3's own code writes it. Every token of a frame is kept, so compression is off."""
    text, vision = config.text_config, config.vision_config
    same = (
        "hidden_size",
        "intermediate_size",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "rms_norm_eps",
        "vocab_size",
        "eos_token_id",
    )
    tower = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "patch_size")
    return {
        "architectures": ["Videollama3Qwen2ForCausalLM"],
        "model_type": "videollama3_qwen2",
        **{key: getattr(text, key) for key in same},
        "hidden_act": "silu",
        "rope_theta": text.rope_parameters["rope_theta"],
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "use_cache": True,
        "use_sliding_window": False,
        "use_token_compression": False,
        "image_token_index": config.image_token_id,
        "mm_projector_type": "mlp2x_gelu",
        "vision_encoder": None,
        "vision_encoder_config": {"model_type": "videollama3_vision_encoder"}
        | {key: getattr(vision, key) for key in tower},
    }
