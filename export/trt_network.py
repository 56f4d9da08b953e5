"""Parse a graph into a TensorRT network, and configure its build.

Networks are strongly typed: only the graph decides where a number is rounded, so that the board runs what was measured
on the workstation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.bundle.manifest import Graph
from edge_sdk.engine.shapes import ShapeProfile, input_shapes
from edge_sdk.engine.tensorrt_library import ProblemLog, TensorRT, problem_log, problems
from edge_sdk.errors import ConfigError, EngineError

# Head sizes for which TensorRT has fused attention kernels.
_FUSED_HEADS = range(16, 257, 8)


# Any, here and below: the packages ship no types.
@dataclass(frozen=True)
class Network:
    """A parsed graph. The builder and the parser are kept alive, because the network depends on them.

    `strict` is the number of attention layers that may only be built with a fused kernel.
    """

    builder: Any
    native: Any
    parser: Any
    log: ProblemLog
    strict: int


def parse(tensorrt: TensorRT, path: Path, *, slow_attention: bool = False) -> Network:
    """Parse the ONNX file at `path`; with `slow_attention`, no attention layer needs a fused kernel.

    Raises `EngineError` with the parser's own words.
    """
    module, log = tensorrt.module, problem_log(tensorrt)
    builder = module.Builder(log.logger)
    native = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = module.OnnxParser(native, log.logger)
    if not parser.parse_from_file(str(path)):
        reasons = [str(parser.get_error(index)) for index in range(parser.num_errors)]
        told = "; ".join(reasons) or problems(log)
        raise EngineError(f"TensorRT {tensorrt.version} cannot parse {path}: {told}; {_remedy(tensorrt)}")
    strict = _allow_slow_attention(module, native, everywhere=slow_attention)
    return Network(builder=builder, native=native, parser=parser, log=log, strict=strict)


def add_profiles(network: Network, config: Any, graph: Graph, profiles: Sequence[ShapeProfile]) -> None:
    """Give `config` one optimisation profile for each of `profiles`, in their order.

    Raises `EngineError` where TensorRT does not accept a profile.
    """
    for each in profiles:
        profile = network.builder.create_optimization_profile()
        for name, (smallest, best, largest) in input_shapes(graph, each).items():
            profile.set_shape(name, smallest, best, largest)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"TensorRT refuses the profile {each.name!r}: {problems(network.log)}")


def compute_capabilities(module: Any) -> dict[int, Any]:
    """The compute capabilities, times ten, that TensorRT-RTX compiles for, with its own constant for each."""
    return {int(name[2:]): each for name, each in module.ComputeCapability.__members__.items() if name[2:].isdigit()}


def compile_for(module: Any, config: Any, sm: int | None) -> None:
    """Let TensorRT-RTX compile for the GPU of `sm`; None leaves its default, an engine for all GPUs that it knows.

    Raises `ConfigError` for an `sm` that it does not know.
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


def _allow_slow_attention(module: Any, native: Any, *, everywhere: bool) -> int:
    """Let attention without a fused kernel (float32, unusual head sizes) be built from smaller steps, or all of it.

    All other attention stays strict, so that a slow decoder is not built unnoticed (TensorRT, "Multi-Head Attention
    Fusion": float16 and bfloat16, heads of 16 to 256 in multiples of 8). Returns the number of strict layers.
    """
    strict = 0
    kind = getattr(module.LayerType, "ATTENTION_INPUT", None)
    for index in range(native.num_layers if kind is not None else 0):
        layer = native.get_layer(index)
        if layer.type != kind:
            continue
        query = layer.get_input(0)
        fused = query.dtype != module.float32 and query.shape[-1] in _FUSED_HEADS
        if fused and not everywhere:
            strict += 1
            continue
        layer.__class__ = module.IAttentionInputLayer  # how the package casts a layer to its kind
        layer.attention.decomposable = True
    return strict
