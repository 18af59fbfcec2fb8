"""Protobuf's wire format in a few lines of our own, to hold the generated messages against."""

from __future__ import annotations


def varint(value: int) -> bytes:
    """A number in groups of seven bits."""
    value &= (1 << 64) - 1
    data = b""
    while value > 0x7F:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def number(field: int, value: int) -> bytes:
    """A field that is a number."""
    return varint(field << 3) + varint(value)


def data(field: int, value: bytes) -> bytes:
    """A field that is bytes, text or a message."""
    return varint(field << 3 | 2) + varint(len(value)) + value
