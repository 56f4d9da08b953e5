"""Will TensorRT take this graph? Asked on a machine without a GPU, with TensorRT-RTX's ahead-of-time compiler.

TensorRT-RTX parses and compiles on a CPU; only running needs a device. So a graph that its parser or builder would
refuse on a board is refused here, in CI.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_sdk.errors import EngineError
from edge_sdk.export.trt_network import parse
from edge_sdk.files import atomic_path
from edge_sdk.tensorrt_library import open_tensorrt, problems
from edge_sdk.types import Value


class Profile(Value, frozen=True, kw_only=True):
    """Shapes of one input: the smallest, the one to optimise for, the largest."""

    smallest: tuple[int, ...]
    best: tuple[int, ...]
    largest: tuple[int, ...]


Profiles = Mapping[str, Profile]


class GateResult(Value, frozen=True, kw_only=True):
    """What the compiler made of a graph: its engine's size, how long it took, and the version that did it."""

    engine_bytes: int
    seconds: float
    layers: int
    tensorrt_rtx: str


def profiles_for(
    shapes: Mapping[str, tuple[int | str, ...]], ranges: Mapping[str, tuple[int, int, int]]
) -> dict[str, Profile]:
    """One profile per input from its shape, with each named dimension taken from `ranges` (smallest, best, largest)."""
    return {
        name: Profile(
            smallest=tuple(ranges[size][0] if isinstance(size, str) else size for size in shape),
            best=tuple(ranges[size][1] if isinstance(size, str) else size for size in shape),
            largest=tuple(ranges[size][2] if isinstance(size, str) else size for size in shape),
        )
        for name, shape in shapes.items()
    }


def remembered(
    folder: Path, graph: bytes, profiles: Sequence[Profiles], compile_it: Callable[[], GateResult]
) -> GateResult:
    """The result kept in `folder` for this graph, these profiles and this compiler, or that of `compile_it`, kept then.

    Weights lie outside a graph and do not decide whether it is taken. A refusal is not kept.
    """
    asked = msgspec.json.encode([open_tensorrt("rtx").version, list(profiles)])
    path = folder / f"{hashlib.sha256(asked + graph).hexdigest()}.json"
    if path.is_file():
        return msgspec.json.decode(path.read_bytes(), type=GateResult)
    result = compile_it()
    with atomic_path(path) as stage:
        stage.write_bytes(msgspec.json.encode(result))
    return result


def compile_gate(onnx_path: Path, *profiles: Profiles) -> GateResult:
    """Parse and compile `onnx_path` as a strongly typed network; nothing is kept.

    Each of `profiles` has every input that is not of one shape; an engine serves all of them with the same weights.
    Raises `EngineError` with the parser's or builder's own words when the graph is refused.
    """
    began_s, rtx = time.monotonic(), open_tensorrt("rtx")
    network = parse(rtx, onnx_path)
    engine = network.builder.build_serialized_network(network.native, _config(network.builder, profiles))
    if engine is None:
        raise EngineError(f"TensorRT-RTX cannot compile {onnx_path}: {problems(network.log)}")
    return GateResult(
        engine_bytes=engine.nbytes,
        seconds=time.monotonic() - began_s,
        layers=network.native.num_layers,
        tensorrt_rtx=rtx.version,
    )


# Any: the package ships no types.
def _config(builder: Any, profiles: Sequence[Profiles]) -> Any:
    config = builder.create_builder_config()
    for named in profiles:
        profile = builder.create_optimization_profile()
        for name, shapes in named.items():
            profile.set_shape(name, shapes.smallest, shapes.best, shapes.largest)
        config.add_optimization_profile(profile)
    return config
