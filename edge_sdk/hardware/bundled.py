"""The numbers of a bundle that a plan is computed from: sizes from its manifest, bytes from its files."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest import Graph, Student
from edge_sdk.bundle.manifest_language import Adapter, Embedding, Language, Number, Quantisation, shared_out
from edge_sdk.bundle.onnx_file import external_locations
from edge_sdk.hardware.numbers import ModelNumbers, ReasoningNumbers, StudentNumbers
from edge_sdk.hardware.onnx_work import graph_work
from edge_sdk.hardware.roofline import PRECISIONS, Precision
from edge_sdk.tensors import numpy_dtype
from edge_sdk.types import Dialect, DType, TensorSpec

_PRECISIONS: dict[DType, Precision] = {"float32": "fp32", "float16": "fp16", "bfloat16": "fp16"}
# By bits of weights and of their inputs; any other widths mean the precision of the element type.
_FEW_BITS: dict[tuple[int, int], Precision] = {(4, 16): "w4a16", (8, 16): "w8a16", (8, 8): "w8a8"}
_WIDE = 16
_DIALECTS: tuple[Dialect, ...] = ("native", "decomposed")


def model_numbers(bundle: Bundle) -> ModelNumbers:
    """Collect the numbers of a bundle's models. Raises `BundleError` for a graph that cannot be read."""
    language = bundle.manifest.language
    return ModelNumbers(
        name=bundle.manifest.name,
        student=_student(bundle),
        reasoning=_reasoning(bundle, language) if language else None,
        dialects=tuple(dialect for dialect in _DIALECTS if _speaks(bundle, dialect)),
    )


def element_precision(language: Language) -> Precision:
    """Return the precision of an unquantised video LLM: the element type of its graphs."""
    return _PRECISIONS[language.dtype]


def student_precision(student: Student) -> Precision:
    """Return the precision that a student computes in."""
    return "int8" if student.cpu_graph else "fp32"


def _student(bundle: Bundle) -> StudentNumbers | None:
    student = bundle.manifest.student
    if student is None:
        return None
    graph, path = bundle.graph(student.graph)
    work = graph_work(path)
    carried = {spec.input for spec in graph.state}
    return StudentNumbers(
        flops=work.flops,
        weight_bytes=path.stat().st_size + _weight_bytes(bundle, [student.graph]),
        state_bytes=sum(_bytes(spec) for spec in graph.inputs if spec.name in carried),
        activation_bytes=work.activation_bytes,
        rate_hz=student.rate_hz,
        precision=student_precision(student),
    )


def _reasoning(bundle: Bundle, language: Language) -> ReasoningNumbers:
    """Collect the video LLM's numbers for the longest clip, the largest cache and every adapter with a task."""
    profile = max(language.profiles.values(), key=lambda each: each.frames)
    adapters = [language.adapters[name] for name in shared_out(language) or language.adapters]
    decoders = [language.decoders[name] for name in {each.decoder for each in adapters}]
    rank = max(each.lora_rank for each in decoders)
    precision, few = element_precision(language), language.quantisation
    return ReasoningNumbers(
        vision=language.vision,
        decoder=language.decoder,
        precision=_few_precision(few.number, few.bits, few.activation_bits, precision) if few else precision,
        vision_precision=_vision_precision(few, precision) if few else precision,
        head_bits=few.head_bits if few and few.head_bits < _WIDE else None,
        kv_bits=PRECISIONS[precision].activation_bits if few else None,
        fp8=few.fp8 if few else False,
        adapters=len(adapters),
        switchable=rank > 0,
        lora_rank=rank,
        frames=profile.frames,
        patches=profile.width * profile.height // language.patch**2,
        slots=max(each.slots for decoder in decoders for each in decoder.graphs),
        stored_bytes=_stored_bytes(bundle, language, adapters),
        table_bytes=_bytes(_table(language.embedding)),
    )


def _vision_precision(few: Quantisation, otherwise: Precision) -> Precision:
    number = few.number if few.vision_number is msgspec.UNSET else few.vision_number
    return _few_precision(number, few.vision_bits, few.vision_activation_bits, otherwise)


def _few_precision(number: Number, bits: int, activation_bits: int, otherwise: Precision) -> Precision:
    """Return the precision of quantised linears; FP8 weights with wider inputs are multiplied in the inputs' type."""
    both = number == "fp8" and activation_bits < _WIDE
    return "fp8" if both else _FEW_BITS.get((bits, activation_bits), otherwise)


def _stored_bytes(bundle: Bundle, language: Language, adapters: Sequence[Adapter]) -> dict[str, float]:
    """Sum the bytes of the weights by part, each file once, as a part's graphs share files; decoders include heads."""
    towers = [graph for profile in language.profiles.values() for graph in profile.graphs.values()]
    projectors = [graph for adapter in adapters for graph in adapter.projector.values()]
    decoders = [each.graph for adapter in adapters for each in language.decoders[adapter.decoder].graphs]
    lora = [adapter.lora for adapter in adapters if adapter.lora]
    graphs = {"vision": towers, "projector": projectors, "decoder": decoders}
    stored: dict[str, float] = {name: _weight_bytes(bundle, names) for name, names in graphs.items()}
    return stored | ({"LoRA": _file_bytes(bundle, lora)} if lora else {})


def _weight_bytes(bundle: Bundle, graphs: Iterable[str]) -> int:
    """Sum the bytes of the external weight files of graphs, each file once."""
    paths = [bundle.graph(name)[1] for name in graphs]
    return sum(file.stat().st_size for file in {p.parent / place for p in paths for place in external_locations(p)})


def _file_bytes(bundle: Bundle, files: Collection[str]) -> int:
    return sum(bundle.manifest.files[file].size_bytes for file in set(files))


def _table(embedding: Embedding) -> TensorSpec:
    return TensorSpec(name="table", dtype=embedding.dtype, shape=(embedding.vocab, embedding.hidden))


def _speaks(bundle: Bundle, dialect: Dialect) -> bool:
    """Whether every part has a graph in `dialect`."""
    manifest, language = bundle.manifest, bundle.manifest.language
    if manifest.student and not _has(manifest.graphs[manifest.student.graph], dialect):
        return False
    if language is None:
        return True
    parts = [*(each.graphs for each in language.profiles.values()), *(a.projector for a in language.adapters.values())]
    decoders = [{each.dialect for each in decoder.graphs} for decoder in language.decoders.values()]
    return all(dialect in part for part in [*parts, *decoders])


def _has(graph: Graph, dialect: Dialect) -> bool:
    return dialect in graph.dialects


def _bytes(spec: TensorSpec) -> int:
    return math.prod(d if isinstance(d, int) else 1 for d in spec.shape) * numpy_dtype(spec).itemsize
