"""External data is found wherever an ONNX file may hold a tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import GraphProto, ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

from edge_sdk.bundle.onnx_file import external_locations
from edge_sdk.errors import BundleError


def external(name: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", f"{name}.bin"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def graph(name: str, *tensors: TensorProto) -> GraphProto:
    return helper.make_graph([], name, [], [], list(tensors))


def model_with_tensors_everywhere() -> ModelProto:
    branch = helper.make_node("If", ["c"], ["y"])
    branch.attribute.append(helper.make_attribute("then_branch", graph("then", external("in_subgraph"))))
    several = helper.make_node("Toy", [], ["z"])
    several.attribute.append(helper.make_attribute("value", external("in_attribute")))
    several.attribute.append(helper.make_attribute("values", [external("in_list_a"), external("in_list_b")]))
    several.attribute.append(helper.make_attribute("graphs", [graph("inner", external("in_graph_list"))]))
    sparse = SparseTensorProto(values=external("sparse_values"), indices=external("sparse_indices"), dims=[4])
    main = graph("main", external("initialiser"), numpy_helper.from_array(np.arange(9), "inline"))
    main.node.extend([branch, several])
    main.sparse_initializer.append(sparse)
    body = helper.make_node("Constant", [], ["k"], value=external("in_function"))
    function = helper.make_function("toy", "F", [], ["k"], [body], [helper.make_opsetid("", 17)])
    return helper.make_model(main, functions=[function], opset_imports=[helper.make_opsetid("", 17)])


def test_every_place_of_a_tensor_is_searched(tmp_path: Path) -> None:
    path = tmp_path / "toy.onnx"
    path.write_bytes(model_with_tensors_everywhere().SerializeToString())
    names = ["initialiser", "in_subgraph", "in_attribute", "in_list_a", "in_list_b", "in_graph_list", "in_function"]
    assert external_locations(path) == {f"{name}.bin" for name in [*names, "sparse_values", "sparse_indices"]}


def test_a_self_contained_graph_reads_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "toy.onnx"
    path.write_bytes(helper.make_model(graph("g", numpy_helper.from_array(np.arange(999), "w"))).SerializeToString())
    assert external_locations(path) == set()


def test_every_truncation_is_refused_or_reads_no_unknown_file(tmp_path: Path) -> None:
    whole = model_with_tensors_everywhere().SerializeToString()
    path = tmp_path / "toy.onnx"
    path.write_bytes(whole)
    known = external_locations(path)
    refusals = 0
    lengths = range(0, len(whole), 7)
    for length in lengths:
        path.write_bytes(whole[:length])
        try:
            assert external_locations(path) <= known
        except BundleError:
            refusals += 1
    assert refusals > 0.8 * len(lengths)


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    data = b""
    for _ in range(200):
        for tag in (0x32, 0x2A, 0x0A):  # Attribute.g, Node.attribute, Graph.node
            size = len(data)
            data = bytes([tag, size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]) + data
    size = len(data)
    path = tmp_path / "deep.onnx"
    path.write_bytes(bytes([0x3A, size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]) + data)
    with pytest.raises(BundleError, match="nested"):
        external_locations(path)
