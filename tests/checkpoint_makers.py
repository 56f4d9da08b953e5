"""Small VideoLLaMA3 checkpoints in every public layout and file form, made from transformers' own model.

Names and configurations are written down here a second time, from the public files, so that tests do not check the
export code against itself.
"""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers_oracle import peft, transformers

LayoutName = Literal["crashchat", "videollama3", "transformers"]
Form = Literal["safetensors", "sharded", "bin", "sharded-bin"]

LAYOUTS: tuple[LayoutName, ...] = ("crashchat", "videollama3", "transformers")
FORMS: tuple[Form, ...] = ("safetensors", "sharded", "bin", "sharded-bin")
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# hidden, heads, key-value heads, intermediate; whether the head is tied
SIZES = {"2b": (1536, 12, 2, 8960, True), "7b": (3584, 28, 4, 18944, False)}
_VISION = {"hidden_size": 1152, "num_attention_heads": 16, "intermediate_size": 4304}
_TINY_VISION = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 40}

_FROM_NATIVE = {
    "crashchat": (("vision_model.", "vision_encoder.vision_encoder."), ("projector.", "mm_projector.")),
    "videollama3": (("vision_model.", "vision_encoder."), ("projector.", "mm_projector.")),
}
_CANONICAL = (
    (r"model\.vision_model\.embeddings\.", "vision."),
    (r"model\.vision_model\.post_layernorm\.", "vision.norm."),
    (r"model\.vision_model\.encoder\.", "vision."),
    (r"model\.projector\.readout\.", "projector."),
    (r"model\.language_model\.", "decoder."),
    (r"^lm_head\.", "decoder.lm_head."),
    (r"self_attn\.(\w+)_proj", r"\1"),
    (r"mlp\.(gate|up|down)_proj", r"\1"),
    (r"mlp\.", ""),
    (r"layer_norm([12])", r"norm\1"),
    (r"input_layernorm", "norm1"),
    (r"post_attention_layernorm", "norm2"),
)


def tiny_model(*, tied: bool = False, seed: int = 0) -> Any:
    """2 layers in both halves, 128 tokens, GQA, patches of 14; the ids of image, video and end are 120, 121 and 122."""
    text = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
    return make_model(text, _TINY_VISION, layers=2, vocabulary=128, tied=tied, seed=seed)


def wide_model(size: Literal["2b", "7b"], *, layers: int = 2, vocabulary: int = 4096, seed: int = 0) -> Any:
    """The true widths and head sizes of a public size, with few layers and a small vocabulary."""
    hidden, heads, kv_heads, inner, tied = SIZES[size]
    text = {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
    }
    return make_model(text, _VISION, layers=layers, vocabulary=vocabulary, tied=tied, seed=seed)


def make_model(
    text: Mapping[str, int], vision: Mapping[str, int], *, layers: int, vocabulary: int, tied: bool, seed: int
) -> Any:
    """transformers' model in float32 with random weights, all biases and norms off their initial values."""
    ids = {"eos_token_id": vocabulary - 6, "vocab_size": vocabulary, "num_hidden_layers": layers}
    config = transformers.VideoLlama3Config(
        text_config={"model_type": "qwen2", "rope_theta": 1e6, "tie_word_embeddings": tied, **text, **ids},
        vision_config={"patch_size": 14, "num_hidden_layers": layers, **vision},
        image_token_id=vocabulary - 8,
        video_token_id=vocabulary - 7,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(seed)
    model = transformers.VideoLlama3ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def canonical_state(model: Any) -> dict[str, Tensor]:
    """The model's tensors under the export code's names; the patch embedding as a matrix, a tied head left out."""
    state = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    found = {canonical_name(name): tensor for name, tensor in state.items()}
    patch = "vision.patch_embedding.weight"
    return found | {patch: found[patch].flatten(1)}


def native_state(weights: Mapping[str, Tensor], like: Any) -> dict[str, Tensor]:
    """The inverse of `canonical_state`: what `like.load_state_dict` takes."""
    if like.config.tie_word_embeddings:
        weights = {**weights, "decoder.lm_head.weight": weights["decoder.embed_tokens.weight"]}
    return {
        name: weights[canonical_name(name)].reshape(tensor.shape).to(tensor.dtype)
        for name, tensor in like.state_dict().items()
    }


def canonical_name(native: str) -> str:
    """The export code's name for one of transformers'."""
    for pattern, replacement in _CANONICAL:
        native = re.sub(pattern, replacement, native)
    return native


def video_inputs(model: Any, *, frames: int = 2, grid: tuple[int, int] = (4, 6), seed: int = 2) -> dict[str, Tensor]:
    """What `model(**inputs)` takes for one random clip between random text; `grid` is patches down and across."""
    generator = torch.Generator().manual_seed(seed)
    height, width = grid
    text = model.config.video_token_id - 1
    ids = [torch.randint(text, (3,), generator=generator)]
    for _ in range(frames):
        ids.append(torch.randint(text, (2,), generator=generator))
        ids.append(torch.full((height * width // 4,), model.config.video_token_id))
    ids.append(torch.randint(text, (5,), generator=generator))
    return {
        "input_ids": torch.cat(ids)[None],
        "pixel_values_videos": torch.rand(frames * height * width, 588, generator=generator) * 2 - 1,
        "video_grid_thw": torch.tensor([[frames, height, width]]),
        "video_merge_sizes": torch.tensor([2]),
    }


@torch.no_grad()
def video_logits(model: Any) -> Tensor:
    """The model's logits `[1, tokens, vocabulary]` for `video_inputs`."""
    logits: Tensor = model(**video_inputs(model)).logits
    return logits


def save(model: Any, folder: Path, layout: LayoutName = "videollama3", form: Form = "safetensors") -> Path:
    """Write a checkpoint's folder; returns it. A tied head is in pickles, as a copy, and not in safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {_layout_name(name, layout): tensor for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings and "bin" not in form:
        del state["lm_head.weight"]
    config = flat_config(model, layout) if layout != "transformers" else model.config.to_dict()
    (folder / "config.json").write_text(json.dumps(config, default=str))
    save_state(state, folder, form)
    return folder


def save_state(state: Mapping[str, Tensor], folder: Path, form: Form) -> None:
    """Write tensors as a model's files, in three shards where the form says so."""
    stem, suffix = ("pytorch_model", ".bin") if "bin" in form else ("model", ".safetensors")
    if "sharded" not in form:
        _write(dict(state), folder / f"{stem}{suffix}")
        return
    names = sorted(state)
    shards = {f"{stem}-0000{number}-of-00003{suffix}": names[number - 1 :: 3] for number in (1, 2, 3)}
    for shard, held in shards.items():
        _write({name: state[name] for name in held}, folder / shard)
    places = {name: shard for shard, held in shards.items() for name in held}
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(index))


def flat_config(model: Any, layout: LayoutName) -> dict[str, Any]:
    """`config.json` as the model's own code writes it; CrashChat's merge adds the tower's name and every default."""
    text, vision = model.config.text_config, model.config.vision_config
    config = {
        "architectures": ["Videollama3Qwen2ForCausalLM"],
        "eos_token_id": text.eos_token_id,
        "hidden_act": "silu",
        "hidden_size": text.hidden_size,
        "image_token_index": model.config.video_token_id,
        "intermediate_size": text.intermediate_size,
        "max_position_embeddings": text.max_position_embeddings,
        "mm_projector_type": "mlp2x_gelu",
        "model_type": "videollama3_qwen2",
        "num_attention_heads": text.num_attention_heads,
        "num_hidden_layers": text.num_hidden_layers,
        "num_key_value_heads": text.num_key_value_heads,
        "rms_norm_eps": text.rms_norm_eps,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": model.config.tie_word_embeddings,
        "torch_dtype": "bfloat16",
        "use_sliding_window": False,
        "use_token_compression": True,
        "vision_encoder": None,
        "vision_encoder_config": {
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "model_type": "videollama3_vision_encoder",
            "num_attention_heads": vision.num_attention_heads,
            "num_hidden_layers": vision.num_hidden_layers,
            "patch_size": vision.patch_size,
        },
        "vocab_size": text.vocab_size,
    }
    merged = {"_name_or_path": "base", "add_cross_attention": False, "vision_encoder": "DAMO-NLP-SG/SigLIP-NaViT"}
    return config | merged if layout == "crashchat" else config


def tune(model: Any, *, rank: int = 4, alpha: float = 2.0, seed: int = 1, **settings: Any) -> Any:
    """A peft model over a copy of `model`, as CrashChat trains it: the targets are suffixes, so that the vision tower
    has LoRA too, whose B stays zero; the decoder's B and the projector hold random values.
    """
    torch.manual_seed(seed)
    fields = {"target_modules": TARGETS, "lora_dropout": 0.05, "task_type": "CAUSAL_LM"} | settings
    with warnings.catch_warnings():
        # peft asks transformers by a name that the latter has since replaced
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        settled = peft.LoraConfig(r=rank, lora_alpha=alpha, **fields)
        # CrashChat's adapters are of the model's own type, bfloat16.
        tuned = peft.get_peft_model(copy.deepcopy(model), settled, autocast_adapter_dtype=False)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if ".lora_B." in name and ".language_model." in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
            elif ".projector." in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return tuned.eval()


def merged_model(tuned: Any) -> Any:
    """peft's own merge of a copy of `tuned`."""
    return copy.deepcopy(tuned).merge_and_unload()


def save_adapter(
    tuned: Any, folder: Path, layout: LayoutName = "crashchat", form: Literal["safetensors", "bin"] = "safetensors"
) -> Path:
    """Write an adapter's folder as CrashChat's trainer does; returns it."""
    tuned.save_pretrained(folder)
    written = folder / "adapter_model.safetensors"
    state = {_adapter_name(name, layout): tensor for name, tensor in load_file(written).items()}
    written.unlink()
    _write(state, folder / f"adapter_model.{form}")
    projector = {name: value.detach() for name, value in tuned.named_parameters() if ".projector." in name}
    _write(
        {_adapter_name(name, layout): tensor for name, tensor in projector.items()}, folder / "non_lora_trainables.bin"
    )
    return folder


def save_both(model: Any, folder: Path) -> Path:
    """`model` as `base` and an adapter over it as `adapter`, both in `folder`. Returns `folder`."""
    save(model, folder / "base")
    save_adapter(tune(model, rank=4, seed=1), folder / "adapter")
    return folder


def hollow(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    """A bfloat16 `model.safetensors` of any size that takes no room on the disk: a header, then a hole of zeros."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return folder


def _layout_name(native: str, layout: LayoutName) -> str:
    if layout == "transformers":
        return native
    name = native.replace("model.language_model.", "model.")
    for old, new in _FROM_NATIVE[layout]:
        name = name.replace(f"model.{old}", f"model.{new}")
    return name


def _adapter_name(native: str, layout: LayoutName) -> str:
    wrapper = "base_model.model."
    return wrapper + _layout_name(native.removeprefix(wrapper), layout)


def _write(state: dict[str, Tensor], file: Path) -> None:
    if file.suffix == ".bin":
        torch.save(state, file)
    else:
        save_file({name: tensor.detach().contiguous() for name, tensor in state.items()}, file)
