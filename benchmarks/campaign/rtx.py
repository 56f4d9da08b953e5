"""Check whether TensorRT-RTX runs on this GPU; its list of GPUs omits some, so query the library, then try it.

`python -m edge_sdk.benchmarks.campaign.rtx ORDER ROWS`, on the student of a bundle.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec

from edge_sdk.benchmarks.campaign.order import Order
from edge_sdk.benchmarks.campaign.rows import Group, Lines, Row
from edge_sdk.benchmarks.scenarios import moving_pictures
from edge_sdk.bundle import open_bundle
from edge_sdk.engine import EngineCache, default_cache, graph_hashes
from edge_sdk.engine.tensorrt_library import open_tensorrt, problem_log
from edge_sdk.errors import EngineError, RuntimeFailure
from edge_sdk.hardware.cuda import cuda_device
from edge_sdk.perception.recogniser import Recogniser, student_of
from edge_sdk.runtime import SessionOptions
from edge_sdk.toolchain.building import BuildOptions, build

NAMES = ("compiles the student", "says it is valid here", "runs the student here")
_LEAST_S = 2.0
_FRAMES = 10


def compiled(order: Order, lines: Lines) -> Iterator[Row]:
    """Build the student's engine, which needs no GPU; the other rows show whether a GPU runs it."""
    row, options = lines.row(NAMES[0]), BuildOptions(graphs=(student_of(open_bundle(order.folder)).graph,))
    try:
        report = build(Path(order.folder), "rtx", cache=_cache(order).folder, options=options, quiet=True)
    except (EngineError, RuntimeFailure) as error:
        if _engine(order) is None:
            raise
        yield msgspec.structs.replace(row, ok=True, found=f"it compiles, but on this device: {error}")
        return
    engine = report.engines[0]
    yield msgspec.structs.replace(
        row,
        value=engine.build_s,
        unit="s to build",
        found=f"{engine.size_mb:.1f} MB{' from the cache' if engine.cached else ''}",
        ok=True,
        method=f"TensorRT {report.tensorrt}; {report.note or 'compared with the bundle after it was built'}",
    )


def valid(order: Order, lines: Lines) -> Iterator[Row]:
    """Report `get_engine_validity` of the student's engine. Raises `MissingDependencyError` without a GPU."""
    device, tensorrt, engine = cuda_device(), open_tensorrt("rtx"), _engine(order)
    if engine is None:
        raise EngineError(f"there is no engine to ask about in {_cache(order).folder}")
    module, log = tensorrt.module, problem_log(tensorrt)
    runtime = module.Runtime(log.logger)
    verdict, bits = runtime.get_engine_validity(engine.read_bytes())
    known = module.EngineInvalidityDiagnostics.__members__
    flags = ", ".join(name for name, flag in known.items() if int(flag) & int(bits)) or "none"
    yield msgspec.structs.replace(
        lines.row(NAMES[1]),
        found=f"{verdict.name}, diagnostics: {flags}{''.join(f'; {each}' for each in log.problems)}; {device.name}, "
        f"sm_{device.sm}, CUDA {device.driver}",
        ok=verdict.name != "INVALID",
        method=f"TensorRT-RTX {tensorrt.version}, get_engine_validity",
    )


def runs(order: Order, lines: Lines) -> Iterator[Row]:
    """Run a few frames through the engine. Raises `MissingDependencyError` without a GPU."""
    row, bundle = lines.row(NAMES[2]), open_bundle(order.folder)
    try:
        recogniser = Recogniser(bundle, "rtx", options=SessionOptions(engines=_cache(order).folder))
        with closing(recogniser):
            student = recogniser.student
            rows = [recogniser.score(picture) for picture in moving_pictures(student.height, student.width)[:_FRAMES]]
    except (EngineError, RuntimeFailure) as error:
        yield msgspec.structs.replace(row, ok=False, found=str(error))
        return
    told = ", ".join(f"{score:.3g}" for score in rows[-1])
    yield msgspec.structs.replace(row, found=f"{len(rows)} frames, the last scored {told}", ok=True)


def _cache(order: Order) -> EngineCache:
    return EngineCache(Path(order.engines)) if order.engines else default_cache()


def _engine(order: Order) -> Path | None:
    """The TensorRT-RTX engine chosen last for the student's current files, whatever place it is for."""
    bundle, cache = open_bundle(order.folder), _cache(order)
    graph_sha256, _ = graph_hashes(bundle.graph(student_of(bundle).graph)[1])
    records = [each for each in cache.records() if (each.key.flavour, each.key.graph_sha256) == ("rtx", graph_sha256)]
    last = max(records, key=lambda record: record.turn, default=None)
    return cache.find(last.key) if last else None


def main(arguments: Sequence[str]) -> None:
    """Compile, validate and run the student's engine, one row each."""
    order = msgspec.json.decode(arguments[0], type=Order)
    lines = Lines(Path(arguments[1]), order.runtime, order.subject, order.seconds)
    works = zip(NAMES, (compiled, valid, runs), strict=True)
    lines.run([Group((name,), _LEAST_S, partial(work, order, lines)) for name, work in works])


if __name__ == "__main__":
    main(sys.argv[1:])
