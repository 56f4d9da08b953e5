"""ONNX Runtime: runs a bundle's ONNX files directly, on the CPU or a CUDA device.

State is bound once, to memory that stays in place, so a call allocates nothing for it. Threads do not spin between
calls, because the device has other work to do than wait for the next frame.
"""

from __future__ import annotations

import platform
import re
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native_module

from edge_sdk.bundle.manifest import Graph
from edge_sdk.bundle.onnx_axes import with_free_axes
from edge_sdk.errors import MissingDependencyError, RuntimeFailure, UnknownNameError
from edge_sdk.packages import pip_install
from edge_sdk.runtime import Array, BoundState, Feeds, Runtime, Session, SessionOptions
from edge_sdk.runtimes.cuda_device import open_cuda
from edge_sdk.runtimes.cuda_memory import Cuda
from edge_sdk.runtimes.host_rows import ROWS, RowState, row_axes, with_free_rows
from edge_sdk.runtimes.host_state import HostState
from edge_sdk.runtimes.ort_device import OrtDeviceBound
from edge_sdk.runtimes.standing_feeds import StandingFeeds
from edge_sdk.tensors import check_feeds, describe, numpy_dtype
from edge_sdk.types import Dialect, StateSpec, TensorSpec

# device of SessionOptions -> execution providers, in order of preference
PROVIDERS: dict[str, tuple[str, ...]] = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
}

_DTYPES = {"tensor(float)": "float32"} | {
    f"tensor({name})": name for name in ("float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool")
}
_FATAL_ONLY = 4
_NATIVE_RELEASE = (1, 25)
"""The first release that runs every operator of native graphs; 1.24 still lacks TensorScatter."""
_NEWER = (
    "it reads native graphs from release 1.25 on, which needs Python 3.11 or newer: pip install --upgrade "
    "'onnxruntime>=1.25', or take the bundle's decomposed graphs (export --dialect decomposed)"
)
_OWN_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    *(kind for kind in vars(native_module).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)
T = TypeVar("T")


class OrtSession:
    """One ONNX graph in an `onnxruntime.InferenceSession`. Not for use by two threads at once.

    `cuda` is the device that holds the state of a session that computes there; None for a session on the CPU. `free`
    are the axes along which calls may be shorter than `graph` declares (see `row_axes`).
    """

    engine_sha256: str | None = None

    # Any: onnxruntime ships no types.
    def __init__(
        self, label: str, native: Any, graph: Graph, cuda: Cuda | None = None, free: Mapping[str, int] | None = None
    ) -> None:
        self._label = label
        self._native = native
        self._graph = graph
        self._cuda = cuda
        self._free = dict(free or {})
        self._on_device: weakref.WeakSet[OrtDeviceBound] = weakref.WeakSet()
        self._names = [spec.name for spec in graph.outputs]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs in the manifest's order."""
        return self._graph.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs in the manifest's order."""
        return self._graph.outputs

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run once with every input given; returns every output. Raises `RuntimeFailure` for a wrong feed."""
        native = self.native()
        check_feeds(self.inputs, feeds, {})
        found = self.guarded(lambda: native.run(self._names, dict(feeds)))
        return dict(zip(self._names, found, strict=True))

    def bind_state(self, state: Sequence[StateSpec], dims: Mapping[str, int]) -> BoundState:
        """Keep the state tensors between calls, in the memory of the device that computes."""
        if self._cuda is None:
            return OrtBound(self, self._host_state(state, dims))
        bound = OrtDeviceBound(self.native, self.guarded, self._graph, state, dims, self._cuda)
        self._on_device.add(bound)
        return bound

    def _host_state(self, state: Sequence[StateSpec], dims: Mapping[str, int]) -> HostState:
        if not self._free or tuple(state) != self._graph.state:
            return HostState(self.inputs, self.outputs, state, dims)
        graph = with_free_rows(self._graph, self._free)
        first = next(spec for spec in self.inputs if spec.name == state[0].input)
        return RowState(graph.inputs, graph.outputs, state, int(first.shape[self._free[first.name]]))

    def close(self) -> None:
        """Release the graph; bound states of this session cannot run afterwards either."""
        self._native = None
        for bound in self._on_device:
            bound.release()

    def guarded(self, call: Callable[[], T]) -> T:
        """Return the result of `call`, with onnxruntime's errors raised as `RuntimeFailure`."""
        return _guarded(f"{self._label} failed", call)

    # Any: onnxruntime ships no types.
    def native(self) -> Any:
        """Return the underlying session. Raises `RuntimeFailure` if this session is closed."""
        if self._native is None:
            raise RuntimeFailure(f"{self._label}: this session is closed; open the graph again")
        return self._native


class OrtBound:
    """A session whose state tensors are bound to host buffers, with one binding for each order of swapping buffers.

    Feeds that stay the same from call to call are checked and bound once.
    """

    def __init__(self, session: OrtSession, state: HostState) -> None:
        self._session = session
        self._state = state
        self._aliased = [entry.output for entry in state.entries if entry.kind == "alias"]
        self._appended = [entry.output for entry in state.entries if entry.kind == "append"]
        self._results = [spec.name for spec in state.result_specs]
        self._bindings = [self._bind(phase) for phase in range(state.phases)]
        self._standing = [StandingFeeds(state.feed_specs, state.dims) for _ in self._bindings]
        self.reset = state.reset
        self.read = state.read
        self.write = state.write

    def limit(self, rows: int) -> int | None:
        """Limit calls to the first `rows` rows of the state.

        Returns how many rows calls get, or None where the graph does not allow a limit.
        """
        state = self._state
        if not isinstance(state, RowState):
            return None
        rows = min(rows, state.rows)
        if rows != state.dims[ROWS]:
            state.limit(rows)
            for phase, binding in enumerate(self._bindings):
                self._bind_state(binding, phase)
        return rows

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run once with the inputs that are not state; return the outputs that are not state."""
        native = self._session.native()
        binding, standing = self._bindings[self._state.phase], self._standing[self._state.phase]
        fresh, _ = standing.check(feeds)
        held = {name: np.ascontiguousarray(array) for name, array in fresh.items()}
        for name, array in held.items():
            binding.bind_cpu_input(name, array)
        standing.hold(held)
        for name in self._fresh():
            # Bound again in each call: the arrays that the last call returned belong to its caller.
            binding.bind_output(name, "cpu")
        self._session.guarded(lambda: native.run_with_iobinding(binding))
        found = dict(zip([*self._aliased, *self._fresh()], binding.get_outputs(), strict=True))
        self._state.finish(feeds, {name: found[name].numpy() for name in self._appended})
        return {name: found[name].numpy() for name in self._results}

    def _fresh(self) -> list[str]:
        return [*self._appended, *self._results]

    # Any: onnxruntime ships no types.
    def _bind(self, phase: int) -> Any:
        """Bind every state tensor. Outputs come back in the order in which they were first bound."""
        binding = self._session.native().io_binding()
        self._bind_state(binding, phase)
        return binding

    # Any: onnxruntime ships no types.
    def _bind_state(self, binding: Any, phase: int) -> None:
        for entry in self._state.entries:
            binding.bind_ortvalue_input(entry.input, _wrap(self._state.front(entry, phase)))
            if entry.kind == "alias":
                binding.bind_ortvalue_output(entry.output, _wrap(self._state.back(entry, phase)))


class OrtRuntime:
    """The installed ONNX Runtime."""

    name = "ort"

    @property
    def version(self) -> str | None:
        """The version of onnxruntime."""
        return str(onnxruntime.__version__)

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """Both dialects, or only `decomposed` for a release that lacks operators of `native`."""
        release = tuple(int(number) for number in re.findall(r"\d+", onnxruntime.__version__)[:2])
        return ("native", "decomposed") if release >= _NATIVE_RELEASE else ("decomposed",)

    def open(self, path: Path, graph: Graph, options: SessionOptions) -> Session:
        """Open the ONNX file at `path` and compare its tensors with `graph`.

        Raises `RuntimeFailure` for a file that onnxruntime refuses or whose tensors are not those of `graph`,
        `UnknownNameError` for an unknown `options.device`, and `MissingDependencyError` for one this machine lacks.
        """
        providers = _providers(options.device)
        free = row_axes(graph) if options.device == "cpu" and self.dialects[0] in graph.dialects else {}
        unread = "" if set(graph.dialects) & set(self.dialects) else f" ({_NEWER})"
        native = _guarded(
            f"onnxruntime {onnxruntime.__version__} refused {path.name}{unread}",
            lambda: _opened(path, options, providers, free),
        )
        _check_tensors(path, "input", graph.inputs, native.get_inputs())
        _check_tensors(path, "output", graph.outputs, native.get_outputs())
        cuda = None if options.device == "cpu" else _cuda(native, providers)
        return OrtSession(path.name, native, graph, cuda, free)

    def why_unbuilt(self, path: Path, options: SessionOptions) -> str | None:
        """Return None: this runtime needs no build."""
        return None

    def describe(self) -> dict[str, str]:
        """Return the version and the available execution providers."""
        return {
            "runtime": self.name,
            "onnxruntime": onnxruntime.__version__,
            "providers": ", ".join(onnxruntime.get_available_providers()),
        }


def open_runtime() -> Runtime:
    """Open ONNX Runtime."""
    return OrtRuntime()


def _guarded(what: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except _OWN_ERRORS as error:
        raise RuntimeFailure(f"{what}: {' '.join(str(error).split())}") from error


# Any: onnxruntime ships no types.
def _wrap(buffer: Array) -> Any:
    """Return an OrtValue over the buffer's own memory, without a copy."""
    value = onnxruntime.OrtValue.ortvalue_from_numpy(buffer)
    if value.data_ptr() != buffer.ctypes.data:
        raise RuntimeFailure(f"onnxruntime {onnxruntime.__version__} copied a state buffer; install a newer one")
    return value


# Any: onnxruntime ships no types.
def _native_options(options: SessionOptions) -> Any:
    native = onnxruntime.SessionOptions()
    native.intra_op_num_threads = options.threads
    native.inter_op_num_threads = 1
    native.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Bundles are checked as ONNX; by default onnxruntime guesses the format from the file's name or its bytes.
    native.add_session_config_entry("session.load_model_format", "ONNX")
    if options.float_products:
        # Without this rewriting, DequantizeLinear stays as written and the product after it is computed in floats.
        native.add_session_config_entry("session.disable_quant_qdq", "1")
    # Everything that onnxruntime would print also arrives as an exception.
    native.log_severity_level = _FATAL_ONLY
    return native


# Any: onnxruntime ships no types.
def _opened(path: Path, options: SessionOptions, providers: Sequence[str], free: Mapping[str, int]) -> Any:
    native = _native_options(options)
    if not free:
        return onnxruntime.InferenceSession(path, native, providers=list(providers))
    native.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    return onnxruntime.InferenceSession(with_free_axes(path, free, ROWS), native, providers=list(providers))


def _providers(device: str) -> tuple[str, ...]:
    if device not in PROVIDERS:
        raise UnknownNameError("device of runtime ort", device, list(PROVIDERS))
    absent = set(PROVIDERS[device]) - set(onnxruntime.get_available_providers())
    if absent:
        raise MissingDependencyError(
            f"this onnxruntime has no {', '.join(sorted(absent))}, which device {device!r} needs; "
            f"{_cuda_hint(platform.machine(), sys.version_info[:2])}"
        )
    return PROVIDERS[device]


def _cuda_hint(machine: str, python: tuple[int, int]) -> str:
    """Say how to get CUDA on such a machine, never removing an onnxruntime that cannot be replaced."""
    if machine == "aarch64" and python < (3, 11):
        return (
            f"PyPI has no onnxruntime-gpu for aarch64 and Python {python[0]}.{python[1]}: build engines with "
            "edge-sdk build and take --runtime trt, or install a wheel of onnxruntime-gpu that the board's maker gives"
        )
    return f"run: pip uninstall onnxruntime && {pip_install('cuda')}"


# Any: onnxruntime ships no types.
def _cuda(native: Any, providers: Sequence[str]) -> Cuda:
    """Return the CUDA device of a session.

    Raises `MissingDependencyError` if the provider did not load; onnxruntime itself would continue without it.
    """
    if native.get_providers()[0] != providers[0]:
        raise MissingDependencyError(
            f"onnxruntime {onnxruntime.__version__} could not load its {providers[0]}; install the CUDA and cuDNN that "
            "this version was built for (its release notes name them)"
        )
    return open_cuda()


# Any: onnxruntime ships no types.
def _check_tensors(path: Path, kind: str, specs: Sequence[TensorSpec], found: Sequence[Any]) -> None:
    """Raise `RuntimeFailure` unless the file has these tensors. A spec may fix a free dimension of the file."""
    there = {tensor.name: tensor for tensor in found}
    if there.keys() != {spec.name for spec in specs}:
        names = sorted(spec.name for spec in specs)
        raise RuntimeFailure(f"{path.name}: the manifest declares the {kind}s {names}, the file has {sorted(there)}")
    for spec in specs:
        tensor = there[spec.name]
        numpy_dtype(spec)
        same = _DTYPES.get(tensor.type) == spec.dtype and len(tensor.shape) == len(spec.shape)
        if not same or any(isinstance(b, int) and a != b for a, b in zip(spec.shape, tensor.shape, strict=True)):
            raise RuntimeFailure(
                f"{path.name}: the manifest declares {kind} {spec.name!r} as {describe(spec)}, "
                f"the file has {tensor.type} {tensor.shape}"
            )
