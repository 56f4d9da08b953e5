"""Engines built by the real TensorRT-RTX, which compiles without a GPU."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from asking_bundles import watching
from onnx import TensorProto, helper
from toy_bundle import onnx_bytes

from edge_sdk.bundle import Bundle, rewrite, write_bundle
from edge_sdk.bundle.manifest import Graph
from edge_sdk.engine import EngineCache, graph_hashes
from edge_sdk.engine.tensorrt_library import TensorRT, open_tensorrt
from edge_sdk.errors import ConfigError, EngineError, RuntimeFailure, UnknownNameError
from edge_sdk.export import build_needs
from edge_sdk.export.build import attach_timings, build_engines, engine_key, keep_timings
from edge_sdk.export.build_monitor import Phases
from edge_sdk.export.build_needs import require_disk, require_memory
from edge_sdk.export.trt_network import parse
from edge_sdk.hardware.cuda import CudaDevice
from edge_sdk.hardware.probes import observe
from edge_sdk.registry import RUNTIMES
from edge_sdk.toolchain.building import BuildOptions, Place, build
from edge_sdk.types import TensorSpec

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx")


class Seen:
    """Keeps what a build told, and may do something in the middle of it."""

    def __init__(self, at: float = 2.0) -> None:
        self.begun: list[tuple[str, int, int]] = []
        self.shares: list[float] = []
        self.phases: set[str] = set()
        self._at = at

    def begin(self, graph: str, number: int, of: int, needed_mb: float) -> None:
        assert needed_mb > 0
        self.begun.append((graph, number, of))

    def progress(self, share: float, phase: str) -> None:
        self.shares.append(share)
        self.phases.add(phase)
        if share >= self._at:
            os.kill(os.getpid(), signal.SIGINT)

    def warn(self, text: str) -> None:
        raise AssertionError(text)

    def end(self) -> None:
        self.begun.append(("end", 0, 0))


@pytest.fixture(scope="module")
def rtx() -> TensorRT:
    return open_tensorrt("rtx")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return watching()


def test_the_student_is_built_once(rtx: TensorRT, bundle: Bundle, tmp_path: Path) -> None:
    cache, seen = EngineCache(tmp_path), Seen()
    (first,) = build_engines(bundle, rtx, Place(), cache, BuildOptions(), seen)
    assert first.graph == "student"
    assert not first.cached
    assert seen.begun == [("student", 1, 1), ("end", 0, 0)]
    assert seen.shares == sorted(seen.shares)
    assert 0.0 <= seen.shares[0] < 0.5 < seen.shares[-1] <= 1.0
    assert len(seen.phases) > 3
    assert Path(first.file).stat().st_size > 1_000_000
    (second,) = build_engines(bundle, rtx, Place(), cache, BuildOptions(), Seen())
    assert second.cached
    assert second.file == first.file


@pytest.mark.parametrize("module", ["ort", "null"])
def test_what_was_built_is_run_and_a_wrong_answer_leaves_no_engine(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime stands for a GPU that computes right, zeros for one that does not; the builder is the real one."""
    gpu = CudaDevice(name="a GPU", sm=86, multiprocessors=46, driver="13.0", memory_mb=8000.0, integrated=False)
    monkeypatch.setattr("edge_sdk.toolchain.building.find_cuda_device", lambda: gpu)
    monkeypatch.setitem(RUNTIMES, "rtx", (f"edge_sdk.runtimes.{module}", ""))
    cache = EngineCache(tmp_path)
    if module == "ort":
        (engine,) = build(watching().folder, "rtx", cache=tmp_path, quiet=True).engines
        assert engine.verified is True
        assert [record.verified for record in cache.records()] == [True]
    else:
        with pytest.raises(EngineError, match="built, but wrong on this device: student do not give the bundle's"):
            build(watching().folder, "rtx", cache=tmp_path, quiet=True)
        assert list(tmp_path.glob("*.engine")) == []


def test_another_gpu_level_or_graph_is_another_engine(rtx: TensorRT, bundle: Bundle, tmp_path: Path) -> None:
    key = engine_key(bundle, "student", rtx, Place(), BuildOptions())
    others = [
        engine_key(bundle, "student", rtx, Place(sm=89), BuildOptions()),
        engine_key(bundle, "student", rtx, Place(), BuildOptions(level=5)),
        engine_key(bundle, "student", rtx, Place(), BuildOptions(tf32=True)),
    ]
    assert len({key.digest, *(each.digest for each in others)}) == 4
    renamed = rewrite(bundle, tmp_path / "copy", version="other")
    assert engine_key(renamed, "student", rtx, Place(), BuildOptions()).digest == key.digest
    assert key.graph_sha256 == graph_hashes(bundle.graph("student")[1])[0]


def test_ctrl_c_ends_a_build_and_leaves_nothing(rtx: TensorRT, bundle: Bundle, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = Seen(at=0.4)
    with pytest.raises(KeyboardInterrupt):
        list(build_engines(bundle, rtx, Place(), EngineCache(tmp_path), BuildOptions(), seen))
    assert list(tmp_path.iterdir()) == []
    assert max(seen.shares) < 0.9
    assert signal.getsignal(signal.SIGINT) is before


def test_a_gpu_that_rtx_does_not_know_is_refused(rtx: TensorRT, bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not compile for sm_87; it knows sm_75, sm_80.*--runtime trt"):
        list(build_engines(bundle, rtx, Place(sm=87), EngineCache(tmp_path), BuildOptions(), Seen()))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_graph_is_refused_in_the_parsers_words(rtx: TensorRT, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph at all")
    with pytest.raises(EngineError, match=r"cannot parse .*broken\.onnx: .+; it reads native graphs"):
        parse(rtx, broken)


def test_graphs_of_another_dialect_are_not_built(rtx: TensorRT, bundle: Bundle, tmp_path: Path) -> None:
    student = msgspec.structs.replace(bundle.manifest.graphs["student"], dialects=("decomposed",))
    manifest = msgspec.structs.replace(bundle.manifest, graphs={"student": student})
    other = msgspec.structs.replace(bundle, manifest=manifest)
    with pytest.raises(ConfigError, match=r"has no native graphs.*export it with --dialect native"):
        list(build_engines(other, rtx, Place(), EngineCache(tmp_path), BuildOptions(), Seen()))
    with pytest.raises(UnknownNameError, match="unknown native graph 'decoder'; known: student"):
        list(build_engines(bundle, rtx, Place(), EngineCache(tmp_path), BuildOptions(graphs=("decoder",)), Seen()))


def test_an_element_type_that_a_gpu_lacks_is_refused_with_another(
    rtx: TensorRT, bundle: Bundle, tmp_path: Path
) -> None:
    kind, shape = TensorProto.BFLOAT16, (4, 64)
    named = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y")]
    weights = helper.make_tensor("w", kind, (64, 64), bytes(2 * 64 * 64), raw=True)
    product = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "toy", named[:1], named[1:], [weights])
    model = helper.make_model(product, opset_imports=[helper.make_opsetid("", 18)])
    x, y = (TensorSpec(name=name, dtype="bfloat16", shape=shape) for name in ("x", "y"))
    graph = Graph(file="toy.onnx", dialects=("native",), opset=18, inputs=(x,), outputs=(y,))
    other = write_bundle(
        tmp_path / "toy",
        name="toy",
        version="1",
        graphs={"student": graph},
        files={"toy.onnx": model.SerializeToString()},
        student=bundle.manifest.student,
        provenance={},
    )
    cache = EngineCache(tmp_path / "kept")
    with pytest.raises(EngineError, match=r"cannot build .*toy\.onnx: .*sm_75 cannot compute in.*--dtype float16"):
        list(build_engines(other, rtx, Place(sm=75), cache, BuildOptions(), Seen()))
    assert list(cache.records()) == []
    assert [each.graph for each in build_engines(other, rtx, Place(sm=80), cache, BuildOptions(), Seen())] == [
        "student"
    ]


def test_memory_that_runs_out_while_an_engine_is_built(rtx: TensorRT, bundle: Bundle, tmp_path: Path) -> None:
    """The builder is one that finds no memory; what it says is what TensorRT's allocator says."""
    words = "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)"

    class Builder:
        def __init__(self, log: Any) -> None:
            self._log, self._native = log, rtx.module.Builder(log)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._native, name)

        def build_serialized_network(self, network: Any, config: Any) -> None:
            self._log.log(rtx.module.ILogger.Severity.ERROR, words)

    module = SimpleNamespace(**vars(rtx.module) | {"Builder": Builder})
    poor, cache = TensorRT(flavour="rtx", module=module, version=rtx.version), EngineCache(tmp_path / "kept")
    with pytest.raises(EngineError, match=r"cannot build .*out of memory\); memory ran out: .*swap.*--workspace-mb$"):
        list(build_engines(bundle, poor, Place(sm=86), cache, BuildOptions(), Seen()))
    assert list(cache.records()) == []


def test_too_little_memory_is_refused_with_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weight file is one of holes."""
    dims, external = [1 << 20, 1 << 18], TensorProto.EXTERNAL
    weights = TensorProto(name="w", data_type=TensorProto.INT4, dims=dims, data_location=external)
    weights.external_data.add(key="location", value="student.weights")
    path = tmp_path / "student.onnx"
    path.write_bytes(helper.make_model(helper.make_graph([], "large", [], [], [weights])).SerializeToString())
    with (tmp_path / "student.weights").open("wb") as file:
        file.truncate(1 << 37)
    monkeypatch.setattr(build_needs, "memory_room_mb", lambda: None)
    with pytest.raises(
        EngineError, match=r"needs about 962,\d+ MB of memory, and [\d,]+ MB are free, including swap.*--force"
    ):
        require_memory(path)
    monkeypatch.setattr(build_needs, "memory_room_mb", lambda: 1000.0)
    with pytest.raises(
        EngineError, match=r"limit of this container or service leaves 1,000 MB; raise it by 961,\d+ MB.*--force"
    ):
        require_memory(path)
    assert require_memory(path, force=True) == pytest.approx(3.5 * 2**38 / 1e6)


@pytest.mark.parametrize(("dtype", "bits"), [(TensorProto.FLOAT, 32), (TensorProto.FLOAT16, 16)])
def test_wide_weights_are_held_three_times_by_a_builder(tmp_path: Path, dtype: int, bits: int) -> None:
    weights = TensorProto(name="w", data_type=dtype, dims=[1 << 20, 1 << 10], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="student.weights")
    path = tmp_path / "student.onnx"
    path.write_bytes(helper.make_model(helper.make_graph([], "large", [], [], [weights])).SerializeToString())
    with (tmp_path / "student.weights").open("wb") as file:
        file.truncate((1 << 30) * bits // 8)
    assert require_memory(path, force=True) == pytest.approx(3 * (1 << 30) * bits / 8 / 1e6)


def test_weights_that_the_disk_has_no_room_for_are_refused_with_numbers(tmp_path: Path) -> None:
    """The weight file is one of holes, larger than the disk that it lies on."""
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="student.weights")
    path = tmp_path / "student.onnx"
    path.write_bytes(helper.make_model(helper.make_graph([], "large", [], [], [weights])).SerializeToString())
    with (tmp_path / "student.weights").open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(
        RuntimeFailure, match=r"student\.onnx takes about 4,398,046\.\d MB, and [\d,.]+ MB are free on this disk"
    ):
        require_disk(path, tmp_path / "not/there/yet")
    require_disk(path, tmp_path, force=True)


def test_swap_that_is_free_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "student.onnx"
    path.write_bytes(onnx_bytes())  # the builder's own 2,200 MB
    (tmp_path / "student.weights").write_bytes(bytes(48))
    (tmp_path / "student.weights").write_bytes(bytes(1000))
    (tmp_path / "proc").mkdir()

    def have(memory_mb: float, swap_mb: float) -> None:
        kib, swap_kib = (round(size * 1e6 / 1024) for size in (memory_mb, swap_mb))
        (tmp_path / "proc/meminfo").write_text(f"MemAvailable: {kib} kB\n")
        (tmp_path / "proc/swaps").write_text(f"Filename Type Size Used Priority\n/swap file {swap_kib} 0 -2\n")

    monkeypatch.setattr(build_needs, "observe", lambda: observe(tmp_path))
    monkeypatch.setattr(build_needs, "memory_room_mb", lambda: None)
    have(1000, 0)
    with pytest.raises(
        EngineError, match=r"needs about 2,200 MB of memory, and 1,000 MB are free.* add 1,200 MB of swap"
    ):
        require_memory(path)
    have(1000, 1201)
    assert require_memory(path) == 2200


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")  # where they have no effect
def test_timings_are_kept_from_the_first_build_on(rtx: TensorRT, tmp_path: Path) -> None:
    """By the real binding, whose configuration has no timings until some are given."""
    builder, path = rtx.module.Builder(rtx.module.Logger()), tmp_path / "timings"
    bare = builder.create_builder_config()
    keep_timings(bare, path)
    assert not path.exists()
    attach_timings(bare, path)
    keep_timings(bare, path)
    kept = path.read_bytes()
    assert kept
    again = builder.create_builder_config()
    attach_timings(again, path)
    keep_timings(again, path)
    assert path.read_bytes() == kept


def test_timings_that_are_refused_are_begun_anew(tmp_path: Path) -> None:
    class Config:
        """Refuses what was timed elsewhere, as TensorRT does."""

        known: bytes | None = None

        def create_timing_cache(self, data: bytes) -> bytes:
            return data

        def set_timing_cache(self, data: bytes, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            if data == b"another GPU's":
                return False
            self.known = data
            return True

    path, config = tmp_path / "timings", Config()
    path.write_bytes(b"another GPU's")
    attach_timings(config, path)
    assert config.known == b""


def test_phases_in_phases_are_one_share() -> None:
    phases = Phases()
    phases.start("build", None, 4)
    assert phases.share() == 0.0
    phases.step("build", 0)
    phases.start("tactics", "build", 10)
    phases.step("tactics", 4)
    assert phases.share() == pytest.approx((1 + 0.5) / 4)
    phases.finish("tactics")
    assert phases.share() == pytest.approx((1 + 0.5) / 4)
    phases.step("build", 2)
    assert phases.share() == pytest.approx(3 / 4)
