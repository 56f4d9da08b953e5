"""`edge-sdk build`: build engines for this device or another; say what memory they need, and compare their outputs.

This module opens the export room by name; on a board, that room does not need torch for building.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path

import msgspec

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.console import Progress, say, warn
from edge_sdk.engine import EngineCache, EngineKey, default_cache
from edge_sdk.engine.shapes import Limits
from edge_sdk.engine.tensorrt_library import Flavour, open_tensorrt
from edge_sdk.errors import ConfigError, EngineError
from edge_sdk.hardware import find_target
from edge_sdk.hardware.cuda import CudaDevice, cuda_device, find_cuda_device
from edge_sdk.hardware.precision import require_sm
from edge_sdk.registry import open_room
from edge_sdk.runtime import SessionOptions
from edge_sdk.types import Value
from edge_sdk.verify.graphs import OutputCheck, check_graph, reference_case

_PER_MILLE = 1000
# 10^18 bytes: TensorRT counts bytes in 63 bits.
_MOST_MB = 1e12


class BuildOptions(Value, frozen=True, kw_only=True):
    """How engines are built.

    `level` is TensorRT's optimisation level, 0 to 5. `workspace_mb` limits the memory of a kernel besides its tensors,
    by default to a quarter of what is free. `tf32` lets float32 products round their factors to 10 bits. `slots` are
    the cache sizes to build decoders for, by default only the largest, because every engine holds the weights. `graphs`
    are the graphs to build, by default all; it excludes `slots`. `force` continues even if memory or the disk looks too
    small. `rebuild` also builds engines that the cache has, and replaces each once the new one is complete. Raises
    `ConfigError`.
    """

    level: int = 3
    workspace_mb: float | None = None
    tf32: bool = False
    slots: tuple[int, ...] = ()
    graphs: tuple[str, ...] = ()
    limits: Limits = Limits()
    force: bool = False
    rebuild: bool = False

    def __post_init__(self) -> None:
        if self.workspace_mb is not None and not 0 < self.workspace_mb < _MOST_MB:
            raise ConfigError(
                f"--workspace-mb must be above 0, in MB of 10^6 bytes; found {self.workspace_mb:g}: leave it out for a "
                "quarter of the memory that is free"
            )
        if self.graphs and self.slots:
            raise ConfigError(
                "--graph already names the graphs to build, so --slots has no effect; leave one of the two out"
            )


class Place(Value, frozen=True, kw_only=True):
    """Where an engine will run: the GPU's compute capability and multiprocessors, and the driver.

    A field is None if it is determined only there.
    """

    sm: int | None = None
    multiprocessors: int | None = None
    driver: str | None = None


class BuiltEngine(Value, frozen=True, kw_only=True):
    """One engine. If `cached`, it existed and `build_s` is 0. `verified` is None if nothing could be compared.

    `slow_attention`: no fused attention kernel could be used, so the engine is slower than it should be.
    """

    graph: str
    file: str
    size_mb: float
    build_s: float
    cached: bool
    verified: bool | None = None
    slow_attention: bool = False


class BuildReport(Value, frozen=True, kw_only=True):
    """The result of a build. `note` says why its engines were not compared, None if they were."""

    bundle: str
    tensorrt: str
    place: Place
    engines: tuple[BuiltEngine, ...]
    note: str | None


def build(
    bundle: Bundle | Path | None,
    flavour: Flavour,
    *,
    target: str | None = None,
    cache: Path | None = None,
    options: BuildOptions | None = None,
    quiet: bool = False,
) -> BuildReport:
    """Build engines of `bundle` for this device or, with TensorRT-RTX, for `target`, and compare them on this device.

    Raises `MissingDependencyError` without TensorRT, or without a GPU if one is needed; `EngineError` for a graph that
    cannot be built, and for engines whose outputs differ from the bundle's references, which are then set aside;
    `ConfigError` for a target that does not support the bundle's number formats; `RuntimeFailure` for a full disk.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    tensorrt = open_tensorrt(flavour)
    store, chosen = EngineCache(cache) if cache else default_cache(), options or BuildOptions()
    device = find_cuda_device() if flavour == "rtx" else cuda_device()
    place = _place(flavour, target, device)
    language = opened.manifest.language
    if language and language.quantisation:
        here = device.sm if device and target is None else None
        require_sm(here if place.sm is None else place.sm, language.quantisation, opened.manifest.name)
    room, watcher = open_room("export.build"), _Watcher(quiet)
    engines = tuple(room.build_engines(opened, tensorrt, place, store, chosen, watcher))
    note = _why_not_compared(place, device)
    if note is None:
        keys = {each.graph: room.engine_key(opened, each.graph, tensorrt, place, chosen) for each in engines}
        engines = _compared(opened, flavour, store, engines, keys)
    return BuildReport(
        bundle=opened.manifest.name,
        tensorrt=f"{flavour} {tensorrt.version}",
        place=place,
        engines=engines,
        note=note,
    )


def _place(flavour: Flavour, target: str | None, device: CudaDevice | None) -> Place:
    if flavour == "trt" and device is not None:
        sm = find_target(target).sm if target else device.sm
        if sm != device.sm:
            raise ConfigError(
                f"TensorRT builds for the GPU it runs on, sm_{device.sm} here, and {target} is sm_{sm}; run this "
                "there, or take --runtime rtx"
            )
        return Place(sm=device.sm, multiprocessors=device.multiprocessors, driver=device.driver)
    if target is None:
        return Place()
    found = find_target(target)
    if found.sm is None:
        raise ConfigError(f"{target} has no GPU to build an engine for; take --runtime ort there")
    return Place(sm=found.sm)


def _why_not_compared(place: Place, device: CudaDevice | None) -> str | None:
    if device is None:
        return "not compared with the bundle: no GPU here; run edge-sdk verify on the device"
    if place.sm not in (None, device.sm):
        return f"not compared with the bundle: built for sm_{place.sm}, here is sm_{device.sm}"
    return None


def _compared(
    bundle: Bundle,
    flavour: Flavour,
    store: EngineCache,
    engines: tuple[BuiltEngine, ...],
    keys: Mapping[str, EngineKey],
) -> tuple[BuiltEngine, ...]:
    failed = {graph: _failed_checks(bundle, flavour, store, graph, key) for graph, key in keys.items()}
    kept: list[Path] = []
    for graph, key in keys.items():
        found = failed[graph]
        if found:
            kept.append(store.set_aside(key))
        elif found is not None:
            store.mark_verified(key)
    wrong = {graph: found for graph, found in failed.items() if found}
    if wrong:
        raise EngineError(_wrong(wrong, kept, tf32=any("tf32" in keys[graph].precision for graph in wrong)))
    verified = {graph: None if found is None else True for graph, found in failed.items()}
    return tuple(msgspec.structs.replace(each, verified=verified[each.graph]) for each in engines)


def _wrong(failed: Mapping[str, Sequence[OutputCheck]], kept: Sequence[Path], *, tf32: bool) -> str:
    """The error text for graphs with wrong outputs, whose engines are `kept` where nothing opens them."""
    measured = "; ".join(_worst(checks) for _, checks in sorted(failed.items()))
    remedy = "try another --level, another version of TensorRT, or --runtime ort"
    if tf32:
        remedy = "--tf32 rounds the factors of float32 products to 10 bits, which may be too coarse here: leave it out"
    return (
        f"built, but wrong on this device: {', '.join(sorted(failed))} do not give the bundle's reference outputs "
        f"({measured}), so their engines were set aside and are not used ({', '.join(str(path) for path in kept)}, to "
        f"report or delete); {remedy}"
    )


def _worst(failed: Sequence[OutputCheck]) -> str:
    """The largest error among a graph's wrong outputs; one that has no value is larger than any."""
    found = max(failed, key=lambda check: inf if check.relative_error is None else check.relative_error)
    return str(found) if len(failed) == 1 else f"{found}, and {len(failed) - 1} more outputs"


def _failed_checks(
    bundle: Bundle, flavour: Flavour, store: EngineCache, graph: str, key: EngineKey
) -> list[OutputCheck] | None:
    """The outputs that exactly the engine of `key` gets wrong; None for a graph without references."""
    case = reference_case(bundle, graph)
    if case is None:
        return None
    options = SessionOptions(engines=store.folder, engine=key.digest)
    return [check for check in check_graph(bundle, graph, case, flavour, options) if not check.ok]


class _Watcher:
    """Prints which graph is built, the memory it needs, and its progress."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._line = Progress("build", quiet=quiet)

    def begin(self, graph: str, number: int, of: int, needed_mb: float) -> None:
        if not self._quiet:
            say(f"{graph} ({number} of {of}): needs about {needed_mb:,.0f} MB of memory")
        self._line = Progress(f"build {graph}", quiet=self._quiet)

    def progress(self, share: float, phase: str) -> None:
        self._line(round(share * _PER_MILLE), _PER_MILLE, phase)

    def warn(self, text: str) -> None:
        warn([text])

    def end(self) -> None:
        self._line.__exit__(None, None, None)


def describe(report: BuildReport) -> str:
    """Describe a report for a terminal."""
    lines = [f"{report.bundle}, TensorRT {report.tensorrt}"]
    for each in report.engines:
        how = "from the cache" if each.cached else f"built in {each.build_s:.1f} s"
        checked = {True: ", same as the bundle's reference", None: "", False: ""}[each.verified]
        slow = ", WITHOUT FUSED ATTENTION, so slower" if each.slow_attention else ""
        lines.append(f"{each.graph}: {each.size_mb:,.1f} MB, {how}{checked}{slow}, {each.file}")
    return "\n".join([*lines, *([report.note] if report.note else [])])
