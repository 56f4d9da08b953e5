"""Which graphs of a bundle a reasoner opens: the dialect that the runtime reads, and caches that are large enough.

An engine computes over all slots of its cache, used or not, so the smallest that holds a whole clip with its questions
and answers is the fastest. Where memory is short a smaller one is taken: the questions are then asked one after the
other, and where not even one would find room the bundle is refused, unless the caller can do with shorter clips.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from math import ceil, floor
from typing import NamedTuple

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import DecoderGraph, Language
from edge_sdk.bundle.onnx_file import external_locations
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.reasoning.cache.calls import CallShape
from edge_sdk.reasoning.cache.feeding import prefix_bytes, standing_bytes
from edge_sdk.types import Dialect, Value

# Where a runtime computes in a device's memory, each input lies there and pinned on the host for as long as a sequence
# is bound, and in the arrays that it is given in. LoRA matrices are given in a mapped file, whose pages are not held.
_INPUTS_ON_DEVICE, _LORA_ON_DEVICE = 3, 2


class Fit(Value, frozen=True, kw_only=True):
    """What is opened: the dialect, the decoder graph of each adapter, and what all of it holds in MB of 10^6 bytes.

    `memory_mb` is weights, LoRA matrices, caches and the inputs of calls, with the copies of them that a device needs;
    what a runtime takes while it computes comes on top. `buckets` are the slots of all graphs of an adapter's decoder.
    """

    dialect: Dialect
    decoders: dict[str, DecoderGraph]
    buckets: dict[str, tuple[int, ...]]
    memory_mb: float


class Need(NamedTuple):
    """Slots that an adapter's prefix would fill with all questions and answers together, and at `least` with one."""

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
) -> Fit:
    """The graphs for clips of `profile`, where each adapter's prefix has its `needs`.

    `whole`: where a cache of the bundle holds the least that is needed, no smaller one is taken. `on_device`: the
    runtime computes in a device's memory, which counts as the host's does. Raises `BundleError` for a bundle that has
    no dialect of `dialects` whole, and `ConfigError` where even the smallest caches exceed `max_memory_mb`.
    """
    dialect = _dialect(language, profile, needs, dialects)
    known = {name: _graphs(language, name, dialect) for name in needs}
    caps = sorted({graph.slots for graphs in known.values() for graph in graphs}, reverse=True)
    smallest, last = 0.0, 0
    for cap in caps:
        chosen = {name: _choose(graphs, needs[name].slots, cap) for name, graphs in known.items()}
        if whole and any(_too_small(chosen[name], graphs, needs[name]) for name, graphs in known.items()):
            break
        held = _weight_bytes(bundle, language, profile, dialect, chosen)
        held += sum(_sequence_bytes(bundle, language, name, each, shape, on_device) for name, each in chosen.items())
        smallest, last = held / 1e6, max(graph.slots for graph in chosen.values())
        if max_memory_mb is None or smallest <= max_memory_mb:
            buckets = {name: tuple(graph.slots for graph in graphs) for name, graphs in known.items()}
            return Fit(dialect=dialect, decoders=chosen, buckets=buckets, memory_mb=smallest)
    # Rounded apart, so that the numbers never say what is not so.
    found = floor((max_memory_mb or 0.0) * 10) / 10
    raise ConfigError(
        f"expected a memory budget of at least {ceil(smallest)} MB, for weights and caches of {last} slots, found "
        f"{found:.1f} MB; raise it, or export the bundle with smaller weights or fewer slots"
    )


def _too_small(chosen: DecoderGraph, graphs: Sequence[DecoderGraph], need: Need) -> bool:
    return chosen.slots < need.least <= graphs[-1].slots


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


def _weight_bytes(
    bundle: Bundle, language: Language, profile: str, dialect: Dialect, decoders: Mapping[str, DecoderGraph]
) -> int:
    """Bytes of the graphs and of the files beside them, each file once."""
    names = {language.profiles[profile].graphs[dialect], *(graph.graph for graph in decoders.values())}
    names |= {language.adapters[name].projector[dialect] for name in decoders}
    files = set[str]()
    for name in names:
        graph, path = bundle.graph(name)
        beside = posixpath.dirname(graph.file)
        files |= {graph.file, *(posixpath.join(beside, location) for location in external_locations(path))}
    return sum(bundle.manifest.files[file].size_bytes for file in files)


def _sequence_bytes(
    bundle: Bundle, language: Language, adapter: str, decoder: DecoderGraph, shape: CallShape, on_device: bool
) -> int:
    """Bytes of an adapter's sequence in its decoder: cache, inputs of calls, and its own LoRA matrices."""
    graph, _ = bundle.graph(decoder.graph)
    if on_device:
        lora = _LORA_ON_DEVICE * standing_bytes(graph.inputs, graph.state, shape)
        return lora + prefix_bytes(graph.inputs, graph.state, shape, copies=_INPUTS_ON_DEVICE)
    file = language.adapters[adapter].lora
    mapped = bundle.manifest.files[file].size_bytes if file else 0
    return mapped + prefix_bytes(graph.inputs, graph.state, shape)
