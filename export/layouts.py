"""Names of a model's tensors: one canonical set in this code, three layouts in public checkpoints.

The tensors' names show which layout a checkpoint has. A folder's name or `model_type` does not: CrashChat's merged
folders have the original's `model_type` and other tensor names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from edge_sdk.errors import CheckpointError
from edge_sdk.export.model_config import ModelConfig, TextConfig, VisionConfig
from edge_sdk.types import Value

Shape = tuple[int, ...]

# Linears that LoRA may adapt: the decoder's canonical name, and the name in public checkpoints.
LINEARS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
EMBEDDING = "decoder.embed_tokens.weight"
HEAD = "decoder.lm_head.weight"
PATCH_WEIGHT = "vision.patch_embedding.weight"
PROJECTOR = ("projector.0.weight", "projector.0.bias", "projector.2.weight", "projector.2.bias")

_VISION_PARTS = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
_DECODER_PARTS = {**LINEARS, "norm1": "input_layernorm", "norm2": "post_attention_layernorm"}
_LAYER = re.compile(r"layers\.(\d+)\.(\w+)\.(weight|bias)")


class Layout(Value, frozen=True, kw_only=True):
    """A public naming: the prefix of each part of the model, under the outermost `model.`."""

    name: str
    vision: str
    projector: str
    text: str

    def public(self, name: str) -> str:
        """A canonical name in this layout."""
        if name == HEAD:
            return "lm_head.weight"
        part, rest = name.split(".", 1)
        prefix = {"vision": self.vision, "projector": self.projector, "decoder": self.text}[part]
        return f"model.{prefix}{_inner(part, rest)}"


# The order matters: the first prefix begins with the second.
LAYOUTS = (
    Layout(
        name="crashchat",
        vision="vision_encoder.vision_encoder.",
        projector="mm_projector.readout.",
        text="",
    ),
    Layout(name="videollama3", vision="vision_encoder.", projector="mm_projector.readout.", text=""),
    Layout(name="transformers", vision="vision_model.", projector="projector.readout.", text="language_model."),
)


def recognise(names: Collection[str], where: str) -> Layout:
    """The layout whose vision tower is among `names`. Raises `CheckpointError` for a model of another kind."""
    for layout in LAYOUTS:
        prefix = f"model.{layout.vision}"
        if any(name.startswith(prefix) for name in names):
            return layout
    known = ", ".join(f"model.{layout.vision}* ({layout.name})" for layout in LAYOUTS)
    raise CheckpointError(
        f"{where}: expected the tensors of a VideoLLaMA3, such as {known}; found {some(names)}; "
        "give the folder of the whole model"
    )


def tensor_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Canonical name and shape of every tensor of the model, in the order in which data flows through it."""
    hidden, width = config.projector.output, config.projector.input
    shapes: dict[str, Shape] = dict(_vision_shapes(config.vision))
    shapes |= zip(PROJECTOR, ((hidden, width), (hidden,), (hidden, hidden), (hidden,)), strict=True)
    shapes |= _decoder_shapes(config.text)
    return shapes


def stored_shape(name: str, shape: Shape, vision: VisionConfig) -> Shape:
    """The shape of a tensor in public checkpoints, where the patch embedding is stored as a convolution's weight."""
    return (shape[0], vision.channels, vision.patch, vision.patch) if name == PATCH_WEIGHT else shape


def some(names: Collection[str]) -> str:
    """The first three of many names, and how many more there are."""
    shown = sorted(names)[:3]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return (", ".join(shown) or "nothing") + more


def _inner(part: str, rest: str) -> str:
    layer = _LAYER.fullmatch(rest)
    if part == "projector":
        return rest
    if part == "decoder":
        return f"layers.{layer[1]}.{_DECODER_PARTS[layer[2]]}.{layer[3]}" if layer else rest
    if layer:
        return f"encoder.layers.{layer[1]}.{_VISION_PARTS[layer[2]]}.{layer[3]}"
    return f"embeddings.{rest}" if rest.startswith("patch_embedding.") else f"post_layernorm.{rest.split('.')[1]}"


def _vision_shapes(config: VisionConfig) -> Iterator[tuple[str, Shape]]:
    hidden, inner = config.hidden, config.intermediate
    square = (hidden, hidden)
    yield PATCH_WEIGHT, (hidden, config.patch_values)
    yield "vision.patch_embedding.bias", (hidden,)
    for index in range(config.layers):
        prefix = f"vision.layers.{index}"
        yield from _affine(f"{prefix}.norm1", (hidden,))
        for part in ("q", "k", "v", "out"):
            yield from _affine(f"{prefix}.{part}", square)
        yield from _affine(f"{prefix}.norm2", (hidden,))
        yield from _affine(f"{prefix}.fc1", (inner, hidden))
        yield from _affine(f"{prefix}.fc2", (hidden, inner))
    yield from _affine("vision.norm", (hidden,))


def _affine(name: str, shape: Shape) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _decoder_shapes(config: TextConfig) -> Iterator[tuple[str, Shape]]:
    hidden, inner = config.hidden, config.intermediate
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    yield EMBEDDING, (config.vocab, hidden)
    for index in range(config.layers):
        prefix = f"decoder.layers.{index}"
        yield f"{prefix}.norm1.weight", (hidden,)
        yield from _affine(f"{prefix}.q", (queries, hidden))
        yield from _affine(f"{prefix}.k", (keys, hidden))
        yield from _affine(f"{prefix}.v", (keys, hidden))
        yield f"{prefix}.o.weight", (hidden, queries)
        yield f"{prefix}.norm2.weight", (hidden,)
        yield f"{prefix}.gate.weight", (inner, hidden)
        yield f"{prefix}.up.weight", (inner, hidden)
        yield f"{prefix}.down.weight", (hidden, inner)
    yield "decoder.norm.weight", (hidden,)
    if not config.tied:
        yield HEAD, (config.vocab, hidden)
