"""The models in numbers: all that a plan needs to know of them, before a bundle of them exists."""

from __future__ import annotations

import math

import msgspec

from edge_sdk.bundle.model_sizes import DecoderSizes, VisionSizes
from edge_sdk.call_sizes import DECODE_ROWS, PREFILL_TOKENS
from edge_sdk.hardware.roofline import PRECISIONS, Precision, projector_weights
from edge_sdk.types import Dialect, Value

# Tokens of a prompt beside image tokens: header; "Time 0.0s:" of the first frame, one more for the comma of the others.
_HEADER_TOKENS, _FIRST_STAMP_TOKENS, _STAMP_TOKENS = 3, 7, 8
# The six questions and what frames each of them; the longest answer of either adapter on average, which the steps of
# decoding follow because the answers advance together (CrashChat's validation answers).
QUESTION_TOKENS = 751
ANSWER_STEPS = (35, 10)
_PATCHES_PER_TOKEN = 4


class StudentNumbers(Value, frozen=True, kw_only=True):
    """The student: operations of one frame of one stream, bytes of its weights, and of one stream's state and tensors.

    `activation_bytes` is what its largest operator reads and writes.
    """

    flops: float
    weight_bytes: int
    state_bytes: int
    activation_bytes: int
    rate_hz: float
    streams: int = 1
    precision: Precision = "fp32"


class ReasoningNumbers(Value, frozen=True, kw_only=True):
    """The video LLM as it is exported.

    `precision` is that of the decoder's layers, `vision_precision` of the tower and the projectors; `head_bits` and
    `kv_bits`, a value of the head and of the cache, are as an activation unless stated. `chunk` rows are prefilled in
    one call, `branches` rows decoded in one. Every adapter has a projector and a cache; `switchable` adapters add LoRA
    matrices of `lora_rank` to one decoder, merged ones are a decoder with a head each. `stored_bytes` are the weights'
    bytes by part and `table_bytes` those of the embedding table where files tell, else they follow from shapes and
    precisions. `fp8`: some matrices are of FP8, whatever most of them are.
    """

    vision: VisionSizes
    decoder: DecoderSizes
    precision: Precision = "fp16"
    vision_precision: Precision = "fp16"
    head_bits: int | None = None
    kv_bits: int | None = None
    fp8: bool = False
    adapters: int = 1
    switchable: bool = False
    lora_rank: int = 64
    frames: int = 96
    patches: int = 364
    slots: int = 10_752
    chunk: int = PREFILL_TOKENS
    branches: int = DECODE_ROWS
    stored_bytes: dict[str, float] | None = None
    table_bytes: int | None = None

    @property
    def frame_tokens(self) -> int:
        """Image tokens of one frame."""
        return self.patches // _PATCHES_PER_TOKEN

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the question: header, times and images."""
        stamps = _FIRST_STAMP_TOKENS + _STAMP_TOKENS * (self.frames - 1)
        return _HEADER_TOKENS + stamps + self.frames * self.frame_tokens

    @property
    def decoders(self) -> int:
        """Sets of decoder weights."""
        return 1 if self.switchable else self.adapters

    @property
    def lora_values(self) -> int:
        """Values of one adapter's LoRA matrices on the seven linears of each layer."""
        d = self.decoder
        width, kv = d.heads * d.head_dim, d.kv_heads * d.head_dim
        sides = 2 * (d.hidden + width) + 2 * (d.hidden + kv) + 3 * (d.hidden + d.intermediate)
        return self.lora_rank * d.layers * sides

    def weight_bytes(self) -> dict[str, float]:
        """Bytes that stay in the memory of the device, by part."""
        kv_bits = self.kv_bits or PRECISIONS[self.precision].activation_bits
        weights = self.stored_bytes or self._reckoned_bytes()
        return weights | {"KV cache": self.adapters * self.slots * self.decoder.kv_values * kv_bits / 8}

    def _reckoned_bytes(self) -> dict[str, float]:
        bits, vision_bits = PRECISIONS[self.precision], PRECISIONS[self.vision_precision]
        parts = {
            "vision": self.vision.weights * vision_bits.weight_bits,
            "projector": self.adapters * projector_weights(self.vision, self.decoder) * vision_bits.weight_bits,
            "decoder": self.decoders * self.decoder.weights * bits.weight_bits,
            "head": self.decoders * self.decoder.head_weights * (self.head_bits or bits.activation_bits),
            "LoRA": self.adapters * self.lora_values * bits.activation_bits if self.switchable else 0,
        }
        return {name: value / 8 for name, value in parts.items() if value}

    def embedding_bytes(self) -> float:
        """Bytes of the embedding table, which is mapped from disk and read row by row."""
        return self.table_bytes or self.decoder.head_weights * PRECISIONS[self.precision].activation_bits / 8

    def largest_graph_values(self) -> int:
        """Values of the largest graph's weights: one decoder with its head."""
        return self.decoder.weights + self.decoder.head_weights

    def prefill_calls(self) -> int:
        """Calls that prefill the prefix of one adapter while its frames come: whole ones."""
        return self.prefix_tokens // self.chunk

    def question_calls(self) -> int:
        """Calls that take in one adapter's questions, and what of the prefix does not fill a call."""
        rest = self.prefix_tokens % self.chunk
        return math.ceil((rest + QUESTION_TOKENS / self.adapters) / self.chunk)


class ModelNumbers(Value, frozen=True, kw_only=True):
    """What runs on the device: the student, the video LLM, or both. `dialects`: those that all of its graphs have."""

    name: str
    student: StudentNumbers | None = None
    reasoning: ReasoningNumbers | None = None
    dialects: tuple[Dialect, ...] = ("native", "decomposed")


def widened(numbers: ModelNumbers) -> ModelNumbers:
    """The numbers of a half-precision model where the runtime has no kernels for it, as ONNX Runtime on a CPU: weights
    are widened to float32 when a graph is opened, and activations when it runs; the cache and the table stay as they
    are. Measured: a decoder with 208 MB of float16 weights takes as much memory as the same one in float32.
    """
    reasoning = numbers.reasoning
    if reasoning is None:
        return numbers
    halves = {name for name in ("precision", "vision_precision") if getattr(reasoning, name) == "fp16"}
    changed = msgspec.structs.replace(reasoning, **dict.fromkeys(halves, "fp32"))
    if "precision" in halves:
        changed = msgspec.structs.replace(
            changed, kv_bits=reasoning.kv_bits or 16, table_bytes=int(reasoning.embedding_bytes())
        )
    if reasoning.stored_bytes and halves:
        stored = {name: size * (1 if name == "LoRA" else 2) for name, size in reasoning.stored_bytes.items()}
        changed = msgspec.structs.replace(changed, stored_bytes=stored)
    return msgspec.structs.replace(numbers, reasoning=changed)


QWEN_1_5B = DecoderSizes(layers=28, hidden=1536, heads=12, kv_heads=2, head_dim=128, intermediate=8960, vocab=151_936)
QWEN_7B = DecoderSizes(layers=28, hidden=3584, heads=28, kv_heads=4, head_dim=128, intermediate=18_944, vocab=152_064)

MODELS: dict[str, ModelNumbers] = {
    name: ModelNumbers(name=name, reasoning=ReasoningNumbers(vision=VisionSizes(), decoder=decoder))
    for name, decoder in (("videollama3-2b", QWEN_1_5B), ("videollama3-7b", QWEN_7B))
}
"""Models that can be planned for without a bundle, in fp16 with one adapter; `msgspec.structs.replace` changes them."""
