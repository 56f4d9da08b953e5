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
import tensorrt_rtx as trt

from edge_sdk.errors import RuntimeFailure
from edge_sdk.files import atomic_path
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
    asked = msgspec.json.encode([trt.__version__, list(profiles)])
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
    Raises `RuntimeFailure` with the parser's or builder's own words when the graph is refused.
    """
    began_s = time.monotonic()
    log = _Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx_path)):
        reasons = [str(parser.get_error(index)) for index in range(parser.num_errors)]
        raise RuntimeFailure(f"TensorRT-RTX cannot parse {onnx_path}: {'; '.join(reasons)}")
    _allow_float32_attention(network)
    plan = builder.build_serialized_network(network, _config(builder, profiles))
    if plan is None:
        raise RuntimeFailure(f"TensorRT-RTX cannot compile {onnx_path}: {'; '.join(log.problems)}")
    return GateResult(
        engine_bytes=plan.nbytes,
        seconds=time.monotonic() - began_s,
        layers=network.num_layers,
        tensorrt_rtx=trt.__version__,
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


# Any: the package ships no types.
def _allow_float32_attention(network: Any) -> None:
    """Let float32 attention, which no fused kernel computes, be built from smaller steps; other types stay strict."""
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.ATTENTION_INPUT and layer.get_input(0).dtype == trt.float32:
            layer.__class__ = trt.IAttentionInputLayer  # how the package casts a layer to its kind
            layer.attention.decomposable = True


class _Log(trt.ILogger):  # type: ignore[misc]  # the package ships no types
    """Keeps what goes wrong, so that an error can say it."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        if severity <= trt.ILogger.Severity.ERROR:
            self.problems.append(message)
