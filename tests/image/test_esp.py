"""The EFI partition: what is written is read back, and what is no FAT32 file system ends in an error."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from orchestrator.image.errors import ImageError
from orchestrator.image.esp import LOADER, read_esp, write_esp
from orchestrator.image.mbr import ESP_SIZE

from .handmade import SECTOR, esp


def reading(data: bytes) -> dict[str, bytes]:
    return read_esp(lambda at, length: data[at : at + length], len(data))


@pytest.mark.parametrize("size", [1, SECTOR, SECTOR + 1, 100_000])
def test_what_is_written_is_read_back(tmp_path: Path, size: int) -> None:
    data, loader = bytearray(ESP_SIZE), bytes(range(1, 256)) * (size // 255 + 1)

    def write(at: int, piece: bytes) -> None:
        data[at : at + len(piece)] = piece

    write_esp(write, 0, loader[:size])
    assert reading(bytes(data)) == {LOADER: loader[:size]}


def test_one_by_hand() -> None:
    """Larger clusters, a removed file, a volume's label, a file without an extension."""
    assert reading(esp(b"MZ" * 700)) == {LOADER: b"MZ" * 700, "/README": b""}


def patched(at: int, data: bytes) -> bytes:
    image = bytearray(esp(b"MZ" * 700))
    image[at : at + len(data)] = data
    return bytes(image)


TABLE = 2 * SECTOR
ROOT = 3 * SECTOR
CASES = {
    "no signature": (510, b"\0\0", "not a FAT32"),
    "another sector size": (11, struct.pack("<H", 4096), "not a FAT32"),
    "no clusters": (13, b"\0", "not a FAT32"),
    "tables larger than all": (36, struct.pack("<I", 2**20), "larger than"),
    "huge tables": (36, struct.pack("<I", 2**31), "larger than"),
    "a circle of directories": (TABLE + 8, struct.pack("<I", 2), "go in circles"),
    "a circle of a file": (TABLE + 20, struct.pack("<I", 5), "go in circles"),
    "a chain that leads out": (TABLE + 20, struct.pack("<I", 999), "leads out"),
    "a file that is cut short": (TABLE + 20, struct.pack("<I", 0x0FFFFFFF), "cut short"),
    "a root that is nowhere": (44, struct.pack("<I", 0), "leads out"),
    "a directory in itself": (ROOT + 96 + 26, struct.pack("<H", 2), "go in circles"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_such_partition(case: str) -> None:
    at, data, words = CASES[case]
    with pytest.raises(ImageError, match=words):
        reading(patched(at, data))


def test_every_byte_may_be_wrong() -> None:
    for at in range(6 * SECTOR):
        for value in (b"\0", b"\xff", b"\x10"):
            try:
                reading(patched(at, value))
            except ImageError as error:
                assert error.message
