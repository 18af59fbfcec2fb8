"""Which byte of an image belongs to what, and the bytes that belong to nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .mbr import CRASH_LOG, SECTOR, stage2_length
from .reader import Filesystem, Image
from .tree import File

MAX_STAGE2: Final = 16 * 1024 * 1024
"""Bytes of boot code that are taken for boot code; Nanos's has some 60 KB."""
_PIECE: Final = 64 * 1024
_ZEROS: Final = bytes(_PIECE)


@dataclass(frozen=True, kw_only=True)
class Loose:
    """Bytes that are not zero and that nothing refers to: how many, and a SHA-256 (hex) over them in their order."""

    count: int
    sha256: str


def used_regions(image: Image) -> list[tuple[int, int, str]]:
    """(start, end, name) in bytes from the image's start, sorted: everything that something refers to.

    A file's last sector counts only as far as the file goes, and a file's hole not at all.
    """
    regions: list[tuple[int, int, str]] = []
    if image.bootfs is not None:
        start = min(partition.offset for partition in image.partitions)
        stage2 = SECTOR + stage2_length(image.read_at(0, SECTOR))
        regions += [(0, SECTOR, "boot sector and partition table"), (SECTOR, stage2, "second stage")]
        regions.append((start - CRASH_LOG, start, "crash log"))
        named = {"esp": "EFI partition", "other": "another partition"}
        parts = [partition for partition in image.partitions if partition.kind in named]
        regions += [
            (partition.offset, partition.offset + partition.length, named[partition.kind]) for partition in parts
        ]
        regions += _of(image.bootfs, "boot file system")
    regions += _of(image.rootfs, "root file system")
    return sorted(region for region in regions if region[0] < region[1])


def _of(filesystem: Filesystem, name: str) -> Iterator[tuple[int, int, str]]:
    base = filesystem.offset
    for piece in filesystem.extensions:
        yield base + piece.offset, base + piece.offset + piece.length, f"log of the {name}"
    for path, node in filesystem.walk():
        for extent in node.extents if isinstance(node, File) else ():
            if extent.position is not None:
                start = base + extent.position
                yield start, start + extent.length, f"{path} in the {name}"


def region_at(image: Image, offset: int) -> str:
    """What the byte at `offset` belongs to, in words."""
    names = (name for start, end, name in used_regions(image) if start <= offset < end)
    return next(names, "free space")


def loose_bytes(image: Image) -> Loose:
    """What stands in free space, in the rest of files' last sectors and between partitions."""
    count, digest, at = 0, hashlib.sha256(), 0
    for start, end, _ in [*used_regions(image), (image.size, image.size, "")]:
        for _, data in _data(image, at, start):
            count += len(data) - data.count(0)
            digest.update(data.strip(b"\0"))
        at = max(at, end)
    return Loose(count=count, sha256=digest.hexdigest())


def range_digest(image: Image, start: int, end: int) -> bytes:
    """SHA-256 over the places and contents of the bytes from `start` to `end` that are not zero."""
    digest = hashlib.sha256()
    for offset, data in _data(image, start, end):
        digest.update(f"{offset - start}\n".encode())
        digest.update(data)
    return digest.digest()


def first_byte(one: bytes, other: bytes) -> int | None:
    """The place of the first byte in which two texts of bytes differ, as far as both go; None if they don't."""
    end = min(len(one), len(other))
    if one[:end] == other[:end]:
        return None
    low = 0
    while one[low : low + 256] == other[low : low + 256]:
        low += 256
    return next(at for at in range(low, end) if one[at] != other[at])


def _data(image: Image, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of pieces in a range that are not all zeros; holes of the file are not read."""
    at = start
    while at < end:
        data_at = image.data_from(at)
        # Pieces are counted from the range's start, so that two images' pieces can be compared.
        at = max(at, data_at - (data_at - start) % _PIECE)
        if at >= end:
            return
        data = image.read_at(at, min(_PIECE, end - at))
        if data != _ZEROS[: len(data)]:
            yield at, data
        at += len(data)
