"""Opening an engine: the right one is found, and each wrong one is one clear error, in TensorRT's own words."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from host_cuda import HostCuda
from host_engine import HostEngine

from edge_sdk.bundle import default_bundle, open_bundle
from edge_sdk.engine import EngineCache, EngineKey, default_cache, graph_hashes
from edge_sdk.engine.tensorrt_library import TensorRT, open_tensorrt, problem_log
from edge_sdk.errors import ConfigError, EngineError, MissingDependencyError, RuntimeFailure
from edge_sdk.hardware.cuda import CudaDevice, find_cuda_device
from edge_sdk.runtime import SessionOptions
from edge_sdk.runtimes import rtx, trt
from edge_sdk.runtimes.trt import TrtRuntime
from edge_sdk.runtimes.trt_engine import deserialize
from edge_sdk.unit import Unit

module = pytest.importorskip("tensorrt_rtx", reason="it reads engines without a GPU, as far as their header")

ORIN = CudaDevice(name="Orin", sm=87, multiprocessors=16, driver="12.6", memory_mb=64000.0, integrated=True)


@pytest.fixture
def runtime() -> TrtRuntime:
    return TrtRuntime(open_tensorrt("rtx"), ORIN)


def key_of(toy: Any, **changes: Any) -> EngineKey:
    graph_sha256, weights_sha256 = graph_hashes(toy.path)
    key = EngineKey(
        graph="toy",
        graph_sha256=graph_sha256,
        weights_sha256=weights_sha256,
        flavour="rtx",
        version=module.__version__,
        sm=87,
        multiprocessors=16,
        driver="12.6",
        precision="float32",
        profiles=(),
        level=3,
    )
    return msgspec.structs.replace(key, **changes)


def cached(toy: Any, engine: bytes, **changes: Any) -> SessionOptions:
    """Options with a cache that holds `engine` under the key of `toy` with `changes`."""
    folder = toy.path.parent / "engines"
    EngineCache(folder).write(key_of(toy, **changes), engine, built_utc="2026-11-22T12:00:00Z", build_s=1.0)
    return SessionOptions(engines=folder)


def compiled(toy: Any) -> bytes:
    """A real engine, compiled here."""
    log = problem_log(open_tensorrt("rtx"))
    builder = module.Builder(log.logger)
    network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser, config = module.OnnxParser(network, log.logger), builder.create_builder_config()
    assert parser.parse_from_file(str(toy.path))
    profile = builder.create_optimization_profile()
    for name in ("x", "total"):
        profile.set_shape(name, (1, 3), (1, 3), (4, 3))
    config.add_optimization_profile(profile)
    return bytes(builder.build_serialized_network(network, config))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sm": 110}, "built for sm_110, here is sm_87"),
        ({"multiprocessors": 8}, "built for 8 multiprocessors, here are 16: another board"),
        ({"driver": "13.2"}, "built under driver 13.2, here is 12.6"),
        ({"version": "1.6.0"}, r"built by version 1\.6\.0, here is "),
        ({"weights_sha256": "0" * 64}, "the weights have changed"),
    ],
)
def test_an_engine_for_something_else_says_what_differs(
    running_sum: Any, runtime: TrtRuntime, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(EngineError, match=rf"'toy'.*{words}.*run: edge-sdk build"):
        runtime.open(running_sum.path, running_sum.graph, cached(running_sum, b"engine", **changes))


def test_what_is_here_is_the_device_that_was_found(running_sum: Any) -> None:
    thor = msgspec.structs.replace(ORIN, name="Thor", sm=110, driver="13.2")
    told = r"built for sm_87, here is sm_110; built under driver 12\.6, here is 13\.2"
    with pytest.raises(EngineError, match=told):
        TrtRuntime(open_tensorrt("rtx"), thor).open(running_sum.path, running_sum.graph, cached(running_sum, b"engine"))


def test_no_engine_and_no_graph(running_sum: Any, runtime: TrtRuntime, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no engine for the graph .*run: edge-sdk build"):
        runtime.open(running_sum.path, running_sum.graph, SessionOptions(engines=tmp_path / "none"))
    with pytest.raises(RuntimeFailure, match=r"no graph file at .*absent\.onnx"):
        runtime.open(tmp_path / "absent.onnx", running_sum.graph, SessionOptions())


def test_a_tensorrt_that_does_not_read_the_graph(running_sum: Any) -> None:
    for version, kind, words in (
        ("10.3.0", RuntimeFailure, r"toy\.onnx uses native operators, but TensorRT 10\.3\.0 reads decomposed graphs"),
        ("8.5.2", ConfigError, r"10\.3 or newer is needed, found 8\.5\.2"),
    ):
        runtime = TrtRuntime(TensorRT(flavour="trt", module=module, version=version), ORIN)
        with pytest.raises(kind, match=words):
            runtime.open(running_sum.path, running_sum.graph, SessionOptions())


def test_a_file_that_was_cut_off_after_it_was_built(running_sum: Any, runtime: TrtRuntime) -> None:
    options = cached(running_sum, b"engine" * 100)
    (path,) = (running_sum.path.parent / "engines").glob("*.engine")
    path.write_bytes(path.read_bytes()[:77])
    with pytest.raises(EngineError, match=r"expected 600 bytes.*found 77 bytes.*edge-sdk build"):
        runtime.open(running_sum.path, running_sum.graph, options)


@pytest.mark.parametrize("damage", ["rubbish", "truncated"])
def test_tensorrt_refuses_a_damaged_engine_in_its_own_words(running_sum: Any, tmp_path: Path, damage: str) -> None:
    engine = b"rubbish" * 1000 if damage == "rubbish" else compiled(running_sum)[:-1000]
    path = tmp_path / "bad.engine"
    path.write_bytes(engine)
    tensorrt = open_tensorrt("rtx")
    with pytest.raises(
        EngineError, match=rf"TensorRT {module.__version__} on Orin refuses .*bad\.engine.*Serializ"
    ) as e:
        deserialize(path, tensorrt, problem_log(tensorrt), "Orin")
    assert "edge-sdk build" in str(e.value)


def test_a_good_engine_without_a_gpu(running_sum: Any, runtime: TrtRuntime) -> None:
    """Everything up to the device has passed: the engine was found and its bytes are right."""
    if find_cuda_device() is not None:
        pytest.skip("there is a CUDA device here")
    pytest.importorskip("cuda.bindings", reason="extra [tensorrt] is not installed")
    options = cached(running_sum, compiled(running_sum), sm=None, driver=None, multiprocessors=None)
    with pytest.raises(MissingDependencyError, match="install NVIDIA's driver"):
        runtime.open(running_sum.path, running_sum.graph, options)


def test_events_name_the_engine_that_their_scores_are_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found in the user's cache as on a device. Memory and kernels are doubles, as an engine needs a GPU to be read."""
    graph, path = open_bundle(default_bundle()).graph("student")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    key = key_of(SimpleNamespace(path=path), graph="student", flavour="trt", version="10.3.0.30")
    for newest in (b"an engine", b"the engine that was built last"):
        key = msgspec.structs.replace(key, level=key.level + 1)
        default_cache().write(key, newest, built_utc="2026-11-22T12:00:00Z", build_s=1.0)
    cuda = HostCuda()
    profile = {"streams": (1, 1, 4)}
    monkeypatch.setattr(trt, "open_cuda", lambda: cuda)
    monkeypatch.setattr(trt, "deserialize", lambda *_: HostEngine(module, path, graph, (profile,), cuda))
    board = TrtRuntime(TensorRT(flavour="trt", module=module, version="10.3.0.30"), ORIN)
    monkeypatch.setattr(trt, "open_runtime", lambda: board)
    with Unit(default_bundle() / "demo" / "clip.mp4", runtime="trt") as unit:
        (event,) = unit.events({"closed"})
    made = event.provenance
    assert (made.runtime, made.runtime_version) == ("trt", "10.3.0.30")
    assert made.engine_sha256 == sha256(newest).hexdigest()


def test_the_runtimes_need_a_device() -> None:
    if find_cuda_device() is not None:
        pytest.skip("there is a CUDA device here")
    with pytest.raises(MissingDependencyError, match=r"there is no CUDA driver|cuda.*not installed"):
        rtx.open_runtime()


def test_the_runtime_describes_itself(runtime: TrtRuntime) -> None:
    pytest.importorskip("cuda.bindings", reason="extra [tensorrt] is not installed")
    described = runtime.describe()
    assert (runtime.name, described["runtime"], described["tensorrt_rtx"]) == ("rtx", "rtx", module.__version__)
    assert (described["device"], described["driver"]) == ("Orin (sm_87)", "CUDA 12.6")
    board = TrtRuntime(TensorRT(flavour="trt", module=module, version="10.3.0"), ORIN)
    assert board.name == "trt"
