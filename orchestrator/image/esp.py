"""The EFI system partition: a FAT32 file system. The one that is written holds nothing but the UEFI loader.

Layout after Microsoft's "FAT32 File System Specification" (1.03). One sector a cluster and two tables of 518 sectors
put the loader's data where ops and Nanos's mkfs have it: 0x85E00 bytes into the partition.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

from .codec import damaged
from .errors import ImageError
from .mbr import SECTOR, SIGNATURE

LOADER_AT: Final = 0x85E00
LOADER: Final = "/EFI/BOOT/BOOTX64.EFI"
_RESERVED: Final = 32  # sectors before the first table
_TABLE: Final = 518  # sectors of one table
_DATA: Final = _RESERVED + 2 * _TABLE  # sector of cluster 2
_CLUSTERS: Final = 66_208  # above 65,525, below which a driver takes it for FAT16
_END_OF_CHAIN: Final = 0x0FFFFFFF
_ROOT, _EFI, _BOOT, _LOADER = 2, 3, 4, 5  # first clusters
_DIRECTORY, _ARCHIVE, _LONG_NAME = 0x10, 0x20, 0x0F
_VOLUME_LABEL: Final = 0x08
_MAX_ENTRIES: Final = 1000
_MAX_LEVELS: Final = 8
_MAX_HELD: Final = 64 * 1024 * 1024  # bytes that are read; Nanos's whole partition has 33 MiB
_SERIAL: Final = 0x47564C54  # any constant: a random one would change the image from run to run


def write_esp(write: Callable[[int, bytes], None], offset: int, loader: bytes) -> None:
    """Write the partition at `offset` with `loader` as EFI/Boot/bootx64.efi. `write` takes (offset, bytes)."""
    clusters = max(1, -(-len(loader) // SECTOR))
    if _LOADER - 2 + clusters > _CLUSTERS:
        room = (_CLUSTERS - (_LOADER - 2)) * SECTOR
        raise ImageError(f"the UEFI loader has {len(loader)} bytes; the EFI partition holds {room}")
    boot, info = _boot_sector(), _info_sector(_CLUSTERS - (_LOADER - 2) - clusters, _LOADER + clusters)
    for copy in (0, 6):  # the second copy is where the first one points to
        write(offset + copy * SECTOR, boot)
        write(offset + (copy + 1) * SECTOR, info)
    table = _table(clusters)
    for number in (0, 1):
        write(offset + (_RESERVED + number * _TABLE) * SECTOR, table)
    directories = {
        _ROOT: _entry(b"EFI        ", _DIRECTORY, _EFI),
        _EFI: _dots(_EFI, 0) + _long(1, "Boot", b"BOOT       ") + _entry(b"BOOT       ", _DIRECTORY, _BOOT),
        _BOOT: _dots(_BOOT, _EFI)
        + _long(1, "bootx64.efi", b"BOOTX64 EFI")
        + _entry(b"BOOTX64 EFI", _ARCHIVE, _LOADER, len(loader)),
    }
    for cluster, entries in directories.items():
        write(offset + (_DATA + cluster - 2) * SECTOR, entries)
    write(offset + LOADER_AT, loader)


def _boot_sector() -> bytes:
    sector = bytearray(SECTOR)
    sector[0:3] = b"\xeb\xfe\x90"  # jump to itself: nobody boots this sector
    sector[3:11] = b"GVLTORCH"
    # bytes a sector, sectors a cluster, reserved sectors, tables, root entries, sectors (16 bits), medium,
    # table sectors (16 bits), sectors a track, heads, hidden sectors, sectors
    struct.pack_into("<HBHBHHBHHHII", sector, 11, SECTOR, 1, _RESERVED, 2, 0, 0, 0xF8, 0, 32, 64, 0, _DATA + _CLUSTERS)
    # table sectors, flags, version, root cluster, info sector, copy of the boot sector
    struct.pack_into("<IHHIHH", sector, 36, _TABLE, 0, 0, _ROOT, 1, 6)
    struct.pack_into("<BBBI11s8s", sector, 64, 0x80, 0, 0x29, _SERIAL, b"NO NAME    ", b"FAT32   ")
    sector[510:] = SIGNATURE
    return bytes(sector)


def _info_sector(free: int, next_free: int) -> bytes:
    sector = bytearray(SECTOR)
    sector[0:4] = b"RRaA"
    sector[484:488] = b"rrAa"
    struct.pack_into("<II", sector, 488, free, next_free)
    sector[510:] = SIGNATURE
    return bytes(sector)


def _table(clusters: int) -> bytes:
    """Entries 0 and 1 are reserved; a cluster for each directory; then the loader's chain."""
    links = [0x0FFFFFF8, _END_OF_CHAIN, _END_OF_CHAIN, _END_OF_CHAIN, _END_OF_CHAIN]
    links += range(_LOADER + 1, _LOADER + clusters)
    links.append(_END_OF_CHAIN)
    return struct.pack(f"<{len(links)}I", *links)


def _entry(name: bytes, attributes: int, cluster: int, size: int = 0) -> bytes:
    date = (0 << 9) | (1 << 5) | 1  # 1980-01-01, FAT's earliest
    return struct.pack(
        "<11sBBBHHHHHHHI",
        name, attributes, 0, 0, 0, date, date, cluster >> 16, 0, date, cluster & 0xFFFF, size,
    )  # fmt: skip


def _dots(own: int, parent: int) -> bytes:
    return _entry(b".          ", _DIRECTORY, own) + _entry(b"..         ", _DIRECTORY, parent)


def _long(order: int, name: str, short: bytes) -> bytes:
    """The long-name entry (one is enough for 13 characters) that goes before the short one."""
    checksum = 0
    for byte in short:
        checksum = (((checksum & 1) << 7) + (checksum >> 1) + byte) & 0xFF
    units = name.encode("utf-16-le")
    units += b"\0\0" if len(name) < 13 else b""
    units = units.ljust(26, b"\xff")
    return struct.pack(
        "<B10sBBB12sH4s", 0x40 | order, units[:10], _LONG_NAME, 0, checksum, units[10:22], 0, units[22:26]
    )


def read_esp(read_at: Callable[[int, int], bytes], length: int) -> dict[str, bytes]:
    """The files of a FAT32 partition of `length` bytes by path, in FAT's short names (`/EFI/BOOT/BOOTX64.EFI`).

    `read_at` takes (offset, length) within the partition. Errors: ImageError for what is not such a file system.
    """
    return _FatReader(read_at, length).files()


class _FatReader:
    def __init__(self, read_at: Callable[[int, int], bytes], length: int) -> None:
        sector = read_at(0, SECTOR)
        size, cluster_sectors, reserved, tables = struct.unpack_from("<HBHB", sector, 11)
        table_sectors, _, _, self._top = struct.unpack_from("<IHHI", sector, 36)
        if (
            sector[510:] != SIGNATURE
            or sector[82:87] != b"FAT32"
            or size != SECTOR
            or not cluster_sectors
            or not tables
        ):
            raise damaged("the EFI partition is not a FAT32 file system")
        self._read_at = read_at
        self._data = (reserved + tables * table_sectors) * SECTOR
        self._cluster = cluster_sectors * SECTOR
        self._left = min(length, _MAX_HELD)
        self._used: set[int] = set()
        if self._data >= length:
            raise damaged("the tables of the EFI partition are larger than the partition")
        if table_sectors * SECTOR > _MAX_HELD:
            raise damaged("the tables of the EFI partition are larger than any that hold a loader")
        raw = read_at(reserved * SECTOR, min(table_sectors * SECTOR, length - reserved * SECTOR) // 4 * 4)
        count = min(len(raw) // 4, 2 + (length - self._data) // self._cluster)
        self._links = struct.unpack_from(f"<{count}I", raw)

    def files(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        pending = [("", self._top, 0)]
        seen = 0
        while pending:
            above, first, level = pending.pop()
            for name, attributes, cluster, size in self._entries(first):
                seen += 1
                if seen > _MAX_ENTRIES or level > _MAX_LEVELS:
                    raise damaged("the EFI partition holds more than a loader's files")
                path = f"{above}/{name}"
                if attributes & _DIRECTORY:
                    pending.append((path, cluster, level + 1))
                else:
                    found[path] = self._chain(cluster, size) if size else b""
        return found

    def _entries(self, first: int) -> Iterator[tuple[str, int, int, int]]:
        data = self._chain(first, None)
        for at in range(0, len(data), 32):
            entry = data[at : at + 32]
            if entry[0] == 0:
                return
            attributes = entry[11]
            if entry[0] in (0xE5, 0x2E) or attributes & _LONG_NAME == _LONG_NAME or attributes & _VOLUME_LABEL:
                continue  # removed; . and ..; the long form of the name that follows; the volume's name
            stem, end = (part.decode("latin-1").rstrip() for part in (entry[:8], entry[8:11]))
            cluster = int.from_bytes(entry[20:22], "little") << 16 | int.from_bytes(entry[26:28], "little")
            yield f"{stem}.{end}" if end else stem, attributes, cluster, int.from_bytes(entry[28:32], "little")

    def _chain(self, cluster: int, size: int | None) -> bytes:
        """The bytes of a chain of clusters; of a file, the first `size` of them."""
        parts: list[bytes] = []
        held = 0
        while cluster < 0x0FFFFFF8 and (size is None or held < size):
            if not 2 <= cluster < len(self._links):
                raise damaged("a file of the EFI partition leads out of it")
            self._left -= self._cluster
            if cluster in self._used or self._left < 0:
                raise damaged("the files of the EFI partition overlap, go in circles, or are larger than it")
            self._used.add(cluster)
            parts.append(self._read_at(self._data + (cluster - 2) * self._cluster, self._cluster))
            held += self._cluster
            cluster = self._links[cluster] & 0x0FFFFFFF
        if size is not None and held < size:
            raise damaged("a file of the EFI partition is cut short")
        return b"".join(parts)[:size]
