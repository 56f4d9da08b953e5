"""Protobuf's wire format is read and written as the protobuf package does."""

from __future__ import annotations

import random
import struct

import pytest
from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, TensorProto, TypeProto, helper

from edge_sdk.bundle.onnx_wire import Field, MalformedError, changed, delimited, fields, integers, text

VALUES = [0, 1, 127, 128, 300, 2**31 - 1, 2**31, 2**32, 2**63 - 1, -1, -2, -(2**63)]
# Numbers of fields of TensorProto: `dims` one by one and `int64_data` packed, as onnx declares them.
DIMS, NAME, INT64S = 1, 8, 7


def whole(data: bytes) -> Field:
    return Field(0, 0, 0, len(data))


def read(data: bytes) -> list[tuple[int, bytes]]:
    return [(each.number, data[each.start : each.end]) for each in fields(data, 0, len(data))]


def toy() -> TensorProto:
    return TensorProto(
        dims=[3, 300], data_type=TensorProto.INT64, int64_data=VALUES, name="w" * 200, raw_data=bytes(range(9))
    )


def test_fields_are_those_that_protobuf_wrote() -> None:
    graph = helper.make_graph([], "g", [], [], [toy()])
    model = ModelProto(ir_version=10, producer_name="me", graph=graph, model_version=2**62)
    assert read(model.SerializeToString()) == [(2, b"me"), (7, graph.SerializeToString())]
    assert read(graph.SerializeToString()) == [(2, b"g"), (5, toy().SerializeToString())]


def test_fixed_fields_are_skipped_by_their_lengths() -> None:
    assert read(AttributeProto(name="a", f=1.5, i=-1, s=b"x").SerializeToString()) == [(1, b"a"), (4, b"x")]
    eight_bytes = bytes([9 << 3 | 1]) + struct.pack("<d", 1.5)
    assert read(eight_bytes + delimited(1, b"a")) == [(1, b"a")]


@pytest.mark.parametrize("number", [DIMS, INT64S])
def test_numbers_are_read_packed_and_one_by_one(number: int) -> None:
    data = TensorProto(**{"dims" if number == DIMS else "int64_data": VALUES}).SerializeToString()
    assert data[0] == (DIMS << 3 if number == DIMS else INT64S << 3 | 2)
    assert list(integers(data, 0, len(data), number)) == [value % 2**64 for value in VALUES]
    assert list(integers(data, 0, len(data), number + 1)) == []


def test_a_number_may_come_both_ways_in_one_message() -> None:
    data = b"\x08\x40" + delimited(DIMS, b"\x05\xac\x02") + b"\x08\x00"
    assert list(integers(data, 0, len(data), DIMS)) == list(TensorProto.FromString(data).dims) == [64, 5, 300, 0]


def test_a_number_of_another_wire_type_is_left_out_as_by_protobuf() -> None:
    data = bytes([DIMS << 3 | 5]) + b"\x07\x00\x00\x00" + b"\x08\x05"
    assert list(integers(data, 0, len(data), DIMS)) == list(TensorProto.FromString(data).dims) == [5]


@pytest.mark.parametrize("message", [toy(), AttributeProto(name="a", f=1.5, i=-1, s=b"x" * 130)])
def test_a_cut_message_is_refused_where_protobuf_refuses_it(message: TensorProto | AttributeProto) -> None:
    data = message.SerializeToString()
    refused = [is_refused(type(message), data[:length]) for length in range(len(data))]
    assert any(refused)
    assert not all(refused)


def is_refused(kind: type[TensorProto | AttributeProto], data: bytes) -> bool:
    """Whether protobuf refuses `data`; the SDK must do the same."""
    try:
        kind.FromString(data)
    except DecodeError:
        with pytest.raises(MalformedError):
            read(data)
        return True
    read(data)
    return False


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x08" + b"\x80" * 10 + b"\x01", "more than 64 bits"),
        (b"\x42" + b"\x80" * 10 + b"\x01", "more than 64 bits"),
        (b"\x88" + b"\x80" * 10 + b"\x01", "more than 64 bits"),
        (b"\x0a\x01\x80", "cut off"),
        (b"\x0b\x08\x01", "wire type 3"),
        (b"\x0c", "wire type 4"),
        (b"\x0e\x08\x01", "wire type 6"),
        (b"\x0f\x08\x01", "wire type 7"),
    ],
    ids=["value", "length", "tag", "packed", "group", "end", "six", "seven"],
)
def test_what_protobuf_refuses_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError):
        TensorProto.FromString(data)
    with pytest.raises(MalformedError, match=reason):
        list(integers(data, 0, len(data), DIMS))


def test_a_number_of_more_than_64_bits_is_refused_for_readers_drop_some() -> None:
    data = b"\x08" + b"\xff" * 9 + b"\x03"
    assert list(TensorProto.FromString(data).dims) == [-1]
    with pytest.raises(MalformedError, match="more than 64 bits"):
        list(integers(data, 0, len(data), DIMS))


def test_bytes_at_random_end_in_fields_or_in_one_error() -> None:
    draw = random.Random(7)
    refused = 0
    for _ in range(3000):
        data = draw.randbytes(draw.randrange(1, 24))
        try:
            assert all(0 <= each.begin < each.start <= each.end <= len(data) for each in fields(data, 0, len(data)))
        except MalformedError:
            refused += 1
    assert 0 < refused < 3000


@pytest.mark.parametrize("name", ["", "v", "v" * 127, "v" * 128, "é" * 10_000])
def test_a_changed_field_is_written_as_protobuf_writes_it(name: str) -> None:
    data = toy().SerializeToString()
    other = toy()
    other.name = name
    new = changed(data, 0, len(data), {NAME: lambda _, __: name.encode()})
    assert new == other.SerializeToString()
    assert changed(data, 0, len(data), {NAME: lambda _, __: None}) == data


def test_the_last_text_counts_as_for_protobuf() -> None:
    data = toy().SerializeToString() + delimited(NAME, b"last")
    assert text(data, whole(data), NAME) == TensorProto.FromString(data).name == "last"
    nothing = TypeProto().SerializeToString()
    assert text(nothing, whole(nothing), NAME) == ""
    broken = delimited(NAME, b"\xff")
    with pytest.raises(UnicodeDecodeError):
        text(broken, whole(broken), NAME)
