"""Check without a GPU that TensorRT accepts a graph, using TensorRT-RTX's ahead-of-time compiler.

TensorRT-RTX parses and compiles on a CPU; only running needs a device. So a graph that its parser or builder would
refuse on a board is refused in CI.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edge_sdk.bundle.manifest import Graph
from edge_sdk.engine.shapes import ShapeProfile
from edge_sdk.engine.tensorrt_library import open_tensorrt, problems
from edge_sdk.errors import EngineError
from edge_sdk.export.trt_network import add_profiles, compile_for, parse
from edge_sdk.files import atomic_path
from edge_sdk.types import Value


class GateResult(Value, frozen=True, kw_only=True):
    """Result of compiling a graph: the engine's size, the time taken, and the compiler's version."""

    engine_bytes: int
    seconds: float
    layers: int
    tensorrt_rtx: str


def remembered(
    folder: Path,
    graph: bytes,
    profiles: Sequence[ShapeProfile],
    compile_it: Callable[[], GateResult],
    sm: int | None = None,
) -> GateResult:
    """The result cached in `folder` for this graph, these profiles and this compiler; else call `compile_it`, cache it.

    `sm` as in `compile_gate`. The key leaves out the weights, which lie outside the graph and do not decide whether it
    is accepted. A refusal is not cached.
    """
    asked = msgspec.json.encode([open_tensorrt("rtx").version, list(profiles), *([sm] if sm else [])])
    path = folder / f"{hashlib.sha256(asked + graph).hexdigest()}.json"
    if path.is_file():
        return msgspec.json.decode(path.read_bytes(), type=GateResult)
    result = compile_it()
    with atomic_path(path) as stage:
        stage.write_bytes(msgspec.json.encode(result))
    return result


def compile_gate(onnx_path: Path, graph: Graph, profiles: Sequence[ShapeProfile], sm: int | None = None) -> GateResult:
    """Parse and compile `onnx_path` as a strongly typed network; nothing is kept.

    `graph` is the manifest's entry for it. `profiles` come from `engine.shapes.shape_profiles`, as for a real engine;
    one engine serves all of them with the same weights. `sm` is the target GPU's compute capability times ten, None
    for all GPUs that the compiler serves by default. Raises `EngineError` with the parser's or builder's own words when
    the graph is refused, `ConfigError` for an `sm` that the compiler does not know.
    """
    began_s, rtx = time.monotonic(), open_tensorrt("rtx")
    network = parse(rtx, onnx_path)
    config = network.builder.create_builder_config()
    compile_for(rtx.module, config, sm)
    add_profiles(network, config, graph, profiles)
    engine = network.builder.build_serialized_network(network.native, config)
    if engine is None:
        raise EngineError(f"TensorRT-RTX cannot compile {onnx_path}: {problems(network.log)}")
    return GateResult(
        engine_bytes=engine.nbytes,
        seconds=time.monotonic() - began_s,
        layers=network.native.num_layers,
        tensorrt_rtx=rtx.version,
    )
