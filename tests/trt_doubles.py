"""A session of the TensorRT runtime on the doubles, beside one of ONNX Runtime, and what both are fed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from host_cuda import HostCuda
from host_engine import HostEngine, Profile

from edge_sdk.engine.tensorrt_library import TensorRT, problem_log
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import Array, Session, SessionOptions
from edge_sdk.runtimes.trt import TrtSession
from edge_sdk.runtimes.trt_engine import Loaded
from edge_sdk.types import TensorSpec

module = pytest.importorskip("tensorrt_rtx", reason="its enumerations stand for TensorRT's")

HEADS, WIDTH, SLOTS, STEPS = 2, 3, 64, 20
ANY: Profile = {"streams": (1, 1, 4), "batch": (1, 1, 3), "slots": (1, 64, 64), "q": (1, 1, 4), "n": (1, 2, 8)}


class Opened(NamedTuple):
    """A session on the doubles, and the doubles."""

    session: TrtSession
    engine: HostEngine
    cuda: HostCuda


def open_double(toy: Any, *profiles: Profile, hosted: tuple[str, ...] = (), capturable: bool = True) -> Opened:
    cuda = HostCuda(capturable=capturable)
    engine = HostEngine(module, toy.path, toy.graph, profiles or (ANY,), cuda, hosted)
    tensorrt = TensorRT(flavour="trt", module=module, version="10.3.0")
    return Opened(TrtSession(Loaded("toy", tensorrt, engine, problem_log(tensorrt)), toy.graph, cuda), engine, cuda)


def open_ort(toy: Any) -> Session:
    return open_runtime("ort").open(toy.path, toy.graph, SessionOptions(threads=1))


def spec(name: str, shape: tuple[int | str, ...], dtype: Any = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def same(found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def rows_at(step: int, batch: int, count: int) -> dict[str, Array]:
    at = np.array([step * 2 + 5 * item for item in range(batch)], np.int64)
    return {"rows": normal(step, batch, HEADS, count, WIDTH), "at": at}
