"""Protobuf's wire format, as far as needed to walk and change an ONNX file without the onnx package.

The device has no onnx package. Only messages that matter are entered; everything else is skipped by its length.
Wire format: protobuf's encoding page.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_VARINT_BITS = 64
_TAG_BITS = 32

Data = bytes | mmap.mmap


class MalformedError(Exception):
    """The bytes are not protobuf; the caller, who knows the file's name, turns this into an error of the SDK."""


class Field(NamedTuple):
    """A field: its number, the offset `begin` of its tag, and the range `start .. end` of its content."""

    number: int
    begin: int
    start: int
    end: int


Change = Callable[[Data, Field], bytes | None]
"""Returns a field's new content, or None to keep it."""


def fields(data: Data, start: int, end: int) -> Iterator[Field]:
    """Return the length-delimited fields of one message and skip the others. Raises `MalformedError`."""
    return (field for kind, field in _entries(data, start, end) if kind == _BYTES)


def integers(data: Data, start: int, end: int, number: int) -> Iterator[int]:
    """Yield an integer field's values, 0 to 2^64 - 1, packed or one by one. Raises `MalformedError`."""
    for kind, field in _entries(data, start, end):
        position = field.start
        while field.number == number and kind in (_VARINT, _BYTES) and position < field.end:
            value, position = _varint(data, position, field.end)
            yield value


def text(data: Data, message: Field, number: int) -> str:
    """Return a text field of `message`: its last one, as protobuf reads it, or "" if there is none.

    Raises `MalformedError`, and `UnicodeDecodeError` where the bytes are no UTF-8.
    """
    found = [each for each in fields(data, message.start, message.end) if each.number == number]
    return data[found[-1].start : found[-1].end].decode() if found else ""


def _entries(data: Data, start: int, end: int) -> Iterator[tuple[int, Field]]:
    """Yield every field with its wire type."""
    position = start
    while position < end:
        begin = position
        tag, position = _varint(data, position, end)
        if tag >> _TAG_BITS:  # some readers drop the higher bits and see another field
            raise MalformedError(f"a tag of more than {_TAG_BITS} bits before byte {position}")
        if not tag >> 3:  # no field has the number 0; some readers stop here, others go on
            raise MalformedError(f"a field of number 0 before byte {position}")
        kind = tag & 7
        if kind == _VARINT:
            length = _varint(data, position, end)[1] - position
        elif kind == _BYTES:
            length, position = _varint(data, position, end)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise MalformedError(f"wire type {kind} at byte {position}")
        if position + length > end:
            raise MalformedError(f"a field of {length} bytes at byte {position} passes the end of its message")
        yield kind, Field(tag >> 3, begin, position, position + length)
        position += length


def changed(data: Data, start: int, end: int, changes: Mapping[int, Change]) -> bytes:
    """Return the message `data[start:end]` with the content of some fields replaced, by field number.

    Raises `MalformedError`.
    """
    parts, kept = [], start
    for field in fields(data, start, end):
        new = changes[field.number](data, field) if field.number in changes else None
        if new is not None:
            parts += [data[kept : field.begin], delimited(field.number, new)]
            kept = field.end
    return b"".join([*parts, data[kept:end]])


def delimited(number: int, content: bytes) -> bytes:
    """Encode a length-delimited field of a message."""
    return _encoded(number << 3 | _BYTES) + _encoded(len(content)) + content


def _varint(data: Data, position: int, end: int) -> tuple[int, int]:
    value = 0
    for count in range(_MAX_VARINT_BYTES):
        if position + count >= end:
            raise MalformedError(f"a number is cut off at byte {position}")
        byte = data[position + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80 and value >> _VARINT_BITS:  # some readers drop the higher bits
            break
        if byte < 0x80:
            return value, position + count + 1
    raise MalformedError(f"a number of more than {_VARINT_BITS} bits at byte {position}")


def _encoded(value: int) -> bytes:
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
