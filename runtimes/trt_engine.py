"""Load a TensorRT engine from its file, compare it with the manifest, and read the lengths its profiles accept.

An engine that is damaged, or was built for another board or version, is refused with TensorRT's own message. An engine
that loads but has other tensors than the manifest declares is refused with the name of the tensor.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edge_sdk.bundle.manifest import Graph
from edge_sdk.engine.tensorrt_library import ProblemLog, TensorRT, problems, short_of_memory
from edge_sdk.errors import EngineError, RuntimeFailure
from edge_sdk.runtimes.cuda_errors import MORE_MEMORY
from edge_sdk.tensors import describe, numpy_dtype
from edge_sdk.types import TensorSpec

Ranges = Mapping[str, tuple[int, int]]
"""Smallest and largest length of each free dimension, in one profile."""

# name of tensorrt.DataType -> element type of a spec
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}


class Loaded(NamedTuple):
    """An engine and the log of TensorRT's errors; `label` names the engine in error messages.

    `sha256` is the hash of the engine's file; None for an engine that was never in a file.
    """

    label: str
    tensorrt: TensorRT
    # Any: the packages ship no types.
    engine: Any
    log: ProblemLog
    sha256: str | None = None


# Any: the packages ship no types.
def deserialize(path: Path, tensorrt: TensorRT, log: ProblemLog, where: str) -> Any:
    """Load the engine from the file at `path`, which is mapped rather than read so that memory holds it only once.

    `where` describes the GPU for error messages. Raises `RuntimeFailure` if the engine does not fit in the free memory,
    and `EngineError` if TensorRT refuses it for another reason, each with TensorRT's message and a remedy.
    """
    runtime = tensorrt.module.Runtime(log.logger)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        told = f"TensorRT {tensorrt.version} on {where} refuses {path}: {problems(log)}"
        if short_of_memory(log):
            size_mb = path.stat().st_size / 1e6
            raise RuntimeFailure(f"{told}; the engine's weights and code alone take {size_mb:,.0f} MB: {MORE_MEMORY}")
        raise EngineError(
            f"{told}; build it again: edge-sdk build --bundle BUNDLE --runtime {tensorrt.flavour} --rebuild"
        )
    return engine


# Any: the packages ship no types.
def check_tensors(label: str, graph: Graph, engine: Any) -> None:
    """Raise `RuntimeFailure` unless the engine has the tensors of `graph`.

    `graph` may fix a dimension that the engine leaves free.
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    for kind, mode, specs in (("input", "INPUT", graph.inputs), ("output", "OUTPUT", graph.outputs)):
        there = sorted(name for name in names if engine.get_tensor_mode(name).name == mode)
        declared = sorted(spec.name for spec in specs)
        if there != declared:
            raise RuntimeFailure(
                f"{label}: the manifest declares the {kind}s {declared}, but the engine has {there}; build it again"
            )
        for spec in specs:
            _check_tensor(label, kind, spec, engine)


# Any: the packages ship no types.
def _check_tensor(label: str, kind: str, spec: TensorSpec, engine: Any) -> None:
    numpy_dtype(spec)
    shape, code = tuple(engine.get_tensor_shape(spec.name)), engine.get_tensor_dtype(spec.name).name
    same = _DTYPES.get(code) == spec.dtype and len(shape) == len(spec.shape)
    if not same or any(found not in (-1, length) for length, found in zip(spec.shape, shape, strict=True)):
        raise RuntimeFailure(
            f"{label}: the manifest declares {kind} {spec.name!r} as {describe(spec)}, the engine has "
            f"{_DTYPES.get(code, code)} {list(shape)}; build again: edge-sdk build --bundle BUNDLE"
        )


# Any: the packages ship no types.
def profile_ranges(graph: Graph, engine: Any) -> tuple[Ranges, ...]:
    """Return the range of lengths of each free input dimension for each profile, in the engine's order."""
    return tuple(_ranges(graph.inputs, engine, index) for index in range(engine.num_optimization_profiles))


# Any: the packages ship no types.
def _ranges(inputs: Sequence[TensorSpec], engine: Any, profile: int) -> Ranges:
    found: dict[str, tuple[int, int]] = {}
    for spec in inputs:
        if not any(isinstance(length, str) for length in spec.shape):
            continue
        smallest, _, largest = engine.get_tensor_profile_shape(spec.name, profile)
        for name, lo, hi in zip(spec.shape, smallest, largest, strict=True):
            if isinstance(name, str):
                before = found.get(name, (lo, hi))
                found[name] = max(before[0], lo), min(before[1], hi)
    return found


# Any: the packages ship no types.
def host_tensors(engine: Any) -> frozenset[str]:
    """Return the names of tensors that the engine reads or writes in host memory, such as those that set shapes."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return frozenset(name for name in names if engine.get_tensor_location(name).name == "HOST")
