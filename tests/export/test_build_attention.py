"""Attention without fused kernels: where it is expected, and where only the GPU at hand has none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from asking_bundles import watching
from onnx import TensorProto, helper

from edge_sdk.bundle import Bundle, write_bundle
from edge_sdk.bundle.manifest import Graph
from edge_sdk.engine import EngineCache
from edge_sdk.engine.tensorrt_library import TensorRT, open_tensorrt
from edge_sdk.errors import EngineError
from edge_sdk.export.build import build_engines
from edge_sdk.export.trt_network import parse
from edge_sdk.toolchain.building import BuildOptions, BuildReport, Place, describe
from edge_sdk.types import TensorSpec

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx")


class Warned:
    """Keeps the warnings of a build."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def begin(self, graph: str, number: int, of: int, needed_mb: float) -> None:
        """Nothing is kept of it."""

    def progress(self, share: float, phase: str) -> None:
        """Nothing is kept of it."""

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def end(self) -> None:
        """Nothing is kept of it."""


@pytest.fixture(scope="module")
def rtx() -> TensorRT:
    return open_tensorrt("rtx")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return watching()


@pytest.mark.parametrize(("dtype", "head"), [(TensorProto.FLOAT, 64), (TensorProto.FLOAT16, 8)])
def test_attention_without_a_fused_kernel_is_built_from_smaller_steps(
    rtx: TensorRT, tmp_path: Path, dtype: int, head: int
) -> None:
    network = parse(rtx, attention(tmp_path, dtype, head))
    assert network.builder.build_serialized_network(network.native, network.builder.create_builder_config()) is not None


def attention(folder: Path, dtype: int, head: int) -> Path:
    names = ("q", "k", "v")
    values = {name: helper.make_tensor_value_info(name, dtype, [1, 2, 6, head]) for name in (*names, "y")}
    node = helper.make_node("Attention", names, ["y"])
    graph = helper.make_graph([node], "attention", [values[name] for name in names], [values["y"]])
    path = folder / "attention.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=11), path)
    return path


def attending(bundle: Bundle, folder: Path) -> Bundle:
    """A bundle whose one graph is attention in float16 that has a fused kernel."""
    q, k, v, y = (TensorSpec(name=name, dtype="float16", shape=(1, 2, 6, 64)) for name in "qkvy")
    graph = Graph(file="attention.onnx", dialects=("native",), opset=24, inputs=(q, k, v), outputs=(y,))
    (folder / "parts").mkdir()
    file = attention(folder / "parts", TensorProto.FLOAT16, 64)
    files, student = {"attention.onnx": file.read_bytes()}, bundle.manifest.student
    return write_bundle(
        folder / "b", name="toy", version="1", graphs={"student": graph}, files=files, student=student, provenance={}
    )


def lacking(rtx: TensorRT, words: str) -> TensorRT:
    """The real package on a GPU without kernels of fused attention, whose builder then says `words`."""

    class Builder:
        def __init__(self, log: Any) -> None:
            self._log, self._native = log, rtx.module.Builder(log)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._native, name)

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            for index in range(network.num_layers):
                layer = network.get_layer(index)
                if layer.type == rtx.module.LayerType.ATTENTION_INPUT:
                    layer.__class__ = rtx.module.IAttentionInputLayer
                    if not layer.attention.decomposable:
                        self._log.log(rtx.module.ILogger.Severity.ERROR, words)
                        return None
            return self._native.build_serialized_network(network, config)

    module = SimpleNamespace(**vars(rtx.module) | {"Builder": Builder})
    return TensorRT(flavour="rtx", module=module, version=rtx.version)


def test_a_gpu_without_fused_attention_gets_a_slower_engine_and_a_warning(
    rtx: TensorRT, bundle: Bundle, tmp_path: Path
) -> None:
    words = "Error Code 10: Could not find any implementation for node attention"
    made, cache, seen = attending(bundle, tmp_path), EngineCache(tmp_path / "kept"), Warned()
    (slow,) = build_engines(made, lacking(rtx, words), Place(sm=86), cache, BuildOptions(), seen)
    (warning,) = seen.warnings
    assert words in warning
    assert "smaller steps" in warning
    assert slow.slow_attention
    assert [record.slow_attention for record in cache.records()] == [True]
    (again,) = build_engines(made, rtx, Place(sm=86), cache, BuildOptions(), seen)
    assert (again.cached, again.slow_attention) == (True, True)
    report = BuildReport(bundle="toy", tensorrt="rtx", place=Place(), engines=(again,), note=None)
    assert "WITHOUT FUSED ATTENTION" in describe(report)
    fresh = Warned()
    (fast,) = build_engines(made, rtx, Place(sm=86), cache, BuildOptions(rebuild=True), fresh)
    assert (fast.slow_attention, fresh.warnings) == (False, [])
    assert [record.slow_attention for record in cache.records()] == [False]


def test_memory_that_runs_out_is_no_reason_for_slow_attention(rtx: TensorRT, bundle: Bundle, tmp_path: Path) -> None:
    made, cache, seen = attending(bundle, tmp_path), EngineCache(tmp_path / "kept"), Warned()
    with pytest.raises(EngineError, match="memory ran out"):
        list(build_engines(made, lacking(rtx, "std::bad_alloc"), Place(sm=86), cache, BuildOptions(), seen))
    assert seen.warnings == []
