"""A TensorRT engine whose kernels are ONNX Runtime, on the memory of a `HostCuda`.

Methods, parameters and enumerations are those of the package; `test_trt_bindings.py` holds the runtime's calls to the
real signatures. As with TensorRT a shape outside the profile is refused; so is a call without addresses, one whose
cache is written elsewhere than it is read, and one that is captured before the context was used with its shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from host_cuda import RUBBISH, HostCuda

from edge_sdk.bundle.manifest import Graph
from edge_sdk.tensors import numpy_dtype, shape_of
from edge_sdk.types import TensorSpec

Profile = Mapping[str, tuple[int, int, int]]
SCRATCH_BYTES = 4096


class HostEngine:
    """An engine for `graph` with `profiles`: smallest, best and largest length of each free dimension."""

    def __init__(
        self,
        module: Any,
        path: Path,
        graph: Graph,
        profiles: Sequence[Profile],
        cuda: HostCuda,
        hosted: Sequence[str] = (),
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self.native = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.module, self.graph, self.profiles, self.cuda = module, graph, profiles, cuda
        self.specs = {spec.name: spec for spec in (*graph.inputs, *graph.outputs)}
        self.hosted = hosted
        self.contexts: list[HostContext] = []
        self.num_io_tensors = len(self.specs)
        self.num_optimization_profiles = len(profiles)
        self.device_memory_size_v2 = SCRATCH_BYTES

    def get_tensor_name(self, index: int) -> str:
        return list(self.specs)[index]

    def get_tensor_mode(self, name: str) -> Any:
        mode = self.module.TensorIOMode
        return mode.INPUT if name in {spec.name for spec in self.graph.inputs} else mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        kinds = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16"}
        dtype = self.specs[name].dtype
        return getattr(self.module.DataType, kinds.get(dtype, dtype.upper()))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(-1 if isinstance(length, str) else length for length in self.specs[name].shape)

    def get_tensor_location(self, name: str) -> Any:
        location = self.module.TensorLocation
        return location.HOST if name in self.hosted else location.DEVICE

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        lengths, shape = self.profiles[profile_index], self.specs[name].shape
        return [tuple(lengths[d][size] if isinstance(d, str) else d for d in shape) for size in range(3)]

    def create_runtime_config(self) -> HostRuntimeConfig:
        return HostRuntimeConfig()

    def create_execution_context(self, strategy: Any) -> HostContext:
        """By a strategy, or by a configuration that has one, as the package overloads it."""
        if isinstance(strategy, HostRuntimeConfig):
            assert strategy.cuda_graph_strategy == self.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            assert strategy.cache is not None
            strategy.cache.kernels += b"kernel"
            strategy = strategy.strategy
        assert strategy == self.module.ExecutionContextAllocationStrategy.USER_MANAGED
        self.contexts.append(HostContext(self))
        return self.contexts[-1]


class HostRuntimeConfig:
    """A configuration of TensorRT-RTX."""

    def __init__(self) -> None:
        self.strategy: Any = None
        self.cuda_graph_strategy: Any = None
        self.cache: HostRuntimeCache | None = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> HostRuntimeCache:
        return HostRuntimeCache()

    def set_runtime_cache(self, cache: HostRuntimeCache) -> bool:
        self.cache = cache
        return True


class HostRuntimeCache:
    """Kernels as bytes, refused where they do not begin as this GPU's do."""

    def __init__(self) -> None:
        self.kernels = b"here:"

    def deserialize(self, blob: bytes) -> bool:
        if blob.startswith(b"here:"):
            self.kernels = blob
        return blob.startswith(b"here:")

    def serialize(self) -> bytes:
        return self.kernels


class HostContext:
    """One execution context of a `HostEngine`. `runs` counts the calls that were queued, captured ones included."""

    def __init__(self, engine: HostEngine) -> None:
        self.engine = engine
        self.profile: int | None = None
        self.runs = 0
        self.dims: dict[str, int] = {}
        self.addresses: dict[str, int] = {}
        self._scratch: tuple[int, int] | None = None
        self._used = False

    def set_device_memory(self, memory: int, size: int) -> None:
        self._scratch = memory, size

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self.profile = profile_index
        return 0 <= profile_index < len(self.engine.profiles)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile is not None
        lengths = self.engine.profiles[self.profile]
        for dim, length in zip(self.engine.specs[name].shape, shape, strict=True):
            if isinstance(dim, str):
                if not lengths[dim][0] <= length <= lengths[dim][2]:
                    return False
                self.dims[dim] = length
        self._used = False
        return True

    def infer_shapes(self) -> list[str]:
        if not all(name in self.addresses for name in self.engine.hosted):
            return list(self.engine.hosted)
        return [spec.name for spec in self.engine.graph.inputs if not self._known(spec)]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return shape_of(self.engine.specs[name], self.dims)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return memory != 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        cuda, captured = self.engine.cuda, self.engine.cuda.capturing is not None
        ready = self._scratch is not None and self.addresses.keys() == self.engine.specs.keys()
        if not ready or self.infer_shapes() or (captured and not self._used) or not self._in_place():
            return False
        self._used = True
        self.runs += 1
        addresses, dims = dict(self.addresses), dict(self.dims)
        cuda.queue(stream_handle, lambda: self._compute(addresses, dims))
        return True

    def _compute(self, addresses: Mapping[str, int], dims: Mapping[str, int]) -> None:
        assert self._scratch is not None
        cuda, graph = self.engine.cuda, self.engine.graph
        address, size = self._scratch
        cuda.view(address, np.dtype(np.uint8), (size,))[...] = RUBBISH
        views = {
            name: cuda.view(addresses[name], numpy_dtype(spec), shape_of(spec, dims))
            for name, spec in self.engine.specs.items()
        }
        feeds = {spec.name: views[spec.name].copy() for spec in graph.inputs}
        names = [spec.name for spec in graph.outputs]
        for name, value in zip(names, self.engine.native.run(names, feeds), strict=True):
            views[name][...] = value

    def _in_place(self) -> bool:
        """Whether a cache that the graph writes itself is one memory, as TensorRT's cache layer wants it."""
        entries = [entry for entry in self.engine.graph.state if entry.kind == "alias" and entry.index is not None]
        return all(self.addresses[entry.input] == self.addresses[entry.output] for entry in entries)

    def _known(self, spec: TensorSpec) -> bool:
        return all(isinstance(length, int) or length in self.dims for length in spec.shape)
