"""Operations counted from ONNX files, against sums by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import GraphProto, TensorProto, ValueInfoProto, helper, save_model

from edge_sdk.bundle import default_bundle
from edge_sdk.errors import BundleError
from edge_sdk.hardware.onnx_work import graph_work

FLOAT = TensorProto.FLOAT


def value(name: str, *shape: int | str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, FLOAT, shape)


def weight(name: str, *dims: int) -> TensorProto:
    tensor = TensorProto(name=name, data_type=FLOAT)
    tensor.dims.extend(dims)
    return tensor


def saved(folder: Path, graph: GraphProto) -> Path:
    path = folder / "graph.onnx"
    save_model(helper.make_model(graph), path)
    return path


def test_convolutions_and_products(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["a"], group=2),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Gemm", ["c", "full", "bias"], ["d"], transB=1),
        helper.make_node("MatMul", ["e", "plain"], ["f"]),
        helper.make_node("MatMul", ["f", "g"], ["h"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [value("x", "streams", 4, 8, 8), value("c", "streams", 12), value("e", 1, 5, 3), value("g", 1, 7, 11)],
        [value("d", "streams", 6), value("h", 1, 5, 11)],
        [weight("kernel", 6, 2, 3, 3), weight("full", 6, 12), weight("bias", 6), weight("plain", 3, 7)],
        value_info=[value("a", "streams", 6, 6, 6), value("b", "streams", 6, 6, 6), value("f", 1, 5, 7)],
    )
    work = graph_work(saved(tmp_path, graph))
    # 36 positions of 6 channels of 2 · 9 taps; 6 rows of 12; 5 rows of 3 by 7; 5 by 11 of 7
    assert work.flops == 2 * (36 * 6 * 18 + 6 * 12 + 5 * 3 * 7 + 5 * 11 * 7)
    # the convolution reads 4 · 64 values and writes 6 · 36
    assert work.activation_bytes == 4 * (4 * 64 + 6 * 36)


def test_an_empty_graph(tmp_path: Path) -> None:
    assert graph_work(saved(tmp_path, helper.make_graph([], "empty", [], []))) == (0, 0)


def test_the_demo_student_is_small() -> None:
    """19 convolutions and 3 products, worked out one by one from their shapes: 169.4 million multiply-adds."""
    work = graph_work(default_bundle() / "student.onnx")
    assert work.flops == 2 * 169_358_880


@pytest.mark.parametrize("content", [b"", b"no graph at all", b"\x3a\xff", b"\x08\x01", b"\x0b"])
def test_what_is_no_graph(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"graph\.onnx is not an ONNX file"):
        graph_work(path)


def test_a_product_without_its_second_input(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x"], ["y"])]
    path = saved(tmp_path, helper.make_graph(nodes, "toy", [value("x", 1, 3)], [value("y", 1, 3)]))
    with pytest.raises(BundleError, match="an operator MatMul of 1 inputs and 1 outputs"):
        graph_work(path)
