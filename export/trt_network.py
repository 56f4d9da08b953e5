"""A graph as TensorRT's own network, and the configuration to build it with.

Networks are strongly typed: the graph alone says where a number is rounded, so that what was measured on the
workstation is what runs on the board.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.bundle.manifest import Graph
from edge_sdk.engine.shapes import ShapeProfile, input_shapes
from edge_sdk.engine.tensorrt_library import TensorRT, problem_log, problems
from edge_sdk.errors import ConfigError, EngineError

# Head sizes that attention has kernels of its own for.
_FUSED_HEADS = range(16, 257, 8)


# Any, here and below: the packages ship no types.
@dataclass(frozen=True)
class Network:
    """A parsed graph. The builder and the parser are kept, for the network lives in them."""

    builder: Any
    native: Any
    parser: Any
    log: Any


def parse(tensorrt: TensorRT, path: Path) -> Network:
    """Parse the ONNX file at `path`. Raises `EngineError` with the parser's own words."""
    module, log = tensorrt.module, problem_log(tensorrt)
    builder = module.Builder(log)
    native = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = module.OnnxParser(native, log)
    if not parser.parse_from_file(str(path)):
        reasons = [str(parser.get_error(index)) for index in range(parser.num_errors)]
        told = "; ".join(reasons) or problems(log)
        raise EngineError(f"TensorRT {tensorrt.version} cannot parse {path}: {told}; {_remedy(tensorrt)}")
    _allow_slow_attention(module, native)
    return Network(builder=builder, native=native, parser=parser, log=log)


def add_profiles(network: Network, config: Any, graph: Graph, profiles: Sequence[ShapeProfile]) -> None:
    """Give `config` one optimisation profile for each of `profiles`, in their order.

    Raises `EngineError` where TensorRT does not take one.
    """
    for each in profiles:
        profile = network.builder.create_optimization_profile()
        for name, (smallest, best, largest) in input_shapes(graph, each).items():
            profile.set_shape(name, smallest, best, largest)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"TensorRT refuses the profile {each.name!r}: {problems(network.log)}")


def compute_capabilities(module: Any) -> dict[int, Any]:
    """The compute capabilities times ten that TensorRT-RTX compiles for, and what it calls them."""
    return {int(name[2:]): each for name, each in module.ComputeCapability.__members__.items() if name[2:].isdigit()}


def compile_for(module: Any, config: Any, sm: int | None) -> None:
    """Let TensorRT-RTX compile for one kind of GPU; without, the engine serves all that it knows.

    Raises `ConfigError` for one that it does not know.
    """
    if sm is None:
        return
    known = compute_capabilities(module)
    if sm not in known:
        raise ConfigError(
            f"TensorRT-RTX {module.__version__} does not compile for sm_{sm}; it knows "
            f"{', '.join(f'sm_{each}' for each in sorted(known))}; build on the device with --runtime trt"
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[sm], 0)


def _remedy(tensorrt: TensorRT) -> str:
    return f"it reads {tensorrt.dialect} graphs: export the bundle with that dialect"


def _allow_slow_attention(module: Any, native: Any) -> None:
    """Let attention that no fused kernel computes be built from smaller steps: float32, and unusual head sizes.

    Elsewhere it stays strict, so that a slow decoder is refused and not discovered (TensorRT, "Multi-Head Attention
    Fusion": float16 and bfloat16, heads of 16 to 256 in multiples of 8).
    """
    kind = getattr(module.LayerType, "ATTENTION_INPUT", None)
    for index in range(native.num_layers if kind is not None else 0):
        layer = native.get_layer(index)
        if layer.type != kind:
            continue
        query = layer.get_input(0)
        fused = query.dtype != module.float32 and query.shape[-1] in _FUSED_HEADS
        if not fused:
            layer.__class__ = module.IAttentionInputLayer  # how the package casts a layer to its kind
            layer.attention.decomposable = True
