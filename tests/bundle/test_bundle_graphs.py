"""A bundle's graphs read no file but those that are vouched for, are ONNX, and come to an end."""

from __future__ import annotations

from pathlib import Path

import msgspec
import onnx
import pytest
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, helper
from toy_bundle import GRAPH, edit, files, onnx_bytes, refused, write

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.errors import BundleError, BundlePathError

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]


@pytest.mark.parametrize("location", ["*/_ORT_MEM_ADDR_/*", "_ORT_MEM_ADDR_", "a_ORT_MEM_ADDR_/b"])
def test_an_address_in_memory_is_no_place_for_weights(tmp_path: Path, location: str) -> None:
    """Also where the manifest lists a file of that name."""
    own = files() | {"graphs/student.onnx": onnx_bytes(location)}
    with pytest.raises(BundlePathError, match=r"external data: .* has '_ORT_MEM_ADDR_', which stands for an address"):
        write(tmp_path / "toy", files=own)
    with pytest.raises(BundlePathError, match=r"\$\.files: .* has '_ORT_MEM_ADDR_', which stands for an address"):
        write(tmp_path / "toy", files=own | {f"graphs/{location}": b"x"})


ODD_NAMES = [".hidden", "a/.hidden", "*", "a*/b", "-x", "_x", "a b", "~", "$HOME", "é", "a\u2028b", "%2e%2e", "a\n"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_part_of_a_path_that_is_no_plain_name(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(BundlePathError, match=r"external data: .* has a part that is not made of letters"):
        write(tmp_path / "other", files=files() | {"graphs/student.onnx": onnx_bytes(name)})
    entry = {"sha256": "0" * 64, "size_bytes": 1}
    edit(folder, lambda document: document["files"].update({name: entry}))
    refused(folder, BundlePathError, "$.files", repr(name), "has a part that is not made of letters")


@pytest.mark.parametrize("name", ["student.ort", "student.ONNX", "student", "onnx", "student.onnx.ort"])
def test_a_graph_whose_file_is_not_called_onnx(tmp_path: Path, name: str) -> None:
    graph = msgspec.structs.replace(GRAPH, file=f"graphs/{name}")
    own = {path: data for path, data in files().items() if path != GRAPH.file} | {graph.file: onnx_bytes()}
    with pytest.raises(BundlePathError, match=rf"student\.file: .* ends in \.onnx, found 'graphs/{name}'"):
        write(tmp_path / "toy", graphs={"student": graph}, files=own)


def value(name: str, dtype: int = TensorProto.FLOAT, shape: tuple[int | str, ...] = ("n", 3)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, list(shape))


def branch(name: str) -> GraphProto:
    return helper.make_graph([helper.make_node("Identity", ["s"], [name])], name, [], [value(name)])


def loop() -> NodeProto:
    """It has no end: no number of rounds, and a condition that stays true."""
    inner = [helper.make_node("Identity", ["going"], ["on"]), helper.make_node("Relu", ["carried"], ["next"])]
    ins = [value("round", TensorProto.INT64, ()), value("going", TensorProto.BOOL, ()), value("carried")]
    body = helper.make_graph(inner, "body", ins, [value("on", TensorProto.BOOL, ()), value("next")])
    return helper.make_node("Loop", ["", "yes", "s"], ["s3"], body=body)


def scan() -> NodeProto:
    inner = [helper.make_node("Identity", ["row"], ["same"])]
    body = helper.make_graph(inner, "body", [value("row", shape=(3,))], [value("same", shape=(3,))])
    return helper.make_node("Scan", ["s"], ["s3"], num_scan_inputs=1, body=body)


def either() -> NodeProto:
    return helper.make_node("If", ["yes"], ["s3"], then_branch=branch("a"), else_branch=branch("b"))


def toy_with(node: NodeProto, *functions: FunctionProto) -> bytes:
    """The toy graph with one more operator, a model that the onnx package accepts."""
    model: ModelProto = onnx.load_from_string(onnx_bytes())
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    model.graph.node.append(node)
    model.functions.extend(functions)
    del model.opset_import[:]
    model.opset_import.extend(OPSETS)
    model.ir_version = 8
    inline = onnx.load_from_string(model.SerializeToString())
    inline.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, [4, 3], [0.0] * 12))
    onnx.checker.check_model(inline)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("node", [loop(), scan(), either()], ids=["Loop", "Scan", "If"])
@pytest.mark.parametrize("name", ["student", "decoder"])
def test_a_graph_with_a_graph_inside_need_never_end(tmp_path: Path, node: NodeProto, name: str) -> None:
    """The student's, and any other."""
    graph = msgspec.structs.replace(GRAPH, file=f"graphs/{name}.onnx")
    own = files() | {graph.file: toy_with(node)}
    told = rf"the operator '{node.op_type}' with a graph inside in 'graphs/{name}\.onnx', which may never end"
    with pytest.raises(BundleError, match=told):
        write(tmp_path / "toy", graphs={"student": GRAPH, name: graph}, files=own)
    write(tmp_path / "toy", files=files() | {GRAPH.file: toy_with(helper.make_node("Relu", ["s"], ["s3"]))})


def test_functions_that_would_be_put_into_one_graph_without_end(tmp_path: Path) -> None:
    """Forty that call the one before twice are 2^39 operators, in a file of 4 kB."""
    functions = [helper.make_function("own", "F0", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], OPSETS)]
    for number in range(1, 40):
        called = f"F{number - 1}"
        calls = [helper.make_node(called, [a], [b], domain="own") for a, b in (("a", "c"), ("c", "b"))]
        functions.append(helper.make_function("own", f"F{number}", ["a"], ["b"], calls, OPSETS))
    data = toy_with(helper.make_node("F39", ["s"], ["s3"], domain="own"), *functions)
    with pytest.raises(BundleError, match=r"expected a graph of plain operators, found the function 'F0' in"):
        write(tmp_path / "toy", files=files() | {GRAPH.file: data})


def test_the_demo_has_neither() -> None:
    """By the onnx package; that it opens is no proof, as what refuses it could."""
    bundle: Bundle = open_bundle()
    for name in bundle.manifest.graphs:
        model = onnx.load(bundle.graph(name)[1], load_external_data=False)
        attributes = [each for node in model.graph.node for each in node.attribute]
        assert not model.functions
        assert not [each.name for each in attributes if each.HasField("g") or each.graphs]
