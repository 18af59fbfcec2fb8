"""Nanos images put together byte by byte from the format's description, without the code that is tested."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

SECTOR = 512
UUID = bytes(range(16))
END = b"\x01"


def varint(number: int) -> bytes:
    """Seven bits a byte, most significant first."""
    out = bytes([number & 0x7F])
    while number := number >> 7:
        out = bytes([0x80 | number & 0x7F]) + out
    return out


def head(immediate: int, kind: int, length: int, version: int = 5) -> bytes:
    """A value header, always in its longest needed form."""
    bits = 5 if version == 4 else 3
    first = immediate << 7 | kind << (bits + 1)
    if length < 1 << bits:
        return bytes([first | length])
    groups = varint(length)
    # The first byte of a header with more to come may hold zero bits of the length.
    return bytes([first | 1 << bits]) + groups


def sym(name: str, version: int = 5) -> bytes:
    """A key spelt out."""
    return head(1, 0, len(name), version) + name.encode()


def ref(index: int, version: int = 5) -> bytes:
    """A key by dictionary index."""
    return head(0, 0, index, version)


def text(value: str, version: int = 5) -> bytes:
    """A string value."""
    raw = value.encode()
    return head(1, 0 if version == 4 else 4, len(raw), version) + raw


def number(value: int) -> bytes:
    """An integer value (version 5)."""
    return head(1, 3, 1 if value < 0 else 0) + varint(abs(value))


def tup(*entries: bytes, version: int = 5) -> bytes:
    """A new tuple; each entry is a key followed by its value."""
    return head(1, 1, len(entries), version) + b"".join(entries)


def merge(index: int, *entries: bytes, version: int = 5) -> bytes:
    """Entries for a tuple that the log already defined."""
    return head(0, 1, len(entries), version) + varint(index) + b"".join(entries)


def vector(*items: bytes) -> bytes:
    """A new vector (version 5)."""
    return head(1, 2, len(items)) + b"".join(items)


def record(value: bytes) -> bytes:
    """A tuple record that holds all of its tuple."""
    return b"\x02" + varint(len(value)) + varint(len(value)) + value


def link(sector: int, sectors: int) -> bytes:
    """A link to the next extension."""
    return b"\x05" + varint(sector) + varint(sectors)


def extension(records: bytes, sectors: int, *, first: bool = False, version: int = 5, label: str = "") -> bytes:
    """An extension of the log, padded to its size."""
    start = b"NVMTFS" + varint(version) + varint(sectors)
    if first:
        start += UUID + label.encode() + b"\0"
    assert len(start + records) <= sectors * SECTOR
    return (start + records).ljust(sectors * SECTOR, b"\0")


def filesystem(*values: bytes, version: int = 5, label: str = "", size: int = 64 * SECTOR) -> bytes:
    """A file system with one record for each value, in a second extension of 16 sectors."""
    records = b"".join(record(value) for value in values) + END
    log = extension(link(1, 16), 1, first=True, version=version, label=label)
    return (log + extension(records, 16, version=version)).ljust(size, b"\0")


def empty(version: int = 5) -> bytes:
    """The tuple of an empty root directory."""
    return tup(sym("children", version) + tup(version=version), version=version)


def entry(kind: int, offset: int, length: int) -> bytes:
    """A partition table entry; offset and length in bytes."""
    return struct.pack("<B3sB3sII", 0x80, b"", kind, b"", offset // SECTOR, length // SECTOR)


def disk(
    rootfs: bytes,
    *,
    bootfs: bytes | None = None,
    stage2: bytes = b"\xf4" * SECTOR,
    crash: bytes = b"",
    esp: int = 0,
) -> bytes:
    """A whole image. `crash` is the crash log's content, `esp` the size of an EFI system partition."""
    bootfs = filesystem(empty()) if bootfs is None else bootfs
    offset = SECTOR + len(stage2) + 4096
    table = b""
    if esp:
        table += entry(0xEF, offset, esp)
        offset += esp
    table += entry(0x83, offset, len(bootfs)) + entry(0x83, offset + len(bootfs), len(rootfs))
    region = struct.pack("<QQI", 0x8000, len(stage2), 12) if stage2 else bytes(20)
    first = (
        (b"\xfa" * 426 + region + table.ljust(64, b"\0") + b"\x55\xaa")
        if stage2
        else (bytes(446) + table.ljust(64, b"\0") + b"\x55\xaa")
    )
    return first + stage2 + crash.ljust(4096, b"\0") + bytes(esp) + bootfs + rootfs


def esp(loader: bytes) -> bytes:
    """A FAT32 partition with clusters of two sectors: a label, a removed file, README, and EFI/BOOT/BOOTX64.EFI."""

    def row(name: bytes, attributes: int, cluster: int = 0, size: int = 0) -> bytes:
        return struct.pack("<11sB8xH4xHI", name, attributes, cluster >> 16, cluster & 0xFFFF, size)

    boot = bytearray(SECTOR)
    struct.pack_into("<HBHB", boot, 11, SECTOR, 2, 2, 1)
    struct.pack_into("<IHHI", boot, 36, 1, 0, 0, 2)
    boot[82:87], boot[510:] = b"FAT32", b"\x55\xaa"
    end, count = 0x0FFFFFFF, -(-len(loader) // (2 * SECTOR))
    table = struct.pack(f"<{5 + count}I", end, end, end, end, end, *range(6, 5 + count), end)
    removed = row(b"\xe5LD     TXT", 0x20, 5, 3)
    top = row(b"NANOS      ", 0x08) + removed + row(b"README     ", 0x20) + row(b"EFI        ", 0x10, 3)
    efi = row(b".          ", 0x10, 3) + row(b"..         ", 0x10) + row(b"BOOT       ", 0x10, 4)
    clusters = [top, efi, row(b"BOOTX64 EFI", 0x20, 5, len(loader)), loader.ljust(count * 2 * SECTOR, b"\0")]
    data = b"".join(each.ljust(2 * SECTOR, b"\0") for each in clusters)
    return bytes(boot) + bytes(SECTOR) + table.ljust(SECTOR, b"\0") + data


def put(directory: Path, image: bytes) -> Path:
    """The image as a file."""
    path = directory / "image.img"
    path.write_bytes(image)
    return path


def file_node(name: str, size: str | int, extents: Sequence[bytes]) -> bytes:
    """A directory entry for a file; each extent is a key and its tuple."""
    length = number(size) if isinstance(size, int) else text(size)
    return sym(name) + tup(sym("filelength") + length, sym("extents") + tup(*extents))


def extent(at: str, offset: int, length: int, allocated: int | None = None, *more: bytes) -> bytes:
    """An extent in blocks, with integers as the kernel writes them."""
    return sym(at) + tup(
        sym("offset") + number(offset),
        sym("length") + number(length),
        sym("allocated") + number(length if allocated is None else allocated),
        *more,
    )


def tree(*children: bytes, attributes: Sequence[bytes] = ()) -> bytes:
    """The root tuple."""
    return tup(sym("children") + tup(*children), *attributes)
