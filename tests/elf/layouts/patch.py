"""Changes to a linked program that no linker here makes: `patch.py WHAT FILE`."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path

PT_NULL, PT_LOAD, PT_NOTE, PT_PHDR, PT_GNU_STACK = 0, 1, 4, 6, 0x6474E551
PF_W = 2
_HEADER = struct.Struct("<IIQQQQQQ")  # type, flags, offset, vaddr, paddr, filesz, memsz, align
_SIZE = _HEADER.size


def headers(data: bytearray) -> list[list[int]]:
    """The program headers."""
    (at,) = struct.unpack_from("<Q", data, 0x20)
    (count,) = struct.unpack_from("<H", data, 0x38)
    return [list(_HEADER.unpack_from(data, at + number * _SIZE)) for number in range(count)]


def write(data: bytearray, at: int, rows: list[list[int]]) -> None:
    """Put them at offset `at`, and say so in the ELF header."""
    if len(data) < at + len(rows) * _SIZE:
        data.extend(bytes(at + len(rows) * _SIZE - len(data)))
    struct.pack_into("<Q", data, 0x20, at)
    struct.pack_into("<H", data, 0x38, len(rows))
    for number, row in enumerate(rows):
        _HEADER.pack_into(data, at + number * _SIZE, *row)


def no_stack(data: bytearray) -> None:
    """No PT_GNU_STACK."""
    rows = headers(data)
    for row in rows:
        if row[0] == PT_GNU_STACK:
            row[0] = PT_NULL
    write(data, struct.unpack_from("<Q", data, 0x20)[0], rows)


def move_headers(data: bytearray) -> None:
    """The headers behind everything else, in a segment of their own, as tools do that need room for one more."""
    rows = headers(data)
    at = (len(data) + 0xFFF) & ~0xFFF
    address = (max(row[3] + row[6] for row in rows if row[0] == PT_LOAD) + 0xFFF) & ~0xFFF
    size = (len(rows) + 1) * _SIZE
    last = max(number for number, row in enumerate(rows) if row[0] == PT_LOAD)
    rows.insert(last + 1, [PT_LOAD, 4, at, address, address, size, size, 0x1000])
    for row in rows:
        if row[0] == PT_PHDR:
            row[2:7] = [at, address, address, size, size]
    write(data, at, rows)


def low_segment(data: bytearray) -> None:
    """One more segment, below the one that holds the headers; PT_NOTE's place is taken for it."""
    rows = headers(data)
    first = next(number for number, row in enumerate(rows) if row[0] == PT_LOAD)
    note = next(number for number, row in enumerate(rows) if row[0] == PT_NOTE)
    del rows[note]
    rows.insert(first, [PT_LOAD, 4, 0x1000, rows[first][3] - 0x1000, rows[first][3] - 0x1000, 16, 16, 0x1000])
    write(data, struct.unpack_from("<Q", data, 0x20)[0], rows)


def read_only_bss(data: bytearray) -> None:
    """The writable segment, .bss included, without PF_W, in a program that then only reads."""
    rows = headers(data)
    for row in rows:
        if row[0] == PT_LOAD and row[1] & PF_W:
            row[1] &= ~PF_W
    write(data, struct.unpack_from("<Q", data, 0x20)[0], rows)


def no_sections(data: bytearray) -> None:
    """No section headers."""
    data[0x28:0x30] = bytes(8)
    data[0x3A:0x40] = bytes(6)


_CHANGES: dict[str, Callable[[bytearray], None]] = {
    "no-stack": no_stack,
    "move-headers": move_headers,
    "low-segment": low_segment,
    "read-only-bss": read_only_bss,
    "no-sections": no_sections,
}

if __name__ == "__main__":
    path = Path(sys.argv[2])
    content = bytearray(path.read_bytes())
    _CHANGES[sys.argv[1]](content)
    path.write_bytes(content)
