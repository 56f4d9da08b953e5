"""A board with TensorRT, of doubles: `edge-sdk build` and the runtime `trt` work on it as on a real one.

The builder writes down what it was asked for, and that is the engine: opened, it is ONNX Runtime on host memory
(`host_engine.py`). What chooses, keeps, finds and compares engines is real.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from host_cuda import HostCuda
from host_engine import HostEngine
from trt_doubles import module

from edge_sdk.bundle.manifest import Graph
from edge_sdk.engine.shapes import ShapeProfile
from edge_sdk.engine.tensorrt_library import TensorRT
from edge_sdk.hardware.cuda import CudaDevice
from edge_sdk.runtime import Array

AGX_ORIN = CudaDevice(name="Orin", sm=87, multiprocessors=16, driver="13.2", memory_mb=64000.0, integrated=True)
ORIN_NX = msgspec.structs.replace(AGX_ORIN, multiprocessors=8)


class Blueprint(msgspec.Struct):
    """What stands in the file of an engine."""

    path: str
    graph: Graph
    profiles: tuple[ShapeProfile, ...]
    level: int


class Board:
    """`opened` are the engines that were opened; those of a level in `wrong` give zeros."""

    def __init__(self, patch: pytest.MonkeyPatch, device: CudaDevice = AGX_ORIN, version: str = "10.16.2") -> None:
        self.device, self.cuda = device, HostCuda()
        self.opened: list[Blueprint] = []
        self.wrong: set[int] = set()
        tensorrt = TensorRT(flavour="trt", module=module, version=version)
        for place in ("engine.tensorrt_library", "toolchain.building", "runtimes.trt"):
            patch.setattr(f"edge_sdk.{place}.open_tensorrt", lambda flavour: tensorrt)
        for place in ("toolchain.building", "runtimes.trt"):
            patch.setattr(f"edge_sdk.{place}.cuda_device", lambda: self.device)
        patch.setattr("edge_sdk.runtimes.trt.bindings_version", lambda: "12.8")
        patch.setattr("edge_sdk.runtimes.trt.open_cuda", lambda: self.cuda)
        patch.setattr("edge_sdk.runtimes.trt.deserialize", self._deserialize)
        patch.setattr("edge_sdk.export.build.monitor", lambda *_: None)
        patch.setattr("edge_sdk.export.build.parse", _parse)
        patch.setattr("edge_sdk.export.build._config", _config)

    def _deserialize(self, path: Path, *_: Any) -> HostEngine:
        found = msgspec.json.decode(path.read_bytes(), type=Blueprint)
        self.opened.append(found)
        profiles = [
            {name: (each.smallest, each.best, each.largest) for name, each in profile.lengths.items()}
            for profile in found.profiles
        ]
        engine = HostEngine(module, Path(found.path), found.graph, profiles or [{}], self.cuda)
        if found.level in self.wrong:
            engine.native = _Zeros(engine.native)
        return engine


class _Zeros:
    """A session whose every output is zero."""

    def __init__(self, native: Any) -> None:
        self._native = native

    def run(self, names: list[str], feeds: dict[str, Array]) -> list[Array]:
        return [np.zeros_like(value) for value in self._native.run(names, feeds)]


# Any: what TensorRT's objects would be.
def _parse(tensorrt: TensorRT, path: Path, *, slow_attention: bool = False) -> Any:
    builder = SimpleNamespace(build_serialized_network=lambda network, config: config.blueprint)
    return SimpleNamespace(builder=builder, native=None, log=None, strict=0)


def _config(job: Any, network: Any, progress_monitor: Any) -> Any:
    asked = Blueprint(str(job.path), job.graph, job.key.profiles, job.options.level)
    timings = SimpleNamespace(serialize=lambda: b"timings")
    return SimpleNamespace(blueprint=msgspec.json.encode(asked), get_timing_cache=lambda: timings)
