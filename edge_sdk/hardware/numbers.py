"""The models in numbers: all that a plan needs to know about them, even before a bundle exists."""

from __future__ import annotations

import math

import msgspec

from edge_sdk.bundle.model_sizes import DecoderSizes, VisionSizes
from edge_sdk.call_sizes import DECODE_ROWS, PREFILL_TOKENS
from edge_sdk.hardware.roofline import PRECISIONS, Precision, projector_weights
from edge_sdk.types import Dialect, Value

# Prompt tokens besides image tokens: the header, "Time 0.0s:" of the first frame, and the same with a comma for others.
_HEADER_TOKENS, _FIRST_STAMP_TOKENS, _STAMP_TOKENS = 3, 7, 8
# Tokens of the six questions with what frames each of them. Then, for each adapter, the mean length of its longest
# answer, which sets the number of decode steps because the answers advance together (CrashChat's validation answers).
QUESTION_TOKENS = 751
ANSWER_STEPS = (35, 10)
_PATCHES_PER_TOKEN = 4


class StudentNumbers(Value, frozen=True, kw_only=True):
    """The student: operations per frame of one stream, bytes of its weights, and bytes of one stream's state.

    `activation_bytes` is what its largest operator reads and writes for one stream.
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

    `precision` is that of the decoder's layers, `vision_precision` that of the tower and the projectors. `head_bits`
    and `kv_bits` are the bits of a value of the head and of the cache, by default those of an activation. One call
    prefills `chunk` rows or decodes `branches` rows. Every adapter has a projector and a cache. `switchable` adapters
    add LoRA matrices of `lora_rank` to one decoder; each merged adapter is a decoder with a head. `stored_bytes` are
    the bytes of weights by part, and `table_bytes` those of the embedding table, if files give them; otherwise they
    follow from shapes and precisions. `fp8` says that some matrices are in FP8, even if most are not.
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
        """Number of sets of decoder weights."""
        return 1 if self.switchable else self.adapters

    @property
    def lora_values(self) -> int:
        """Values of one adapter's LoRA matrices on the seven linears of each layer."""
        d = self.decoder
        width, kv = d.heads * d.head_dim, d.kv_heads * d.head_dim
        sides = 2 * (d.hidden + width) + 2 * (d.hidden + kv) + 3 * (d.hidden + d.intermediate)
        return self.lora_rank * d.layers * sides

    def weight_bytes(self) -> dict[str, float]:
        """Return the bytes that stay in device memory, by part."""
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
        """Return the bytes of the embedding table, which is mapped from disk and read row by row."""
        return self.table_bytes or self.decoder.head_weights * PRECISIONS[self.precision].activation_bits / 8

    def largest_graph_values(self) -> int:
        """Count the weight values of the largest graph: one decoder with its head."""
        return self.decoder.weights + self.decoder.head_weights

    def prefill_calls(self) -> int:
        """Count the full calls that prefill one adapter's prefix while its frames arrive."""
        return self.prefix_tokens // self.chunk

    def question_calls(self) -> int:
        """Count the calls for one adapter's questions and for the rest of the prefix, which does not fill a call."""
        rest = self.prefix_tokens % self.chunk
        return math.ceil((rest + QUESTION_TOKENS / self.adapters) / self.chunk)


class ModelNumbers(Value, frozen=True, kw_only=True):
    """What runs on the device: the student, the video LLM, or both. `dialects` are those that every part has."""

    name: str
    student: StudentNumbers | None = None
    reasoning: ReasoningNumbers | None = None
    dialects: tuple[Dialect, ...] = ("native", "decomposed")


def widened(numbers: ModelNumbers) -> ModelNumbers:
    """Return the numbers of a half-precision model on a runtime without kernels for it, such as ONNX Runtime on a CPU.

    Weights are widened to float32 when a graph is opened, and activations when it runs. The cache and the table stay as
    they are. Measured: a decoder with 208 MB of float16 weights takes as much memory as the same one in float32.
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
"""Models to plan for without a bundle, in fp16 with one adapter; vary them with `msgspec.structs.replace`."""
