"""External data is found wherever an ONNX file may hold a tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

from edge_sdk.bundle.onnx_file import endless, external_locations, weights
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


@pytest.mark.parametrize("packed", [False, True])
def test_weights_are_counted_whatever_their_bits(tmp_path: Path, packed: bool) -> None:
    shapes = {"w4": (TensorProto.INT4, [64, 300]), "w16": (TensorProto.FLOAT16, [7]), "scale": (TensorProto.FLOAT, [])}
    tensors = [TensorProto(name=name, data_type=dtype, dims=dims) for name, (dtype, dims) in shapes.items()]
    data = helper.make_model(graph("g", *tensors)).SerializeToString()
    if packed:  # as proto3 writes a list of numbers
        one_by_one, together = b"\x08\x40\x08\xac\x02", b"\x0a\x03\x40\xac\x02"
        assert data.count(one_by_one) == 1
        data = data.replace(one_by_one, together)
    path = tmp_path / "toy.onnx"
    path.write_bytes(data)
    expected = sum(math.prod(dims) for _, dims in shapes.values())
    assert weights(path) == expected
    path.write_bytes(b"")
    assert weights(path) == 0


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


def number(value: int) -> bytes:
    """`value` as protobuf writes it."""
    head = bytes([value & 0x7F | (0x80 if value > 0x7F else 0)])
    return head + number(value >> 7) if value > 0x7F else head


def parts(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each field of a message that holds numbers and bytes only."""
    position = 0
    while position < len(message):
        values = []
        for _ in range(2):
            end = next(at for at in range(position, len(message)) if message[at] < 0x80) + 1
            values.append(sum((byte & 0x7F) << 7 * at for at, byte in enumerate(message[position:end])))
            position = end
        size = values[1] if values[0] & 7 == 2 else 0
        yield values[0], number(values[1]) + message[position : position + size]
        position += size


def widened(message: bytes, fields: Sequence[int]) -> bytes:
    """The message with one more bit, the 33rd, in the tag of the last of `fields`, which lead there one in another."""
    out = b""
    for tag, content in parts(message):
        if tag == fields[0] << 3 | 2:
            if len(fields) == 1:
                tag |= 1 << 32
            else:
                inner = widened(content[len(content) - inner_size(content) :], fields[1:])
                content = number(len(inner)) + inner
        out += number(tag) + content
    return out


def inner_size(content: bytes) -> int:
    """How many bytes are behind the length that `content` begins with."""
    return len(content) - next(at for at, byte in enumerate(content) if byte < 0x80) - 1


@pytest.mark.parametrize("fields", [(7,), (7, 5), (7, 5, 13)], ids=["Graph", "Tensor", "Entry"])
def test_a_tag_of_more_bits_than_a_field_has_hides_nothing(tmp_path: Path, fields: tuple[int, ...]) -> None:
    plain = helper.make_model(graph("g", external("w"))).SerializeToString()
    assert b"".join(number(tag) + content for tag, content in parts(plain)) == plain
    path = tmp_path / "toy.onnx"
    path.write_bytes(widened(plain, fields))
    assert path.stat().st_size >= len(plain) + 4
    with pytest.raises(BundleError, match="tag of more than 32 bits"):
        external_locations(path)


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


@pytest.mark.parametrize("read", [external_locations, weights, endless])
@pytest.mark.parametrize("field", [b"\x00\x07", b"\x02\x00"], ids=["number", "bytes"])
def test_a_field_of_number_0_is_refused_as_protobuf_refuses_it(
    tmp_path: Path, field: bytes, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "toy.onnx"
    path.write_bytes(field + helper.make_model(graph("g", external("w"))).SerializeToString())
    with pytest.raises(DecodeError):
        onnx.load_from_string(path.read_bytes())
    with pytest.raises(BundleError, match="field of number 0"):
        read(path)


@pytest.mark.parametrize("read", [external_locations, weights, endless])
def test_onnx_runtimes_own_format_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    """Also where the bytes can be read as protobuf: a fixed number of 4 bytes and one of 8, here."""
    path = tmp_path / "toy.onnx"
    plain = b"\x1d\x00\x00\x00\x00" + b"\x19" + b"X" * 8
    path.write_bytes(plain)
    assert not read(path)
    path.write_bytes(b"\x19\x00\x00\x00ORTM\x00")
    with pytest.raises(BundleError, match=r"toy\.onnx is not an ONNX file \(it is in ONNX Runtime's own format\)"):
        read(path)
