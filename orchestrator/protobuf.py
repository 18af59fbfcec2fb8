"""Protobuf's wire format, as far as BuildKit's and the Gevulot node's messages need it.

By hand: what is read and written of them is a few fields, stable since 2018; the protobuf library would add a
dependency and a compiled schema for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

Value = int | bytes
"""A varint, or the bytes of any other field."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class ProtobufError(ValueError):
    """The bytes are not a protobuf message."""


def encode(message: Mapping[int, Value] | Iterable[tuple[int, Value]]) -> bytes:
    """One message, of its fields in order: a varint for each number, a length and the bytes for the rest."""
    data = b""
    for number, value in message.items() if isinstance(message, Mapping) else message:
        if isinstance(value, int):
            data += _to_varint(number << 3 | _VARINT) + _to_varint(value)
        else:
            data += _to_varint(number << 3 | _BYTES) + _to_varint(len(value)) + value
    return data


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """The fields of one message, in order: number and value. ProtobufError when the bytes are no message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ProtobufError(f"wire type {kind}")
        if length > len(data) - at:
            raise ProtobufError("field past the end of its message")
        yield number, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ProtobufError("number past the end of its message")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ProtobufError("number of more than ten bytes")


def as_number(value: Value) -> int:
    """A varint as an int64. ProtobufError when it is bytes."""
    if not isinstance(value, int):
        raise ProtobufError("bytes where a number belongs")
    return value - (1 << 64) if value >> 63 else value  # int64, two's complement


def as_bytes(value: Value) -> bytes:
    """Bytes, or a nested message. ProtobufError when it is a number."""
    if isinstance(value, int):
        raise ProtobufError("a number where bytes belong")
    return value


def as_text(value: Value) -> str:
    """Text; what isn't UTF-8 is replaced. ProtobufError when it is a number."""
    return as_bytes(value).decode("utf-8", errors="replace")


def _to_varint(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])
