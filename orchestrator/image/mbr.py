"""The first sector: Nanos's region record, the partition table; and the crash log before the first partition."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from .codec import damaged
from .errors import ImageError

SECTOR: Final = 512
CRASH_LOG: Final = 4096  # bytes, ending where the first partition starts
BOOTFS_SIZE: Final = 12 * 1024 * 1024
ESP_SIZE: Final = 33 * 1024 * 1024
REGION: Final = struct.Struct("<QQI")  # base, length of stage 2 in bytes, type
REGION_AT: Final = 426
REGION_FILESYSTEM: Final = 12
TABLE_AT: Final = 446
ENTRY: Final = struct.Struct("<B3sB3sII")  # active, first CHS, type, last CHS, first sector, sectors
SIGNATURE: Final = b"\x55\xaa"
TYPE_ESP: Final = 0xEF
TYPE_LINUX: Final = 0x83


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition: `kind` is esp, bootfs, rootfs or other; `offset` and `length` are bytes.

    The rootfs reaches to the end of the device whatever the table says, as in the kernel.
    """

    kind: str
    offset: int
    length: int


@dataclass(frozen=True, kw_only=True)
class CrashLog:
    """What the kernel left when it last went down: boot id, exit code, the end of its messages."""

    boot_id: int
    exit_code: int
    text: str


def is_mbr(sector: bytes) -> bool:
    """Whether the sector carries the MBR signature."""
    return len(sector) == SECTOR and sector[510:] == SIGNATURE


def stage2_length(sector: bytes) -> int:
    """Bytes of boot code after the first sector; 0 without a region record of type 12."""
    _, length, kind = REGION.unpack_from(sector, REGION_AT)
    return length if kind == REGION_FILESYSTEM else 0


def parse_partitions(sector: bytes, size: int) -> tuple[Partition, ...]:
    """The partitions of an image of `size` bytes, named by their position as the kernel and ops do."""
    entries = [ENTRY.unpack_from(sector, TABLE_AT + 16 * number) for number in range(4)]
    kinds = ["bootfs", "rootfs", "other", "other"]
    if entries[0][2] == TYPE_ESP:
        kinds = ["esp", "bootfs", "rootfs", "other"]
    partitions: list[Partition] = []
    for kind, (_, _, code, _, first, sectors) in zip(kinds, entries, strict=True):
        if kind == "other" and (code == 0 or sectors == 0):
            continue
        if first == 0 or sectors == 0 or (code != TYPE_LINUX and kind in ("bootfs", "rootfs")):
            raise ImageError(
                f"the partition table has no {kind} where Nanos looks for it",
                remedy="this is a disk image of another kind, or a Nanos image that was cut short while being written",
            )
        offset, length = first * SECTOR, sectors * SECTOR
        if offset + length > size:
            raise ImageError(
                f"the {kind} partition ends at byte {offset + length}, but the image has {size} bytes",
                remedy="the image was cut short; copy or build it again",
            )
        partitions.append(Partition(kind=kind, offset=offset, length=size - offset if kind == "rootfs" else length))
    _check_overlap(partitions)
    return tuple(partitions)


def _check_overlap(partitions: list[Partition]) -> None:
    ordered = sorted(partitions, key=lambda partition: partition.offset)
    for before, after in pairwise(ordered):
        if before.offset + before.length > after.offset:
            raise damaged(f"the {before.kind} and {after.kind} partitions overlap")


def parse_crash_log(block: bytes) -> CrashLog | None:
    """The crash log in its 4 KiB block, or None when the kernel never wrote one."""
    if len(block) < 16 or block[:4] != b"KLOG":
        return None
    boot_id, exit_code = struct.unpack_from("<Qi", block, 4)
    text = block[16:].split(b"\0", 1)[0].decode("utf-8", "replace")
    return CrashLog(boot_id=boot_id, exit_code=exit_code, text=text)


def build_table(sector: bytes, partitions: tuple[Partition, ...]) -> bytes:
    """`sector` with the partition table that ops writes (every entry active, ops's own CHS packing)."""
    table = bytearray(sector)
    types = {"esp": TYPE_ESP}
    for number, partition in enumerate(partitions):
        first, last = partition.offset, partition.offset + partition.length - SECTOR
        ENTRY.pack_into(
            table, TABLE_AT + 16 * number,
            0x80, _chs(first), types.get(partition.kind, TYPE_LINUX), _chs(last),
            (first // SECTOR) & 0xFFFFFFFF, (partition.length // SECTOR) & 0xFFFFFFFF,
        )  # fmt: skip
    return bytes(table)


def _chs(offset: int) -> bytes:
    # 255 heads, 63 sectors a track. The cylinder's high bits belong in bits 6-7 of the second byte; ops ors them
    # in unshifted. Nothing reads this field of such a disk, so we write what ops writes.
    track, sector = divmod(offset // SECTOR, 63)
    cylinder, head = divmod(track, 255)
    sector += 1
    if cylinder > 1023:
        cylinder, head, sector = 1023, 254, 63
    return bytes((head, (cylinder >> 8) | sector, cylinder & 0xFF))
