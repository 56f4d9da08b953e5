"""Every use of TensorRT's API, held to the real bindings of each version that is served.

What the sources use is read from their syntax and must be exactly what stands in `USED` ("" is the class itself), so
nothing is called that was not looked up; and each of it must be offered by each version, but for `ABSENT`.
"""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path

import pytest
from api_calls import Use, uses
from host_engine import HostContext, HostEngine, HostRuntimeCache, HostRuntimeConfig
from trt_bindings import VERSIONS, Offer, Signature, offer

ROOT = Path(__file__).parents[2]
RUN = {"module": "", "engine": "ICudaEngine", "runtime": "Runtime", "context": "IExecutionContext"}
RUN |= {"_context": "IExecutionContext", "config": "IRuntimeConfig", "_kernels": "IRuntimeCache"}
BUILD = {"module": "", "builder": "Builder", "native": "INetworkDefinition", "parser": "OnnxParser"}
BUILD |= {"config": "IBuilderConfig", "profile": "IOptimizationProfile", "layer": "ILayer", "attention": "IAttention"}
# source -> what its variables are
SOURCES: dict[str, dict[str, str]] = {
    "edge_sdk/engine/tensorrt_library.py": {"module": "", "base": "ILogger"},
    "runtimes/trt.py": {name: kind for name, kind in RUN.items() if name not in ("config", "_kernels")},
    "runtimes/trt_call.py": RUN,
    "runtimes/trt_engine.py": RUN,
    "runtimes/trt_lane.py": RUN,
    "runtimes/rtx.py": RUN,
    "runtimes/rtx_kernels.py": RUN,
    "export/build.py": BUILD,
    "export/build_monitor.py": {"module": "", "base": "IProgressMonitor"},
    "export/trt_network.py": BUILD,
    "export/gate.py": BUILD | {"engine": "IHostMemory"},
    "benchmarks/campaign/rtx.py": {"module": "", "runtime": "Runtime"},
}
# how a layer becomes one of its kind
CASTS = {"ILayer.attention": "IAttentionInputLayer.attention"}

USED: dict[str, set[str]] = {
    "Builder": {
        "",
        "build_serialized_network",
        "create_builder_config",
        "create_network",
        "create_optimization_profile",
    },
    "BuilderFlag": {"TF32"},
    "ComputeCapability": {""},
    "CudaGraphStrategy": {"WHOLE_GRAPH_CAPTURE"},
    "EngineInvalidityDiagnostics": {""},
    "ExecutionContextAllocationStrategy": {"USER_MANAGED"},
    "IAttention": {"decomposable"},
    "IAttentionInputLayer": {"", "attention"},
    "IBuilderConfig": {
        "add_optimization_profile",
        "builder_optimization_level",
        "clear_flag",
        "create_timing_cache",
        "get_timing_cache",
        "num_compute_capabilities",
        "progress_monitor",
        "set_compute_capability",
        "set_memory_pool_limit",
        "set_timing_cache",
    },
    "ICudaEngine": {
        "create_execution_context",
        "create_runtime_config",
        "device_memory_size_v2",
        "get_tensor_dtype",
        "get_tensor_location",
        "get_tensor_mode",
        "get_tensor_name",
        "get_tensor_profile_shape",
        "get_tensor_shape",
        "num_io_tensors",
        "num_optimization_profiles",
    },
    "IExecutionContext": {
        "execute_async_v3",
        "get_tensor_shape",
        "infer_shapes",
        "set_device_memory",
        "set_input_shape",
        "set_optimization_profile_async",
        "set_tensor_address",
    },
    "IHostMemory": {"nbytes"},
    "ILayer": {"get_input", "type"},
    "ILogger": {"", "Severity.ERROR", "Severity.INTERNAL_ERROR"},
    "INetworkDefinition": {"get_layer", "num_layers"},
    "IOptimizationProfile": {"set_shape"},
    "IProgressMonitor": {""},
    "IRuntimeCache": {"deserialize", "serialize"},
    "IRuntimeConfig": {
        "create_runtime_cache",
        "cuda_graph_strategy",
        "set_execution_context_allocation_strategy",
        "set_runtime_cache",
    },
    "LayerType": {""},
    "MemoryPoolType": {"WORKSPACE"},
    "NetworkDefinitionCreationFlag": {"STRONGLY_TYPED"},
    "OnnxParser": {"", "get_error", "num_errors", "parse_from_file"},
    "Runtime": {"", "deserialize_cuda_engine", "get_engine_validity"},
    "float32": {""},
}

# TensorRT-RTX compiles for GPUs that are not there, and captures CUDA graphs by itself; asked of that flavour alone
RTX_ONLY = {
    "ComputeCapability",
    "CudaGraphStrategy.WHOLE_GRAPH_CAPTURE",
    "EngineInvalidityDiagnostics",
    "IRuntimeCache.deserialize",
    "IRuntimeCache.serialize",
    "IRuntimeConfig.create_runtime_cache",
    "IRuntimeConfig.set_runtime_cache",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "IRuntimeConfig.cuda_graph_strategy",
    "Runtime.get_engine_validity",
}
# Attention layers came with 10.14, runtime configurations after 10.3: one is looked for, the other is RTX's way alone
AFTER_10_3 = {
    "IAttention.decomposable",
    "IAttentionInputLayer",
    "IAttentionInputLayer.attention",
    "ICudaEngine.create_runtime_config",
    "IRuntimeConfig.set_execution_context_allocation_strategy",
}
ABSENT: dict[str, set[str]] = {
    "10.3.0": RTX_ONLY | AFTER_10_3,
    "10.16.1.11": RTX_ONLY,
    "11.4.0.106": RTX_ONLY,
    "rtx": set(),
}


DOUBLES = (
    (HostEngine, "ICudaEngine"),
    (HostContext, "IExecutionContext"),
    (HostRuntimeConfig, "IRuntimeConfig"),
    (HostRuntimeCache, "IRuntimeCache"),
)


def looked_up() -> set[str]:
    return {f"{kind}.{name}".rstrip(".") for kind, names in USED.items() for name in names}


@cache
def used() -> tuple[Use, ...]:
    found = [use for source, kinds in SOURCES.items() for use in uses(ROOT / source, kinds)]
    return tuple(use._replace(path=CASTS.get(use.path, use.path)) for use in found)


def called(offered: Offer, path: str) -> tuple[Signature, ...] | None:
    """How `path` may be called; a class is called as its constructor."""
    return offered[path] if offered.get(path) is not None else offered.get(f"{path}.__init__")


def test_no_source_is_forgotten() -> None:
    there = {f"runtimes/{path.name}" for path in (ROOT / "runtimes").glob("trt*.py")}
    there |= {
        f"export/{path.name}" for kind in ("build", "trt", "gate") for path in (ROOT / "export").glob(f"{kind}*.py")
    }
    words = ("tensorrt", "trt.")
    speaking = {name for name in there if any(word in (ROOT / name).read_text() for word in words)}
    assert speaking <= SOURCES.keys()


def test_what_is_used_is_what_was_looked_up() -> None:
    assert {use.path for use in used()} == looked_up()


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_offers_what_is_used(version: str) -> None:
    offered = offer(version)
    assert {path for path in looked_up() if path not in offered} == ABSENT[version]


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_takes_the_arguments_that_are_given(version: str) -> None:
    offered = offer(version)
    refused = []
    for use in used():
        ways = called(offered, use.path) if use.called and use.path in offered else None
        if ways is not None and not any(way.takes(use.positional, use.keywords) for way in ways):
            refused.append((use, ways))
    assert refused == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_engine_of_the_tests_has_the_real_signatures(version: str) -> None:
    """Method for method, parameter for parameter: what runs on the double would be taken by the package."""
    offered = offer(version)
    for double, name in DOUBLES:
        methods = {key: value for key, value in vars(double).items() if inspect.isfunction(value) and key[0] != "_"}
        assert methods
        for method, function in methods.items():
            if f"{name}.{method}" in ABSENT[version]:
                continue
            mine = tuple(inspect.signature(function).parameters)[1:]
            ways = offered[f"{name}.{method}"]
            assert ways is not None
            assert mine in {way.parameters[: len(mine)] for way in ways}, (method, ways)


def test_a_wrong_use_is_found(tmp_path: Path) -> None:
    """The checks above can fail: of four calls three are wrong, each in another way."""
    source = tmp_path / "source.py"
    source.write_text(
        "engine.get_tensor_shape(1)\nengine.get_tensor_shape()\nengine.get_tensor_shape(nam=1)\nengine.get_shape(1)\n"
    )
    offered: Offer = {"ICudaEngine.get_tensor_shape": (Signature(("name",), 1),)}
    found = list(uses(source, RUN))
    assert [use.path in offered for use in found] == [True, True, True, False]
    ways = offered["ICudaEngine.get_tensor_shape"]
    assert ways is not None
    assert [ways[0].takes(use.positional, use.keywords) for use in found[:3]] == [True, False, False]
