"""Sizes and constants of a VideoLLaMA3 checkpoint, read from the `config.json` of any public layout.

Two families of files are in use, distinguished by their keys: the flat one of the model's own code, which CrashChat's
merged folders keep, and the nested one of transformers. Neither is complete: both leave constants to the defaults of
classes written for another model (768 wide, patches of 16). This reader's defaults are VideoLLaMA3's own. A key that
would change the arithmetic (another activation, scaled or sectioned RoPE, a sliding window) is refused by its name.
"""

from __future__ import annotations

from pathlib import Path

from edge_sdk.export.config_file import Section, read_json
from edge_sdk.reasoning.text import CONTROL_TOKENS, IM_END, IMAGE
from edge_sdk.types import Value

# The tokens of Qwen2.5 that transformers' layout uses as placeholders for images and videos.
NATIVE_IMAGE_ID = 151655
NATIVE_VIDEO_ID = 151656


class VisionConfig(Value, frozen=True, kw_only=True):
    """The vision tower. The defaults are those of SigLIP-NaViT, which is the same in the 2B and the 7B.

    MLP activation: tanh GELU. Positions: 2-D RoPE with `head_dim / 4` frequencies per axis.
    """

    hidden: int = 1152
    layers: int = 27
    heads: int = 16
    intermediate: int = 4304
    patch: int = 14
    channels: int = 3
    eps: float = 1e-6
    rope_theta: float = 1e4

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    @property
    def patch_values(self) -> int:
        """Values in one patch, ordered (channel, row, column)."""
        return self.channels * self.patch**2


class TextConfig(Value, frozen=True, kw_only=True):
    """The decoder, a Qwen2.5: biases only on q, k and v, SwiGLU, plain 1-D RoPE.

    `tied`: the head shares the embedding table and has no tensor of its own.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    max_positions: int
    rope_theta: float
    eps: float
    tied: bool


class ProjectorConfig(Value, frozen=True, kw_only=True):
    """The projector: linear, exact (erf) GELU, linear; the hidden width is `output`."""

    input: int
    output: int


class TokenIds(Value, frozen=True, kw_only=True):
    """Token ids with a special meaning to the model.

    `image` and `video` stand where an image's or a video's embeddings go; the original layout uses one id for both.
    `end`: every id that ends an answer, `<|im_end|>` first.
    """

    image: int
    video: int
    end: tuple[int, ...]


class ModelConfig(Value, frozen=True, kw_only=True):
    """All that a checkpoint's `config.json` says about the model. `compression`: drop tokens of unchanged windows."""

    vision: VisionConfig
    text: TextConfig
    projector: ProjectorConfig
    tokens: TokenIds
    compression: bool

    @classmethod
    def read(cls, path: Path) -> ModelConfig:
        """Read the configuration from `path`, a checkpoint's folder or its `config.json`.

        Raises `CheckpointError` naming the file, the key, what was expected and what was found.
        """
        file = path / "config.json" if path.is_dir() else path
        root = Section(file, read_json(file))
        if root.has("text_config"):
            return _nested(root)
        if root.has("hidden_size"):
            return _flat(root)
        raise root.wrong("a configuration of VideoLLaMA3 has `text_config` or `hidden_size`", root.all_keys())


def _flat(root: Section) -> ModelConfig:
    root.only("mm_projector_type", "mlp2x_gelu", default="mlp2x_gelu")
    vision, text = _vision(root.section("vision_encoder_config")), _text(root, root.flag("tie_word_embeddings", False))
    image = root.integer("image_token_index", default=-1, smallest=-1)
    if image < 0:  # the class's default, so the file does not set it
        image = CONTROL_TOKENS[IMAGE]
    tokens = _tokens(root, root, "image_token_index", text.vocab, image, image)
    return _model(vision, text, tokens, root.flag("use_token_compression", True))


def _nested(root: Section) -> ModelConfig:
    inner = root.section("text_config")
    tied = inner.flag("tie_word_embeddings", False) or root.flag("tie_word_embeddings", False)
    vision, text = _vision(root.section("vision_config")), _text(inner, tied)
    image = root.integer("image_token_id", default=NATIVE_IMAGE_ID)
    video = root.integer("video_token_id", default=NATIVE_VIDEO_ID)
    tokens = _tokens(root, inner, "image_token_id or video_token_id", text.vocab, image, video)
    return _model(vision, text, tokens, _preprocessor_compression(root.file.parent))


def _model(vision: VisionConfig, text: TextConfig, tokens: TokenIds, compression: bool) -> ModelConfig:
    return ModelConfig(
        vision=vision,
        text=text,
        projector=ProjectorConfig(input=vision.hidden, output=text.hidden),
        tokens=tokens,
        compression=compression,
    )


def _vision(section: Section) -> VisionConfig:
    section.only("hidden_act", "gelu_pytorch_tanh", default="gelu_pytorch_tanh")
    usual = VisionConfig()
    found = VisionConfig(
        hidden=section.integer("hidden_size", default=usual.hidden),
        layers=section.integer("num_hidden_layers", default=usual.layers),
        heads=section.integer("num_attention_heads", default=usual.heads),
        intermediate=section.integer("intermediate_size", default=usual.intermediate),
        patch=section.integer("patch_size", default=usual.patch),
        channels=section.integer("num_channels", default=usual.channels),
        eps=section.number("layer_norm_eps", default=usual.eps),
        rope_theta=_rope_theta(section, ("axial", "default"), usual.rope_theta),
    )
    if found.hidden % found.heads or found.head_dim % 4:
        raise section.wrong(
            "hidden_size must be a multiple of 4 x num_attention_heads (2-D RoPE)",
            f"{found.hidden} and {found.heads}",
        )
    return found


def _text(section: Section, tied: bool) -> TextConfig:
    section.only("hidden_act", "silu", default="silu")
    section.only("use_sliding_window", False, default=False)
    section.only("use_mrope", False, default=False)
    section.all_are("layer_types", "full_attention")
    hidden, heads = section.integer("hidden_size"), section.integer("num_attention_heads")
    kv_heads = section.integer("num_key_value_heads", default=heads)
    head_dim = section.integer("head_dim", default=hidden // heads)
    if heads % kv_heads or head_dim % 2:
        raise section.wrong(
            "num_attention_heads must be a multiple of num_key_value_heads, and head_dim even",
            f"{heads}, {kv_heads} and {head_dim}",
        )
    return TextConfig(
        hidden=hidden,
        layers=section.integer("num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=section.integer("intermediate_size"),
        vocab=section.integer("vocab_size"),
        max_positions=section.integer("max_position_embeddings", default=32768),
        rope_theta=_rope_theta(section, ("default",), None),
        eps=section.number("rms_norm_eps", default=1e-6),
        tied=tied,
    )


def _rope_theta(section: Section, kinds: tuple[str, ...], default: float | None) -> float:
    """The base of RoPE, which newer versions of transformers write into `rope_parameters`. Scaled RoPE is refused."""
    for key in ("rope_scaling", "rope_parameters"):
        if section.has(key):
            inner = section.section(key)
            for kind in ("rope_type", "type"):
                inner.only(kind, *kinds, default=kinds[0])
            inner.only("partial_rotary_factor", 1.0, default=1.0)
    nested = section.section("rope_parameters")
    return nested.number("rope_theta") if nested.has("rope_theta") else section.number("rope_theta", default=default)


def _tokens(root: Section, text: Section, keys: str, vocab: int, image: int, video: int) -> TokenIds:
    """Token ids, all checked to be inside the vocabulary.

    With Qwen2.5's vocabulary an answer ends with `<|im_end|>`, whatever the file says: a public 2B snapshot says
    `<|endoftext|>` alone, which the chat template never writes.
    """
    end = text.integers("eos_token_id") or root.integers("eos_token_id")
    im_end = CONTROL_TOKENS[IM_END]
    if vocab > im_end:
        end = (im_end, *(token for token in end if token != im_end))
    if not end:
        raise text.wrong("eos_token_id must be an id or a list of ids", None)
    for key, ids in ((keys, (image, video)), ("eos_token_id", end)):
        if max(ids) >= vocab:
            raise text.wrong(f"{key} must be below vocab_size {vocab}", max(ids))
    return TokenIds(image=image, video=video, end=end)


def _preprocessor_compression(folder: Path) -> bool:
    """Whether tokens of unchanged windows are dropped; transformers' layout keeps this in the video processor."""
    for name, key in (("video_preprocessor_config.json", None), ("processor_config.json", "video_processor")):
        file = folder / name
        if file.is_file():
            section = Section(file, read_json(file))
            return (section.section(key) if key else section).flag("use_token_compression", True)
    return True
