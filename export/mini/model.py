"""The model: transformers' own VideoLLaMA3 at a small size, and its tower run on many frames at once.

transformers' tower attends frame by frame in a loop, which for frames of 60 patches is mostly overhead. Here frames of
one grid are a batch through the same modules; tests check that both give the same states.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edge_sdk.export.graphs.vision import MERGE, Grid, grid_rope, turn
from edge_sdk.export.mini.attention import attend
from edge_sdk.export.mini.libraries import library
from edge_sdk.export.mini.pictures import Eye
from edge_sdk.export.mini.recipe import Sizes
from edge_sdk.export.model_config import VisionConfig
from edge_sdk.reasoning.grid import Profile
from edge_sdk.reasoning.text import ControlTokens

PATCH = 14
# Deviations of fresh weights: of a word's row, and of a layer's output for an input of one. What a layer adds to the
# residual stream is scaled down by the number of additions (Radford et al. 2019), image rows to the size of words.
_WORDS, _GAIN = 0.06, 0.8
_LAST = ("o_proj", "out_proj", "down_proj", "fc2")


# Any: a transformers model, whose types are not read here.
def make_model(sizes: Sizes, control: ControlTokens) -> Any:
    """Make a float32 `VideoLlama3ForConditionalGeneration` with fresh weights; its head is the embedding table."""
    transformers = library("transformers")
    config = transformers.VideoLlama3Config(
        text_config={
            "model_type": "qwen2",
            "hidden_size": sizes.hidden,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.kv_heads,
            "num_hidden_layers": sizes.decoder_layers,
            "intermediate_size": sizes.decoder_intermediate,
            "vocab_size": sizes.vocabulary,
            "max_position_embeddings": 2048,
            "rope_theta": 1e4,
            "tie_word_embeddings": True,
            "eos_token_id": control.im_end,
            "bos_token_id": None,
        },
        vision_config={
            "hidden_size": sizes.hidden,
            "num_attention_heads": sizes.heads,
            "num_hidden_layers": sizes.tower_layers,
            "intermediate_size": sizes.tower_intermediate,
            "patch_size": PATCH,
        },
        image_token_id=control.image,
        video_token_id=control.image,
        tie_word_embeddings=True,
    )
    model = transformers.VideoLlama3ForConditionalGeneration(config).float()
    _initialise(model, sizes)
    return model


@torch.no_grad()
def _initialise(model: torch.nn.Module, sizes: Sizes) -> None:
    """Draw fresh weights whose size follows from a layer's width.

    transformers draws all with a deviation of 0.02, which is meant for layers ten times as wide. Here queries and keys
    would be so small that every row attends to all rows alike, and learning where to look would begin late.
    """
    for name, weight in model.named_parameters():
        if "embed_tokens" in name:
            weight.normal_(std=_WORDS)
        elif weight.ndim > 1:
            weight.normal_(std=_GAIN * weight[0].numel() ** -0.5)
            layers = sizes.tower_layers if "vision" in name else sizes.decoder_layers
            if any(last in name for last in _LAST):
                weight.mul_((2 * layers) ** -0.5)
            elif "projector.readout.2" in name:
                weight.mul_(_WORDS)


class Tower:
    """Runs a model's vision tower on frames of one profile. Holds no weights."""

    def __init__(self, sizes: Sizes, profile: Profile) -> None:
        config = VisionConfig(hidden=sizes.hidden, heads=sizes.heads, layers=sizes.tower_layers)
        grid = Grid(rows=profile.size.height // PATCH, columns=profile.size.width // PATCH)
        self.heads, self.grid, self.eye = sizes.heads, grid, Eye(profile)
        self._cos, self._sin = grid_rope(config, grid)

    # Any: transformers' tower.
    def patches_to_states(self, tower: Any, patches: Tensor) -> Tensor:
        """Normalised states `[frames, patches, hidden]` before the merge, of uint8 `patches [frames, patches, 588]`."""
        embedding = tower.embeddings.patch_embedding
        values = patches.to(embedding.weight.dtype) / 127.5 - 1
        x = functional.linear(values, embedding.weight.flatten(1), embedding.bias)
        cos, sin = self._cos.to(x), self._sin.to(x)
        for layer in tower.encoder.layers:
            x = x + self._attend(layer.self_attn, layer.layer_norm1(x), cos, sin)
            x = x + layer.mlp(layer.layer_norm2(x))
        states: Tensor = tower.post_layernorm(x)
        return states

    def _attend(self, layer: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        query, key, value = (
            part(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (layer.q_proj, layer.k_proj, layer.v_proj)
        )
        found = attend(turn(query, cos, sin), turn(key, cos, sin), value)
        y: Tensor = layer.out_proj(found.transpose(1, 2).flatten(2))
        return y


def merge(states: Tensor) -> Tensor:
    """Merge states into tokens `[frames, patches / 4, hidden]`: the mean of each window of 2 x 2 patches."""
    tokens: Tensor = states.unflatten(1, (-1, MERGE**2)).mean(2)
    return tokens


def parameters(model: torch.nn.Module) -> int:
    """Number of weights in the model; the tied head counts once."""
    return sum(parameter.numel() for parameter in model.parameters())
