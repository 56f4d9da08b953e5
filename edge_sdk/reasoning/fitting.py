"""Choose the graphs of a bundle that a reasoner opens: in a dialect the runtime reads, with large enough caches.

An engine computes over all slots of its cache, used or not. So the smallest cache that holds a whole clip with its
questions and answers is the fastest. If memory is short, a smaller cache is chosen and the questions are asked one
after the other. If not even one question fits, the bundle is refused, unless the caller accepts shorter clips.

Where engines are built, a decoder may have an engine for only one of its caches: that one is chosen if it serves the
clip, even if a smaller cache would hold it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Mapping, Sequence
from math import ceil, floor
from typing import NamedTuple

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import DecoderGraph, Language
from edge_sdk.bundle.onnx_file import external_locations
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.reasoning.cache.calls import CallShape
from edge_sdk.reasoning.cache.feeding import prefix_bytes, standing_bytes
from edge_sdk.types import Dialect, Value

# Copies of each input where a runtime computes in device memory: on the device, pinned on the host while a sequence is
# bound, and in the arrays passed in. LoRA matrices are passed as a mapped file, whose pages need not stay in memory.
_INPUTS_ON_DEVICE, _LORA_ON_DEVICE = 3, 2


class Fit(Value, frozen=True, kw_only=True):
    """What a reasoner opens: the dialect, the decoder graph of each adapter, and their memory in MB of 10^6 bytes.

    `memory_mb` covers weights, LoRA matrices, caches and call inputs, including the copies that a device needs. The
    runtime's own working memory comes on top. `buckets` are the slot counts of all graphs of an adapter's decoder.
    """

    dialect: Dialect
    decoders: dict[str, DecoderGraph]
    buckets: dict[str, tuple[int, ...]]
    memory_mb: float


class Need(NamedTuple):
    """Slots that an adapter needs for a clip with all questions and answers, and at `least`, with only one question."""

    slots: int
    least: int


def fit(
    bundle: Bundle,
    language: Language,
    profile: str,
    needs: Mapping[str, Need],
    *,
    dialects: Sequence[Dialect],
    shape: CallShape,
    max_memory_mb: float | None = None,
    whole: bool = False,
    on_device: bool = False,
    is_built: Callable[[str], bool] = lambda graph: True,
) -> Fit:
    """Choose the graphs for clips of `profile`, with the `needs` of each adapter's prefix.

    `whole`: if any cache of the bundle holds the least that an adapter needs, do not choose a smaller one. `on_device`:
    the runtime computes in device memory, which counts like host memory and holds weights once for each graph; adapters
    of one decoder then use one graph. `is_built` says whether the runtime can open a decoder's graph: if the graphs
    that it can open serve every adapter, only they are considered, as long as they fit in the memory.

    Raises `BundleError` if the bundle has all graphs in none of `dialects`, and `ConfigError` if even the smallest
    allowed caches exceed `max_memory_mb`.
    """
    dialect = _dialect(language, profile, needs, dialects)
    known = {name: _graphs(language, name, dialect) for name in needs}
    wanted = _shared(language, needs) if on_device else {name: need.slots for name, need in needs.items()}
    smallest, last = 0.0, 0
    for allowed in _by_preference(known, needs, is_built):
        caps = sorted({graph.slots for graphs in allowed.values() for graph in graphs}, reverse=True)
        for cap in caps:
            chosen = {name: _choose(graphs, wanted[name], cap) for name, graphs in allowed.items()}
            if whole and any(_too_small(chosen[name], graphs, needs[name]) for name, graphs in known.items()):
                break
            held = _weight_bytes(bundle, language, profile, dialect, chosen, on_device)
            held += sum(_sequence_bytes(bundle, language, n, each, shape, on_device) for n, each in chosen.items())
            smallest, last = held / 1e6, max(graph.slots for graph in chosen.values())
            if max_memory_mb is None or smallest <= max_memory_mb:
                buckets = {name: tuple(graph.slots for graph in graphs) for name, graphs in known.items()}
                return Fit(dialect=dialect, decoders=chosen, buckets=buckets, memory_mb=smallest)
    # Rounded in opposite directions, so that the message never shows a budget that seems large enough.
    found = floor((max_memory_mb or 0.0) * 10) / 10
    raise ConfigError(
        f"expected a memory budget of at least {ceil(smallest)} MB, for weights and caches of {last} slots, found "
        f"{found:.1f} MB; raise it, or export the bundle with smaller weights or fewer slots"
    )


def _shared(language: Language, needs: Mapping[str, Need]) -> dict[str, int]:
    """Return the slots that each adapter's graph needs if all adapters of its decoder use the same graph.

    A second engine of a decoder would hold all of its weights again.
    """
    decoders = {name: language.adapters[name].decoder for name in needs}
    return {
        name: max(need.slots for other, need in needs.items() if decoders[other] == own)
        for name, own in decoders.items()
    }


def _by_preference(
    known: Mapping[str, Sequence[DecoderGraph]], needs: Mapping[str, Need], is_built: Callable[[str], bool]
) -> list[Mapping[str, Sequence[DecoderGraph]]]:
    """Return the built graphs of each adapter, if they serve every adapter, and then all graphs.

    A graph that is not built is chosen only so that opening it says what to build.
    """
    built = {name: [graph for graph in graphs if is_built(graph.graph)] for name, graphs in known.items()}
    serve = all(built[name] and not _too_small(built[name][-1], graphs, needs[name]) for name, graphs in known.items())
    return [built, known] if serve and built != known else [known]


def _too_small(chosen: DecoderGraph, graphs: Sequence[DecoderGraph], need: Need) -> bool:
    return chosen.slots < need.least <= graphs[-1].slots


def _dialect(language: Language, profile: str, adapters: Collection[str], dialects: Sequence[Dialect]) -> Dialect:
    for dialect in dialects:
        parts = [language.profiles[profile].graphs, *(language.adapters[name].projector for name in adapters)]
        if all(dialect in part for part in parts) and all(_graphs(language, name, dialect) for name in adapters):
            return dialect
    raise BundleError(
        f"the bundle lacks vision, projectors or decoders in {' or '.join(dialects)}, which this runtime "
        f"reads here; export it with --dialect {dialects[0]}, or install another release of the runtime"
    )


def _graphs(language: Language, adapter: str, dialect: Dialect) -> list[DecoderGraph]:
    graphs = language.decoders[language.adapters[adapter].decoder].graphs
    return sorted((graph for graph in graphs if graph.dialect == dialect), key=lambda graph: graph.slots)


def _choose(graphs: Sequence[DecoderGraph], slots: int, cap: int) -> DecoderGraph:
    """Return the smallest graph with `slots`, else the largest, ignoring graphs above `cap` unless all are above it."""
    allowed = [graph for graph in graphs if graph.slots <= cap] or [graphs[0]]
    return next((graph for graph in allowed if graph.slots >= slots), allowed[-1])


def _weight_bytes(
    bundle: Bundle,
    language: Language,
    profile: str,
    dialect: Dialect,
    decoders: Mapping[str, DecoderGraph],
    on_device: bool,
) -> int:
    """Return the bytes of the graphs and their weight files: each file once, or on a device once for each graph."""
    names = {language.profiles[profile].graphs[dialect], *(graph.graph for graph in decoders.values())}
    names |= {language.adapters[name].projector[dialect] for name in decoders}
    files: list[str] = []
    for name in names:
        graph, path = bundle.graph(name)
        beside = posixpath.dirname(graph.file)
        files += {graph.file, *(posixpath.join(beside, location) for location in external_locations(path))}
    return sum(bundle.manifest.files[file].size_bytes for file in (files if on_device else set(files)))


def _sequence_bytes(
    bundle: Bundle, language: Language, adapter: str, decoder: DecoderGraph, shape: CallShape, on_device: bool
) -> int:
    """Return the bytes of an adapter's sequence in its decoder: cache, call inputs, and the adapter's LoRA matrices."""
    graph, _ = bundle.graph(decoder.graph)
    if on_device:
        lora = _LORA_ON_DEVICE * standing_bytes(graph.inputs, graph.state, shape)
        return lora + prefix_bytes(graph.inputs, graph.state, shape, copies=_INPUTS_ON_DEVICE)
    file = language.adapters[adapter].lora
    mapped = bundle.manifest.files[file].size_bytes if file else 0
    return mapped + prefix_bytes(graph.inputs, graph.state, shape)
