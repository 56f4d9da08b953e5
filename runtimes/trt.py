"""TensorRT: runs the engine that was built for a bundle's graph; state stays in device memory.

A call copies its feeds to the device, runs, appends rows and copies results back, all queued on the session's own
stream, and waits once. The options `threads` and `device` have no effect here: the device is the first GPU.
TensorRT-RTX differs only in its package (`runtimes/rtx.py`).

Not yet run on a board: loading, running and timing an engine. The logic for profiles, bindings, capture and copies is
tested with host memory in place of the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path

from edge_sdk.bundle.manifest import Graph
from edge_sdk.engine import KERNELS_SUFFIX, EngineCache, Wanted, default_cache, graph_hashes, graph_name
from edge_sdk.engine.tensorrt_library import Flavour, TensorRT, open_tensorrt, problem_log
from edge_sdk.errors import RuntimeFailure
from edge_sdk.hardware.cuda import CudaDevice, cuda_device
from edge_sdk.runtime import Array, BoundState, Feeds, Runtime, Session, SessionOptions
from edge_sdk.runtimes.cuda_device import bindings_version, open_cuda
from edge_sdk.runtimes.cuda_memory import Arena, Cuda
from edge_sdk.runtimes.rtx_kernels import Kernels
from edge_sdk.runtimes.trt_call import Call
from edge_sdk.runtimes.trt_engine import Loaded, check_tensors, deserialize, host_tensors, profile_ranges
from edge_sdk.runtimes.trt_lane import Lane, create_context
from edge_sdk.types import Dialect, StateSpec, TensorSpec


class TrtSession:
    """One engine with a context for each of its profiles. Not for use by two threads at once.

    `kernels` is where TensorRT-RTX keeps the kernels that it makes.
    """

    def __init__(self, loaded: Loaded, graph: Graph, cuda: Cuda, kernels: Path | None = None) -> None:
        check_tensors(loaded.label, graph, loaded.engine)
        self.graph, self.cuda = graph, cuda
        self.ranges, self.hosted = profile_ranges(graph, loaded.engine), host_tensors(loaded.engine)
        self.engine_sha256 = loaded.sha256
        self._label, self._mark = loaded.label, _marker()
        arena = Arena(cuda, self)
        self._releases = [arena.release]
        self.stream = arena.stream()
        self._kernels = Kernels(loaded, kernels) if loaded.tensorrt.flavour == "rtx" else None
        strategy = loaded.tensorrt.module.ExecutionContextAllocationStrategy.USER_MANAGED
        how = self._kernels.config if self._kernels else strategy
        size = loaded.engine.device_memory_size_v2
        scratch = arena.device(size)
        self._lanes = [
            Lane(loaded, create_context(loaded, how, scratch, size), index, ranges, cuda, self.stream)
            for index, ranges in enumerate(self.ranges)
        ]
        self._lanes.sort(key=Lane.volume)
        self._plain: Call | None = None
        self._closed = False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs in the manifest's order."""
        return self.graph.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs in the manifest's order."""
        return self.graph.outputs

    @property
    def allocations(self) -> int:
        """Device and pinned allocations so far, by any session on this device; constant once all are warm."""
        return self.cuda.allocations

    @property
    def captured(self) -> dict[str, str]:
        """For each profile, named by its lengths: how many CUDA graphs were captured, or why there is none."""
        return {lane.words: str(lane.graphs) if lane.graphs else lane.why_uncaptured or "0" for lane in self._lanes}

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run once with every input given; returns every output. Raises `RuntimeFailure` for a wrong feed."""
        self.check_open()
        if self._plain is None:
            self._plain = self._call((), {})
        return self.marked(self._plain, feeds)

    def bind_state(self, state: Sequence[StateSpec], dims: Mapping[str, int]) -> BoundState:
        """Keep the state tensors in device memory between calls."""
        self.check_open()
        return TrtBound(self, self._call(state, dims))

    def close(self) -> None:
        """Release the engine and all memory of this session, including its bound states."""
        self._closed = True
        for lane in self._lanes:
            lane.forget()
        if self._kernels is not None:
            self._kernels.keep()
        self._lanes, self._plain, self._kernels = [], None, None
        while self._releases:
            self._releases.pop()()

    def lane(self, dims: Mapping[str, int]) -> Lane:
        """Return the context of the smallest profile that accepts these lengths.

        Raises `RuntimeFailure` if no profile does.
        """
        for lane in self._lanes:
            if lane.serves(dims):
                return lane
        known = " or ".join(lane.words for lane in self._lanes)
        more = f" --streams {dims['streams']}" if "streams" in dims else ""
        raise RuntimeFailure(
            f"{self._label}: no profile of the engine takes {dict(dims)}; it was built for {known}; "
            f"feed it less at a time, or build it with larger limits: edge-sdk build --bundle BUNDLE{more}"
        )

    def marked(self, call: Call, feeds: Feeds) -> dict[str, Array]:
        """Run `call` inside an NVTX range."""
        with self._mark(self._label):
            return call.run(feeds)

    def check_open(self) -> None:
        """Raise `RuntimeFailure` if this session is closed."""
        if self._closed:
            raise RuntimeFailure(f"{self._label}: this session is closed; open the graph again")

    def _call(self, state: Sequence[StateSpec], dims: Mapping[str, int]) -> Call:
        call = Call(self, state, dims)
        self._releases.append(call.release)
        return call


class TrtBound:
    """A session whose state tensors are in device memory."""

    def __init__(self, session: TrtSession, call: Call) -> None:
        self._session, self._call = session, call

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run once with the inputs that are not state; return the outputs that are not state."""
        self._session.check_open()
        return self._session.marked(self._call, feeds)

    def limit(self, rows: int) -> int | None:
        """Return None: a call always gets every row."""
        return None

    def reset(self) -> None:
        """Set every state tensor to zero."""
        self._session.check_open()
        self._call.state.reset()

    def read(self, name: str) -> Array:
        """Return a copy of the state input `name` as the next call will see it."""
        self._session.check_open()
        return self._call.state.read(name)

    def write(self, name: str, value: Array) -> None:
        """Replace the state input `name`. Raises `RuntimeFailure` for another shape or dtype."""
        self._session.check_open()
        self._call.state.write(name, value)


class TrtRuntime:
    """The installed TensorRT, on the first GPU."""

    def __init__(self, tensorrt: TensorRT, device: CudaDevice) -> None:
        self.name: str = tensorrt.flavour
        self._tensorrt, self._device = tensorrt, device

    @property
    def version(self) -> str | None:
        """The version of TensorRT."""
        return self._tensorrt.version

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """The one dialect that this version parses. Raises `ConfigError` for a TensorRT that is too old."""
        return (self._tensorrt.dialect,)

    def open(self, path: Path, graph: Graph, options: SessionOptions) -> Session:
        """Open the engine that was built for the ONNX file at `path`, and compare its tensors with `graph`.

        Raises `EngineError` if no engine fits this graph, TensorRT, GPU and driver, or if TensorRT refuses the engine;
        `RuntimeFailure` for a missing file, a dialect that this TensorRT does not read, tensors that differ from
        `graph`, or too little memory; `ConfigError` for a TensorRT that is too old; `MissingDependencyError` without
        CUDA.
        """
        if not path.is_file():
            raise RuntimeFailure(f"no graph file at {path}")
        if self._tensorrt.dialect not in graph.dialects:
            raise RuntimeFailure(
                f"{path.name} uses {' and '.join(graph.dialects)} operators, but TensorRT {self._tensorrt.version} "
                f"reads {self._tensorrt.dialect} graphs; open that one, or export the bundle with it"
            )
        engine_path, record = _cache(options).usable(self._wanted(path), options.engine)
        cuda = open_cuda()
        log = problem_log(self._tensorrt)
        device = self._device
        where = f"{device.name} (sm_{device.sm}, CUDA {device.driver})"
        engine = deserialize(engine_path, self._tensorrt, log, where)
        loaded = Loaded(path.name, self._tensorrt, engine, log, record.sha256)
        return TrtSession(loaded, graph, cuda, engine_path.with_suffix(KERNELS_SUFFIX))

    def why_unbuilt(self, path: Path, options: SessionOptions) -> str | None:
        """Return why no engine fits the graph, this TensorRT, GPU and driver; None if one does."""
        return _cache(options).why_none(self._wanted(path), options.engine)

    def describe(self) -> dict[str, str]:
        """Return versions, device and driver."""
        return {
            "runtime": self.name,
            self._tensorrt.module.__name__: self._tensorrt.version,
            "cuda-bindings": bindings_version(),
            "device": f"{self._device.name} (sm_{self._device.sm})",
            "driver": f"CUDA {self._device.driver}",
        }

    def _wanted(self, path: Path) -> Wanted:
        graph_sha256, weights_sha256 = graph_hashes(path)
        device, tensorrt = self._device, self._tensorrt
        return Wanted(
            graph=graph_name(path),
            graph_sha256=graph_sha256,
            weights_sha256=weights_sha256,
            flavour=tensorrt.flavour,
            version=tensorrt.version,
            sm=device.sm,
            multiprocessors=device.multiprocessors,
            driver=device.driver,
        )


def open_runtime(flavour: Flavour = "trt") -> Runtime:
    """Open the installed TensorRT.

    Raises `MissingDependencyError` if the package, `cuda-bindings`, the driver or a device is missing.
    """
    tensorrt = open_tensorrt(flavour)
    bindings_version()
    return TrtRuntime(tensorrt, cuda_device())


def _cache(options: SessionOptions) -> EngineCache:
    return EngineCache(options.engines) if options.engines else default_cache()


def _marker() -> Callable[[str], AbstractContextManager[object]]:
    """Return a function that opens a named range for NVIDIA's profilers; a no-op unless `nvtx` is installed."""
    try:
        nvtx = import_module("nvtx")
    except ModuleNotFoundError:
        return nullcontext
    return lambda name: nvtx.annotate(name, domain="edge-sdk")
