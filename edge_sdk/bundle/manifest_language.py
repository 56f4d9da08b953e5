"""The language component of a manifest: the video LLM that answers on demand, split as the device runs it.

Vision tokens are shared by every adapter. An adapter is a projector and a decoder: one of its own with the LoRA summed
into the weights, or one that several adapters share and that takes the LoRA matrices as inputs. Graphs of one part
differ in dialect, in the number of cache slots, or in the grid of the pictures; their weights are the same files.
Graphs are named by their key in the manifest's `graphs`, files by their path in the bundle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Literal

import msgspec

from edge_sdk.bundle.model_sizes import DecoderSizes, VisionSizes
from edge_sdk.tasks import TASK_IDS, TASKS
from edge_sdk.types import Dialect, DType, Value

Positive = Annotated[int, msgspec.Meta(ge=1)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1_000)]
"""Frames a second."""
Number = Literal["int", "fp8"]
"""Whole numbers, or E4M3."""


class Embedding(Value, frozen=True, kw_only=True):
    """The token embedding table: its values row by row, little-endian, `[vocab, hidden]`.

    It stays on the host, mapped; a text token reads one row. `file` holds nothing else, or is the weight file of a
    decoder whose head is the table: then that begins at `offset_bytes`.
    """

    file: str
    dtype: DType
    vocab: Positive
    hidden: Positive
    offset_bytes: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Compression(Value, frozen=True, kw_only=True):
    """When a token is dropped: the mean change of its pixels since the frame before is at most `threshold`.

    The change is |a - b| of normalised pixels times 255, over the window of one token; at least `min_tokens` of a frame
    stay (VideoLLaMA3, `_compress_visual_tokens`).
    """

    threshold: float = 0.1
    min_tokens: Positive = 1


class VisionProfile(Value, frozen=True, kw_only=True):
    """Pictures of one size, in pixels, and the vision graph of each dialect.

    `frames` at `rate_hz` are what the size was chosen for; fewer frames may be given, their size stays the same.
    """

    frames: Positive
    rate_hz: Rate
    width: Positive
    height: Positive
    graphs: dict[Dialect, str]


class DecoderGraph(Value, frozen=True, kw_only=True):
    """One decoder graph: its dialect, how many cache slots it has, and its name among the manifest's graphs."""

    dialect: Dialect
    slots: Positive
    graph: str


class DecoderSet(Value, frozen=True, kw_only=True):
    """The graphs of one set of decoder weights. `lora_rank` is the rank of its LoRA inputs, 0 where it has none."""

    graphs: tuple[DecoderGraph, ...]
    lora_rank: Annotated[int, msgspec.Meta(ge=0)] = 0


class ChainReference(Value, frozen=True, kw_only=True):
    """A clip that goes through all graphs, with the answer that the checkpoint gives to it in float32.

    `file` is safetensors: `patches` uint8 `[frames, patches, 588]` of a clip in `profile`, `ids` int64 `[n]` of a whole
    prompt, `tokens` int64 `[m]` of the greedy answer, `top_ids` int64 and `top_logits` float32 `[m, k]`, the largest
    logits of each step. The error of a step is max |a - b| / max |b| over those.
    """

    file: str
    profile: str
    max_relative_error: Annotated[float, msgspec.Meta(gt=0)]


class AnswerFit(Value, frozen=True, kw_only=True):
    """What turns a model's own probability of an answer into a share of right answers, fitted on validation clips.

    Its log odds z become `scale` z + `offset` (Platt 1999), and `lo..hi` of a time is widened by `margin_s` on each
    side (conformalised quantiles, Romano et al. 2019). For yes/no, z are the log odds of "yes", for text those of the
    answer given, for a time or an interval those of its being right. Below the probability `abstain_below` the answer
    abstains; None leaves that to the form.
    """

    scale: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    offset: float = 0.0
    margin_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    abstain_below: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


class FusedFit(AnswerFit, frozen=True, kw_only=True):
    """The same for answers of the video LLM and the student together.

    For yes/no the log odds of "yes" are `scale` z + `student_weight` s + `offset`, s those of the student's score. For
    an interval what the LLM believes is multiplied by what the student's times say, and the rest is of that product.
    A text follows the verdict on yes or no: the fit is that of its words where there is a crash.
    """

    student_weight: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class AnswerCalibration(AnswerFit, frozen=True, kw_only=True):
    """What the video LLM's answers to a task are worth alone, and `with_student`, where that is better, beside it."""

    with_student: FusedFit | msgspec.UnsetType = msgspec.UNSET


class Adapter(Value, frozen=True, kw_only=True):
    """One tuned model: its projector graphs, its decoder, and the tasks that it is asked.

    `decoder` names an entry of `decoders`. `lora` is the safetensors file with the values of that decoder's LoRA inputs
    under their names, None for weights that are merged or were never tuned. `calibration` is by task; a task without
    one gives the model's own probabilities.
    """

    projector: dict[Dialect, str]
    decoder: str
    lora: str | None = None
    tasks: tuple[str, ...]
    reference: ChainReference | None = None
    calibration: dict[str, AnswerCalibration] | None = None


class Quantisation(Value, frozen=True, kw_only=True):
    """How the decoders' matrices are stored where they are in few bits.

    `bits` and `block` are those of most linears, `head_bits` those of the head, `vision_bits` those of the vision
    tower's linears, `activation_bits` and `vision_activation_bits` those of most of their inputs; 16 for the element
    type of the graphs. `number` is that of most linears, `head_number`, `vision_number` and `exception_number` those of
    the head, the tower and linears that are stored otherwise: absent where they are the same, and in older bundles.
    `exception_bits` is 4 where linears that are stored otherwise have 4 bits, and most have more; absent elsewhere.
    `evidence` is the file with what it cost: errors by matrix and graph, and how answers changed.
    """

    recipe: str
    bits: Literal[4, 8, 16]
    block: Annotated[int, msgspec.Meta(ge=0)] = 0
    head_bits: Literal[4, 8, 16] = 16
    activation_bits: Literal[8, 16] = 16
    vision_bits: Literal[4, 8, 16] = 16
    vision_activation_bits: Literal[8, 16] = 16
    number: Number = "int"
    head_number: Number | msgspec.UnsetType = msgspec.UNSET
    vision_number: Number | msgspec.UnsetType = msgspec.UNSET
    exception_number: Number | msgspec.UnsetType = msgspec.UNSET
    exception_bits: Literal[4] | msgspec.UnsetType = msgspec.UNSET
    evidence: str | None = None

    @property
    def fp8(self) -> bool:
        """Whether any matrix is of FP8."""
        return "fp8" in (self.number, self.head_number, self.vision_number, self.exception_number)

    @property
    def four_bits(self) -> bool:
        """Whether any matrix is of 4 bits."""
        return 4 in (self.bits, self.head_bits, self.vision_bits, self.exception_bits)


class Language(Value, frozen=True, kw_only=True):
    """The video LLM: its shapes, constants, files and graphs.

    `dtype` is the element type of the graphs' inputs and activations. A pixel of 0..255 becomes
    (x / 255 - `pixel_mean`) / `pixel_std`. `end_tokens` end an answer. `prompts` is the file with the text and token
    ids of each task's question.
    """

    model: str
    dtype: DType
    vision: VisionSizes
    decoder: DecoderSizes
    patch: Positive
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    embedding: Embedding
    tokenizer: str
    prompts: str
    image_token: int
    end_tokens: tuple[int, ...]
    compression: Compression | None
    profiles: dict[str, VisionProfile]
    decoders: dict[str, DecoderSet]
    adapters: dict[str, Adapter]
    quantisation: Quantisation | None = None


def shared_out(language: Language) -> dict[str, tuple[str, ...]]:
    """The tasks of each adapter, the order of `TASKS` in both: a task goes to the adapter of its kind if that has it.

    An adapter that gets none is left out.
    """
    owners: dict[str, list[str]] = {}
    for task in TASKS:
        able = [name for name, adapter in language.adapters.items() if task.id in adapter.tasks]
        if able:
            owners.setdefault(task.adapter if task.adapter in able else able[0], []).append(task.id)
    return {name: tuple(tasks) for name, tasks in owners.items()}


def files_of(language: Language) -> Iterator[tuple[str, str]]:
    """Every file that the component speaks of: where it is said, and its path."""
    yield "$.language.embedding.file", language.embedding.file
    yield "$.language.tokenizer", language.tokenizer
    yield "$.language.prompts", language.prompts
    if language.quantisation and language.quantisation.evidence:
        yield "$.language.quantisation.evidence", language.quantisation.evidence
    for name, adapter in language.adapters.items():
        if adapter.lora:
            yield f"$.language.adapters.{name}.lora", adapter.lora
        if adapter.reference:
            yield f"$.language.adapters.{name}.reference.file", adapter.reference.file


def named_in(language: Language, graphs: Collection[str]) -> Iterator[tuple[str, str, Collection[str]]]:
    """Every name that must stand somewhere else: where it is said, the name, and the names that there are."""
    for name, profile in language.profiles.items():
        for graph in profile.graphs.values():
            yield f"$.language.profiles.{name}.graphs", graph, graphs
    for name, decoder in language.decoders.items():
        for each in decoder.graphs:
            yield f"$.language.decoders.{name}.graphs", each.graph, graphs
    for name, adapter in language.adapters.items():
        yield from _named_in_adapter(f"$.language.adapters.{name}", adapter, language, graphs)


def _named_in_adapter(
    at: str, adapter: Adapter, language: Language, graphs: Collection[str]
) -> Iterator[tuple[str, str, Collection[str]]]:
    yield f"{at}.decoder", adapter.decoder, language.decoders
    for graph in adapter.projector.values():
        yield f"{at}.projector", graph, graphs
    for task in adapter.tasks:
        yield f"{at}.tasks", task, TASK_IDS
    for task in adapter.calibration or {}:
        yield f"{at}.calibration", task, adapter.tasks
    if adapter.reference:
        yield f"{at}.reference.profile", adapter.reference.profile, language.profiles
