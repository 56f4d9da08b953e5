"""Which graphs of a bundle a reasoner opens: the dialect that the runtime reads, and caches that are large enough.

A decoder computes over all slots of its cache, used or not, so the smallest that holds a whole clip with its questions
and answers is the fastest. Where memory is short a smaller one is taken: clips are then shorter, or their questions are
asked one after the other.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import DecoderGraph, Language
from edge_sdk.bundle.onnx_file import external_locations
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.reasoning.cache.calls import CallShape
from edge_sdk.reasoning.cache.feeding import prefix_bytes
from edge_sdk.types import Dialect, Value


class Fit(Value, frozen=True, kw_only=True):
    """What is opened: the dialect, the decoder graph of each adapter, and what all of it holds in MB of 10^6 bytes.

    `memory_mb` is weights, LoRA matrices, caches and the inputs of calls; what a runtime needs while it computes comes
    on top. `buckets` are the slots of all graphs of each adapter's decoder.
    """

    dialect: Dialect
    decoders: dict[str, DecoderGraph]
    buckets: dict[str, tuple[int, ...]]
    memory_mb: float


def fit(
    bundle: Bundle,
    language: Language,
    profile: str,
    slots: Mapping[str, int],
    *,
    dialects: Sequence[Dialect],
    shape: CallShape,
    max_memory_mb: float | None = None,
) -> Fit:
    """The graphs for clips of `profile`, where each adapter's prefix would fill `slots`.

    Raises `BundleError` for a bundle that has no dialect of `dialects` whole, and `ConfigError` where even the smallest
    caches exceed `max_memory_mb`.
    """
    dialect = _dialect(language, profile, slots, dialects)
    known = {name: _graphs(language, name, dialect) for name in slots}
    caps = sorted({graph.slots for graphs in known.values() for graph in graphs}, reverse=True)
    smallest = 0.0
    for cap in caps:
        chosen = {name: _choose(graphs, slots[name], cap) for name, graphs in known.items()}
        smallest = _memory_mb(bundle, language, profile, dialect, chosen, shape)
        if max_memory_mb is None or smallest <= max_memory_mb:
            buckets = {name: tuple(graph.slots for graph in graphs) for name, graphs in known.items()}
            return Fit(dialect=dialect, decoders=chosen, buckets=buckets, memory_mb=smallest)
    raise ConfigError(
        f"expected a memory budget of at least {smallest:.0f} MB, for weights and caches of {caps[-1]} slots, found "
        f"{max_memory_mb:.0f} MB; raise it, or export the bundle with smaller weights or fewer slots"
    )


def _dialect(language: Language, profile: str, adapters: Collection[str], dialects: Sequence[Dialect]) -> Dialect:
    for dialect in dialects:
        parts = [language.profiles[profile].graphs, *(language.adapters[name].projector for name in adapters)]
        if all(dialect in part for part in parts) and all(_graphs(language, name, dialect) for name in adapters):
            return dialect
    raise BundleError(
        f"the bundle has no vision, projectors and decoders together in {' or '.join(dialects)}, which this runtime "
        f"reads here; export it with --dialect {dialects[0]}, or install another release of the runtime"
    )


def _graphs(language: Language, adapter: str, dialect: Dialect) -> list[DecoderGraph]:
    graphs = language.decoders[language.adapters[adapter].decoder].graphs
    return sorted((graph for graph in graphs if graph.dialect == dialect), key=lambda graph: graph.slots)


def _choose(graphs: Sequence[DecoderGraph], slots: int, cap: int) -> DecoderGraph:
    """The smallest graph that has `slots`, else the largest; none above `cap` where one is not."""
    allowed = [graph for graph in graphs if graph.slots <= cap] or [graphs[0]]
    return next((graph for graph in allowed if graph.slots >= slots), allowed[-1])


def _memory_mb(
    bundle: Bundle,
    language: Language,
    profile: str,
    dialect: Dialect,
    decoders: Mapping[str, DecoderGraph],
    shape: CallShape,
) -> float:
    adapters = [language.adapters[name] for name in decoders]
    names = {language.profiles[profile].graphs[dialect], *(each.projector[dialect] for each in adapters)}
    names |= {graph.graph for graph in decoders.values()}
    files = {each.lora for each in adapters if each.lora}
    for name in names:
        graph, path = bundle.graph(name)
        beside = posixpath.dirname(graph.file)
        files |= {graph.file, *(posixpath.join(beside, location) for location in external_locations(path))}
    held = sum(bundle.manifest.files[file].size_bytes for file in files)
    for each in decoders.values():
        graph, _ = bundle.graph(each.graph)
        held += prefix_bytes(graph.inputs, graph.state, shape)
    return held / 1e6
