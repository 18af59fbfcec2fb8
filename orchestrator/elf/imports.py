"""Which functions an ELF file takes from libraries: its undefined dynamic symbols, read as a loader finds them."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import BinaryIO, Final

_START: Final = b"\x7fELF\x02\x01"
_PROGRAM_HEADER: Final = struct.Struct("<IIQQQQQQ")
_DYNAMIC: Final = struct.Struct("<QQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_LOAD, _DYNAMIC_SEGMENT = 1, 2
_STRTAB, _SYMTAB, _STRSZ = 5, 6, 10
# Entries of the dynamic section that are addresses: no header says where the symbols end, but some table follows them.
_ADDRESSES: Final = frozenset(
    {3, 4, 5, 6, 7, 12, 13, 17, 23, 25, 26, 36, 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFE}
)
_LARGEST_TABLE: Final = 64 * 1024 * 1024
_MOST_HEADERS: Final = 16384
_LONGEST_NAME: Final = 4096


def imported_names(stream: BinaryIO, wanted: Collection[str] | None = None) -> frozenset[str]:
    """Which of these names (None: of any) the 64-bit little-endian ELF file in a seekable stream imports.

    A damaged file, or one of another kind, imports nothing: what is wrong with it is for `read_elf` to say.
    """
    try:
        return _imported(stream, wanted)
    except (struct.error, OverflowError, ValueError):
        return frozenset()


def _imported(stream: BinaryIO, wanted: Collection[str] | None) -> frozenset[str]:
    loads, dynamic = _segments(stream)
    tags = dict(_dynamic_entries(stream, *dynamic)) if dynamic else {}
    if not {_STRTAB, _SYMTAB, _STRSZ} <= tags.keys():
        return frozenset()
    names = _at_address(stream, loads, tags[_STRTAB], tags[_STRSZ])
    names_by_offset = None
    if wanted is not None:
        names_by_offset = {at: name for name in wanted for at in _name_offsets(names, name.encode() + b"\0")}
        if not names_by_offset:
            return frozenset()  # most files: their symbols, which may be many, need no look
    ends = [value for tag, value in tags.items() if tag in _ADDRESSES and value > tags[_SYMTAB]]
    size = min(ends, default=tags[_SYMTAB] + _LARGEST_TABLE) - tags[_SYMTAB]
    table = _at_address(stream, loads, tags[_SYMTAB], size)
    whole = memoryview(table)[: len(table) // _SYMBOL.size * _SYMBOL.size]
    imports = {name for name, _, _, section, _, _ in _SYMBOL.iter_unpack(whole) if not section and name}
    if names_by_offset is None:
        return frozenset(_text(names, at) for at in imports)
    return frozenset(names_by_offset[at] for at in imports & names_by_offset.keys())


def _segments(stream: BinaryIO) -> tuple[list[tuple[int, int, int]], tuple[int, int] | None]:
    """(address, offset, bytes in the file) of what is loaded; (offset, bytes) of the dynamic section."""
    stream.seek(0)
    head = stream.read(64)
    if not head.startswith(_START):
        return [], None
    (offset,) = struct.unpack_from("<Q", head, 0x20)
    width, count = struct.unpack_from("<HH", head, 0x36)
    loads, dynamic = [], None
    for number in range(count):
        stream.seek(offset + number * width)
        kind, _, at, address, _, size, _, _ = _PROGRAM_HEADER.unpack(stream.read(_PROGRAM_HEADER.size))
        if kind == _LOAD:
            loads.append((address, at, size))
        elif kind == _DYNAMIC_SEGMENT and dynamic is None:
            dynamic = (at, size)
    return loads, dynamic


def _dynamic_entries(stream: BinaryIO, offset: int, size: int) -> Iterator[tuple[int, int]]:
    stream.seek(offset)
    data = stream.read(min(size, _MOST_HEADERS * _DYNAMIC.size))
    for tag, value in _DYNAMIC.iter_unpack(data[: len(data) // _DYNAMIC.size * _DYNAMIC.size]):
        if tag == 0:
            return
        yield tag, value


def _at_address(stream: BinaryIO, loads: list[tuple[int, int, int]], address: int, size: int) -> bytes:
    """Up to `size` bytes that are loaded at an address; fewer where the segment ends."""
    for start, offset, length in loads:
        if start <= address < start + length:
            stream.seek(offset + address - start)
            return stream.read(min(size, start + length - address, _LARGEST_TABLE))
    return b""


def _text(names: bytes, at: int) -> str:
    end = names.find(b"\0", at, at + _LONGEST_NAME)
    return names[at : end if end >= 0 else at + _LONGEST_NAME].decode("utf-8", "replace")


def _name_offsets(names: bytes, name: bytes) -> Iterator[int]:
    """Where a symbol of this name may point: linkers store a name that ends another one inside that."""
    at = names.find(name)
    while at >= 0:
        yield at
        at = names.find(name, at + 1)
