"""The language component of a manifest: the video LLM that answers on demand, split as the device runs it.

All adapters share the vision tokens. An adapter is a projector and a decoder. The decoder is either its own, with the
LoRA merged into the weights, or shared by several adapters and given the LoRA matrices as inputs. Graphs of one part
differ in dialect, in the number of cache slots, or in the grid of the frames; their weights are the same files. Graphs
are named by their key in the manifest's `graphs`, files by their path in the bundle.
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
"""Frames per second."""
Number = Literal["int", "fp8"]
"""Integers, or E4M3 floats."""


class Embedding(Value, frozen=True, kw_only=True):
    """The token embedding table, `[vocab, hidden]`: its values row by row, little-endian.

    It stays on the host, memory-mapped; a text token reads one row. `file` holds nothing else, or it is the weight file
    of a decoder whose head is the table, which then begins at `offset_bytes`.
    """

    file: str
    dtype: DType
    vocab: Positive
    hidden: Positive
    offset_bytes: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Compression(Value, frozen=True, kw_only=True):
    """The rule for dropping a token: its pixels changed by at most `threshold` on average since the previous frame.

    The change is |a - b| of normalised pixels times 255, over the window of one token. At least `min_tokens` of each
    frame are kept (VideoLLaMA3, `_compress_visual_tokens`).
    """

    threshold: float = 0.1
    min_tokens: Positive = 1


class VisionProfile(Value, frozen=True, kw_only=True):
    """Frames of one size, in pixels, and the vision graph of each dialect.

    The size was chosen for `frames` frames at `rate_hz`. Fewer frames may be given; their size stays the same.
    """

    frames: Positive
    rate_hz: Rate
    width: Positive
    height: Positive
    graphs: dict[Dialect, str]


class DecoderGraph(Value, frozen=True, kw_only=True):
    """One decoder graph: its dialect, its number of cache slots, and its name in the manifest's `graphs`."""

    dialect: Dialect
    slots: Positive
    graph: str


class DecoderSet(Value, frozen=True, kw_only=True):
    """The graphs of one set of decoder weights. `lora_rank` is the rank of its LoRA inputs, 0 if it has none."""

    graphs: tuple[DecoderGraph, ...]
    lora_rank: Annotated[int, msgspec.Meta(ge=0)] = 0


class ChainReference(Value, frozen=True, kw_only=True):
    """A clip for a run through all graphs, with the checkpoint's answer to it in float32.

    `file` is safetensors: `patches` uint8 `[frames, patches, 588]` of a clip in `profile`, `ids` int64 `[n]` of a whole
    prompt, `tokens` int64 `[m]` of the greedy answer, and `top_ids` int64 and `top_logits` float32 `[m, k]`, the
    largest logits of each step. The error of a step is max |a - b| / max |b| over these logits.
    """

    file: str
    profile: str
    max_relative_error: Annotated[float, msgspec.Meta(gt=0)]


class AnswerFit(Value, frozen=True, kw_only=True):
    """The calibration of a model's own probability of an answer, fitted on validation clips.

    It turns the log odds z into `scale` z + `offset` (Platt 1999), whose probability is the expected share of right
    answers, and widens `lo..hi` of a time by `margin_s` on each side (conformalised quantiles, Romano et al. 2019). z
    are the log odds of "yes" for yes/no, of the given answer for text, and of being right for a time or an interval.
    Below the probability `abstain_below` the answer abstains; None leaves that to the form of the answer.
    """

    scale: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    offset: float = 0.0
    margin_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    abstain_below: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


class FusedFit(AnswerFit, frozen=True, kw_only=True):
    """The calibration of answers by the video LLM and the student together.

    For yes/no, the log odds of "yes" are `scale` z + `student_weight` s + `offset`, where s are the log odds of the
    student's score. For an interval, the LLM's distribution is multiplied by that of the student's times, and the other
    fields apply to the product. A text follows the yes/no verdict; its fit is for the words where there is a crash.
    """

    student_weight: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class AnswerCalibration(AnswerFit, frozen=True, kw_only=True):
    """The calibration of one task: for the video LLM alone, and `with_student` if the student improves the answers."""

    with_student: FusedFit | msgspec.UnsetType = msgspec.UNSET


class Adapter(Value, frozen=True, kw_only=True):
    """One tuned model: its projector graphs, its decoder, and the tasks that it answers.

    `decoder` names an entry of `decoders`. `lora` is the safetensors file with the values of that decoder's LoRA
    inputs, by name; None for weights that are merged or were never tuned. `calibration` is by task; a task without
    calibration gives the model's own probabilities.
    """

    projector: dict[Dialect, str]
    decoder: str
    lora: str | None = None
    tasks: tuple[str, ...]
    reference: ChainReference | None = None
    calibration: dict[str, AnswerCalibration] | None = None


class Quantisation(Value, frozen=True, kw_only=True):
    """How the matrices of a quantised video LLM are stored.

    `bits` and `block` are those of most of the decoders' linears, `head_bits` those of the head, and `vision_bits`
    those of the vision tower's linears. `activation_bits` and `vision_activation_bits` are those of most inputs of
    these linears. 16 stands for the element type of the graphs. `number` is the number format of most linears.
    `head_number`, `vision_number` and `exception_number` are the formats of the head, the tower and linears stored
    differently; they are absent if the same, and in older bundles. `exception_bits` is 4 if differently stored linears
    have 4 bits while most have more, and absent otherwise. `evidence` is the file with the measured cost: errors by
    matrix and graph, and changes of answers.
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
        """Whether any matrix is in FP8."""
        return "fp8" in (self.number, self.head_number, self.vision_number, self.exception_number)

    @property
    def four_bits(self) -> bool:
        """Whether any matrix has 4 bits."""
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
    """Assign each task to one adapter; adapters and their tasks are in the order of `TASKS`.

    A task goes to the adapter of its kind if that adapter answers it, else to the first that does. An adapter without
    tasks is left out.
    """
    owners: dict[str, list[str]] = {}
    for task in TASKS:
        able = [name for name, adapter in language.adapters.items() if task.id in adapter.tasks]
        if able:
            owners.setdefault(task.adapter if task.adapter in able else able[0], []).append(task.id)
    return {name: tuple(tasks) for name, tasks in owners.items()}


def files_of(language: Language) -> Iterator[tuple[str, str]]:
    """Yield every file that the component names, as (place in the manifest, path)."""
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
    """Yield every name that refers to another entry, as (place in the manifest, name, known names)."""
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
