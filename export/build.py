"""Build engines from a bundle's graphs: estimate memory, report progress, cache, and compare with the references.

An engine is built where it will run, because TensorRT times its kernels on the device. Only TensorRT-RTX compiles
without a GPU and finishes on the device. A cached engine for the same graph, TensorRT and GPU is reused unless a
rebuild is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest import Graph
from edge_sdk.engine import BUILDER_REVISION, EngineCache, EngineKey, graph_hashes
from edge_sdk.engine.shapes import shape_profiles
from edge_sdk.engine.tensorrt_library import ProblemLog, TensorRT, problems, short_of_memory
from edge_sdk.errors import ConfigError, EngineError, UnknownNameError
from edge_sdk.export.build_monitor import OnProgress, Stop, interruptible, monitor
from edge_sdk.export.build_needs import require_card_memory, require_disk, require_memory, workspace_mb
from edge_sdk.export.trt_network import Network, add_profiles, compile_for, parse
from edge_sdk.files import write_bytes
from edge_sdk.toolchain.building import BuildOptions, BuiltEngine, Place

_MB = 1_000_000
# In TensorRT's message about an element type that the GPU lacks.
_WRONG_TYPE = "datatypes"


class Watcher(Protocol):
    """Receives the memory estimate and the progress of each graph's build."""

    def begin(self, graph: str, number: int, of: int, needed_mb: float) -> None:
        """Build `number` of `of` begins, for `graph`; it is estimated to need `needed_mb` of memory."""

    def progress(self, share: float, phase: str) -> None:
        """`share` of the build, 0 to 1, is done."""

    def warn(self, text: str) -> None:
        """The engine will be slower than it should be, as `text` says."""

    def end(self) -> None:
        """The build has ended, successfully or not."""


def build_engines(
    bundle: Bundle, tensorrt: TensorRT, place: Place, cache: EngineCache, options: BuildOptions, watcher: Watcher
) -> Iterator[BuiltEngine]:
    """Build the engines that `bundle` needs for `place`, one graph after the other.

    Raises `EngineError` for a graph that TensorRT refuses and for too little memory, `RuntimeFailure` for a full disk,
    `ConfigError` for a bundle without graphs in the dialect that TensorRT reads, and `KeyboardInterrupt` once the
    builder has been stopped. No partial engine is left behind.
    """
    names = chosen_graphs(bundle, tensorrt, options)
    for number, name in enumerate(names, start=1):
        graph, path = bundle.graph(name)
        key = engine_key(bundle, name, tensorrt, place, options)
        found = None if options.rebuild else cache.find(key)
        if found is not None:
            cache.choose(key)
            yield _built(cache, key, found)
            continue
        require_disk(path, cache.folder, force=options.force)
        if tensorrt.flavour == "trt":
            require_card_memory(path, force=options.force)
        watcher.begin(name, number, len(names), require_memory(path, force=options.force))
        try:
            engine = _build(_Job(path, graph, key, tensorrt, cache, options), watcher)
        finally:
            watcher.end()
        yield engine


def engine_key(bundle: Bundle, name: str, tensorrt: TensorRT, place: Place, options: BuildOptions) -> EngineKey:
    """The key of the engine for the graph called `name`."""
    graph, path = bundle.graph(name)
    graph_sha256, weights_sha256 = graph_hashes(path)
    return EngineKey(
        graph=name,
        graph_sha256=graph_sha256,
        weights_sha256=weights_sha256,
        flavour=tensorrt.flavour,
        version=tensorrt.version,
        sm=place.sm,
        multiprocessors=place.multiprocessors,
        driver=place.driver,
        precision=_precision(graph, options),
        profiles=shape_profiles(bundle.manifest, name, options.limits),
        level=options.level,
        revision=BUILDER_REVISION,
    )


def chosen_graphs(bundle: Bundle, tensorrt: TensorRT, options: BuildOptions) -> tuple[str, ...]:
    """The graphs to build, in the order in which a clip meets them.

    Raises `UnknownNameError` for a requested graph that the bundle lacks, `ConfigError` where no graph remains.
    """
    readable = [name for name, graph in bundle.manifest.graphs.items() if tensorrt.dialect in graph.dialects]
    for name in options.graphs:
        if name not in readable:
            raise UnknownNameError(f"{tensorrt.dialect} graph", name, readable)
    wanted = [name for name in readable if name in (options.graphs or readable)]
    skipped = set() if options.graphs else _other_slots(bundle, options.slots)
    found = tuple(name for name in wanted if name not in skipped)
    if not found:
        raise ConfigError(
            f"the bundle {bundle.manifest.name!r} has no {tensorrt.dialect} graphs, which TensorRT {tensorrt.version} "
            f"reads; export it with --dialect {tensorrt.dialect}"
        )
    return found


def _other_slots(bundle: Bundle, slots: Sequence[int]) -> set[str]:
    """Decoder graphs whose KV cache has none of the wanted sizes."""
    language = bundle.manifest.language
    decoders = [each for decoder in (language.decoders.values() if language else ()) for each in decoder.graphs]
    known = {each.slots for each in decoders}
    if unknown := set(slots) - known:
        raise UnknownNameError("number of slots", str(min(unknown)), [str(each) for each in known])
    wanted = set(slots) or {max(known, default=0)}
    return {each.graph for each in decoders if each.slots not in wanted}


def _precision(graph: Graph, options: BuildOptions) -> str:
    kinds = sorted({spec.dtype for spec in graph.inputs if spec.dtype.startswith(("float", "bfloat"))})
    return "+".join([*kinds, "tf32"] if options.tf32 and "float32" in kinds else kinds)


@dataclass(frozen=True)
class _Job:
    """One engine to be built."""

    path: Path
    graph: Graph
    key: EngineKey
    tensorrt: TensorRT
    cache: EngineCache
    options: BuildOptions

    @property
    def timings(self) -> Path:
        """Path of the kernel timings for this kind of GPU and this version of TensorRT."""
        gpu = f"{self.key.sm}.{self.key.multiprocessors}"
        return self.cache.folder / f"timings.{self.tensorrt.version}.{gpu}.cache"


class _Attempt(NamedTuple):
    """What a builder made of a network: `engine` is None if it refused."""

    network: Network
    # Any: the packages ship no types.
    config: Any
    engine: Any


def _build(job: _Job, watcher: Watcher) -> BuiltEngine:
    began_s, tensorrt = time.monotonic(), job.tensorrt
    slow = False
    with interruptible() as stop:
        attempt = _attempt(job, stop, watcher.progress)
        if attempt.engine is None and not stop.wanted and _may_lack_a_kernel(attempt.network):
            watcher.warn(_slower(job, attempt.network.log))
            slow = True
            del attempt  # its copy of the weights is released before the next is made
            attempt = _attempt(job, stop, watcher.progress, slow_attention=True)
        if attempt.engine is None and not stop.wanted:
            raise EngineError(_refusal(job, attempt.network.log))
    build_s = time.monotonic() - began_s
    built_utc = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    file = job.cache.write(
        job.key, memoryview(attempt.engine), built_utc=built_utc, build_s=build_s, slow_attention=slow
    )
    if tensorrt.flavour == "trt":
        keep_timings(attempt.config, job.timings)
    return _built(job.cache, job.key, file, build_s)


def _attempt(job: _Job, stop: Stop, on_progress: OnProgress, *, slow_attention: bool = False) -> _Attempt:
    network = parse(job.tensorrt, job.path, slow_attention=slow_attention)
    config = _config(job, network, monitor(job.tensorrt, stop, on_progress))
    return _Attempt(network, config, network.builder.build_serialized_network(network.native, config))


def _may_lack_a_kernel(network: Network) -> bool:
    """Whether a refused network could be built if its attention needed no fused kernels."""
    return network.strict > 0 and not short_of_memory(network.log) and _WRONG_TYPE not in problems(network.log)


def _slower(job: _Job, log: ProblemLog) -> str:
    return (
        f"TensorRT {job.tensorrt.version} cannot build {job.key.graph} with fused attention here: "
        f"{problems(log)}; it is built once more with attention in smaller steps, which is slower and needs memory for "
        "the scores; another version of TensorRT may have the kernels"
    )


def _built(cache: EngineCache, key: EngineKey, file: Path, build_s: float | None = None) -> BuiltEngine:
    """What is reported of the engine in `file`; `build_s` is None for one that was there."""
    record = cache.record(key)
    return BuiltEngine(
        graph=key.graph,
        file=str(file),
        size_mb=_size_mb(file),
        build_s=build_s or 0.0,
        cached=build_s is None,
        slow_attention=record is not None and record.slow_attention,
    )


def _refusal(job: _Job, log: ProblemLog) -> str:
    """The error text for a graph that TensorRT does not build, quoting TensorRT's messages from `log`."""
    told = problems(log)
    remedy = "take another --level, another version of TensorRT, or --runtime ort"
    if _WRONG_TYPE in told:
        sm = job.key.sm
        where = "some of the GPUs it is for" if sm is None else f"sm_{sm}"
        remedy = f"{where} cannot compute in this element type: export the bundle with --dtype float16"
    elif short_of_memory(log):
        remedy = "memory ran out: close other programs, add swap, or give less to a kernel: --workspace-mb"
    return f"TensorRT {job.tensorrt.version} cannot build {job.path}: {told}; {remedy}"


def _size_mb(path: Path) -> float:
    return path.stat().st_size / _MB


# Any: the package ships no types.
def _config(job: _Job, network: Network, progress_monitor: Any) -> Any:
    module, options = job.tensorrt.module, job.options
    config = network.builder.create_builder_config()
    config.builder_optimization_level = options.level
    config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, int(workspace_mb(options.workspace_mb) * _MB))
    if not options.tf32:
        config.clear_flag(module.BuilderFlag.TF32)
    if job.tensorrt.flavour == "rtx":
        compile_for(module, config, job.key.sm)
    else:
        attach_timings(config, job.timings)
    config.progress_monitor = progress_monitor
    add_profiles(network, config, job.graph, job.key.profiles)
    return config


# Any: as above, here and below.
def attach_timings(config: Any, path: Path) -> None:
    """Give `config` the timing cache at `path`, or an empty one, without which the builder's timings cannot be kept.

    TensorRT refuses timings of another device or version; the build is then only slower.
    """
    known = path.read_bytes() if path.is_file() else b""
    if not config.set_timing_cache(config.create_timing_cache(known), False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def keep_timings(config: Any, path: Path) -> None:
    """Write the builder's timing cache to `path`, if there is one."""
    found = config.get_timing_cache()
    if found is not None:
        write_bytes(path, bytes(found.serialize()))
