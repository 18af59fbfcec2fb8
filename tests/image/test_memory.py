"""Hostile images cost memory in proportion to their bytes, and time too."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.image.errors import ImageError
from orchestrator.image.reader import open_image
from orchestrator.image.tree import File

from .handmade import (
    END,
    SECTOR,
    disk,
    extension,
    extent,
    file_node,
    filesystem,
    head,
    link,
    put,
    record,
    ref,
    sym,
    tree,
    tup,
    varint,
)

MIB = 1024 * 1024
PER_BYTE = 120  # of the log: an empty tuple is one byte there and about a hundred in Python


def peak(work: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def opening(path: Path) -> Callable[[], None]:
    def work() -> None:
        with suppress(ImageError):
            open_image(path).close()

    return work


def big_log(value: bytes) -> bytes:
    sectors = len(value) // SECTOR + 2
    return extension(link(1, sectors), 1, first=True) + extension(record(value) + END, sectors)


def test_a_log_of_nothing_but_tuples(tmp_path: Path) -> None:
    count = 64 * 1024
    value = b"\x91" + sym("children") + b"\x90"
    for filler in (b"\x90", b"\xa0"):  # tuples, vectors
        attribute = sym("v") + head(1, 2, count) + filler * count
        path = put(tmp_path, disk(big_log(b"\x92" + value[1:] + attribute)))
        assert peak(opening(path)) < PER_BYTE * count + 4 * MIB


def test_sizes_that_are_only_claimed(tmp_path: Path) -> None:
    claims = [
        b"\x02" + varint(60 * SECTOR) + varint(15 * SECTOR) + END,  # a segment that isn't all there
        record(head(1, 1, 2**60)),
        record(head(1, 2, 2**60)),
        record(tup(sym("a") + head(1, 4, 2**60))),
        link(20, 2**50),
    ]
    for records in claims:
        log = extension(link(1, 16), 1, first=True) + extension(records, 16)
        path = put(tmp_path, disk(log.ljust(64 * SECTOR, b"\0")))
        with pytest.raises(ImageError):
            open_image(path)
        assert peak(opening(path)) < MIB


def test_logs_have_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, disk(filesystem(tree())))
    open_image(path).close()
    monkeypatch.setattr("orchestrator.image.log.MAX_LOG", 10)
    with pytest.raises(ImageError, match="more than 10 bytes"):
        open_image(path)


def test_a_large_sparse_file_is_not_read_into_memory(tmp_path: Path) -> None:
    # The link claims one extension of the whole partition: 1 TiB, all zeros, of which nothing needs to be read.
    path = put(tmp_path, disk(extension(link(1, 2**31 - 10), 1, first=True)))
    with path.open("r+b") as stream:
        stream.truncate(2**40 + 2**20)
    assert peak(opening(path)) < MIB


def test_huge_files_are_streamed(tmp_path: Path) -> None:
    root = tree(*(file_node(f"f{n}", 2**60, [extent("5", 20 + n, 1)]) for n in range(8)))
    path = put(tmp_path, disk(filesystem(root)))

    def work() -> None:
        with open_image(path) as image:
            for _, node in image.rootfs.walk():
                assert isinstance(node, File)
                chunks = image.rootfs.read(node)
                for _ in range(4):
                    assert len(next(chunks)) <= MIB
                with image.rootfs.open_file(node) as stream:
                    stream.seek(2**59)
                    assert stream.read(10) == bytes(10)

    assert peak(work) < 8 * MIB


def test_deep_and_wide_trees_are_walked_without_recursion(tmp_path: Path) -> None:
    value = tup()
    for _ in range(250):
        value = tup(ref(2) + tup(ref(4) + value))
    path = put(tmp_path, disk(filesystem(tup(sym("children") + tup(sym("d") + value)))))
    with open_image(path) as image:
        assert sum(1 for _ in image.rootfs.walk()) == 251
