"""Headers of values in a TFS log, and the node of a file, which is the same bytes in every log but for its numbers.

Versions 5 and 4 of the encoding differ in the header byte: 5 has three bits of type and three of length,
4 has one bit of type (buffer or tuple) and five of length, so it knows no vectors, integers or typed strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

BUFFER: Final = 0
TUPLE: Final = 1
VECTOR: Final = 2
INTEGER: Final = 3
STRING: Final = 4

VERSIONS: Final = (4, 5)
MAX_VARINT: Final = 10  # bytes; 64 bits in groups of 7
FILE_KEYS: Final = frozenset(("extents", "0", "allocated", "length", "offset", "filelength"))
"""All keys in the node of a file that has one extent."""
_LONGEST: Final = 19  # digits


def low_bits(version: int) -> int:
    """How many bits of a length the header byte has."""
    return 5 if version == 4 else 3


def text_kind(version: int) -> int:
    """The type of a string."""
    return BUFFER if version == 4 else STRING


def encode_header(version: int, kind: int, length: int, *, immediate: bool = True) -> bytes:
    """The bytes of one value header."""
    low = low_bits(version)
    first = (immediate << 7) | (kind << (low + 1))
    if not length >> low:
        return bytes((first | length,))
    first |= 1 << low
    if not length >> (low + 7):
        return bytes((first | (length >> 7), length & 0x7F))
    groups = -(-(length.bit_length() - low) // 7)
    rest = [((length >> shift) & 0x7F) | (0x80 if shift else 0) for shift in range(7 * (groups - 1), -1, -7)]
    return bytes((first | (length >> (7 * groups)), *rest))


def encode_varint(number: int) -> bytes:
    """Big-endian groups of seven bits, the top bit set on all but the last byte. `number` ≥ 0."""
    groups = [number & 0x7F]
    number >>= 7
    while number:
        groups.append(0x80 | (number & 0x7F))
        number >>= 7
    return bytes(reversed(groups))


def file_node_parts(version: int, symbol: Callable[[str], bytes]) -> tuple[bytes, bytes, bytes, bytes]:
    """What stands before the four numbers of a file that has one extent: how many sectors it has allocated and how
    many it uses, the first of them, and its size in bytes. `symbol` is the reference to a key.
    """
    tuples = [encode_header(version, TUPLE, entries) for entries in (2, 1, 3)]
    keys = [symbol(name) for name in ("extents", "0", "allocated")]
    start = b"".join(part for pair in zip(tuples, keys, strict=True) for part in pair)
    return start, symbol("length"), symbol("offset"), symbol("filelength")


def file_node_pattern(version: int, symbol: Callable[[str], bytes]) -> re.Pattern[bytes]:
    """Matches such a node; its groups are the numbers, decimals of 1 to 19 digits, with their headers."""
    headers = _number_headers(version)
    number = b"(%b)" % b"|".join(b"%b[0-9]{%d}" % (re.escape(header), n) for n, header in enumerate(headers, start=1))
    return re.compile(b"".join(re.escape(part) + number for part in file_node_parts(version, symbol)))


def strip_header(number: bytes) -> str:
    """The digits of such a group."""
    return number.lstrip(_HEADERS).decode()


def _number_headers(version: int) -> list[bytes]:
    return [encode_header(version, text_kind(version), length) for length in range(1, _LONGEST + 1)]


_HEADERS: Final = bytes({byte for version in VERSIONS for header in _number_headers(version) for byte in header})
"""None of them is a digit."""
