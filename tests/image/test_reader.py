"""The reader on images made byte by byte: what ops, mkfs and a running kernel may write."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from orchestrator.image.errors import ImageError
from orchestrator.image.reader import Image, open_image
from orchestrator.image.tree import Directory, File, Special, Symlink

from .handmade import (
    END,
    SECTOR,
    UUID,
    disk,
    empty,
    extension,
    extent,
    file_node,
    filesystem,
    link,
    merge,
    number,
    put,
    record,
    ref,
    sym,
    text,
    tree,
    tup,
    varint,
    vector,
)


def reading(directory: Path, rootfs: bytes) -> Image:
    return open_image(put(directory, disk(rootfs)))


def names(image: Image) -> list[str]:
    return [path for path, _ in image.rootfs.walk()]


def test_one_tuple_as_ops_writes_it(tmp_path: Path) -> None:
    extents = sym("0") + tup(sym("length") + text("1"), sym("offset") + text("20"), sym("allocated") + text("1"))
    root = tree(
        file_node("a", "5", [extents]),
        attributes=[sym("program") + text("/a"), sym("arguments") + vector(text("a"), text("-v"))],
    )
    rootfs = bytearray(filesystem(root, label="data"))
    rootfs[20 * SECTOR : 20 * SECTOR + 5] = b"hello"
    with reading(tmp_path, bytes(rootfs)) as image:
        fs = image.rootfs
        node = fs.lookup("/a")
        assert isinstance(node, File)
        assert b"".join(fs.read(node)) == b"hello"
        assert fs.attributes == {"program": "/a", "arguments": ["a", "-v"]}
        assert (fs.version, fs.label) == (5, "data")
        assert fs.uuid == "00010203-0405-0607-0809-0a0b0c0d0e0f"
        assert UUID.hex() == fs.uuid.replace("-", "")
        assert fs.used_end == 21 * SECTOR
        assert [(piece.offset, piece.length) for piece in fs.extensions] == [(0, 512), (512, 16 * 512)]


def test_later_tuples_merge_rename_and_delete(tmp_path: Path) -> None:
    # Indices: 1 root, 2 "children", 3 its tuple, 4 "old", 5 the node, 6 "children" of it is index 2 again: 6 its tuple.
    first = tup(sym("children") + tup(sym("old") + tup(ref(2) + tup())))
    add = merge(3, sym("new") + merge(5))  # the same node under a new name, as a rename does
    delete = merge(3, ref(4) + b"\x80")
    attribute = merge(1, sym("program") + text("/x"))
    replaced = merge(1, sym("program") + text("/y"))  # the kernel may spell a key again
    with reading(tmp_path, filesystem(first, add, delete, attribute, replaced)) as image:
        assert names(image) == ["/new"]
        assert image.rootfs.attributes == {"program": "/y"}


def test_values_of_every_kind(tmp_path: Path) -> None:
    root = tree(
        attributes=[
            sym("null") + b"\x81\x00",
            sym("gone") + text("x"),
            sym("number") + number(300),
            sym("negative") + number(-7),
            sym("untyped") + b"\x83abc",
            sym("list") + vector(number(1), text("two"), vector()),
            sym("") + text("old ops wrote nameless attributes"),
        ]
    )
    forget = merge(1, sym("gone") + b"\xc0")
    with reading(tmp_path, filesystem(root, forget)) as image:
        assert image.rootfs.attributes == {
            "null": None,
            "number": 300,
            "negative": -7,
            "untyped": "abc",
            "list": [1, "two", []],
        }


def test_a_vector_is_merged_by_position(tmp_path: Path) -> None:
    root = tree(attributes=[sym("list") + vector(text("a"), text("b"))])  # vector: index 5
    change = merge(1, sym("list") + b"\x21\x05" + text("z"))
    with reading(tmp_path, filesystem(root, change)) as image:
        assert image.rootfs.attributes == {"list": ["z", "b"]}


def test_tuples_cross_extensions_of_any_size(tmp_path: Path) -> None:
    root = tree(*(sym(f"file-{n:03}") + tup(sym("linktarget") + text("t" * 40)) for n in range(40)))
    parts = [root[:300], root[300:301], root[301:1200], root[1200:]]
    log = {
        0: extension(b"\x04" + link(40, 2), 1, first=True),
        40: extension(b"\x02" + varint(len(root)) + varint(len(parts[0])) + parts[0] + link(3, 1), 2),
        3: extension(b"\x04\x03" + varint(1) + parts[1] + link(10, 3), 1),
        10: extension(b"\x03" + varint(len(parts[2])) + parts[2] + link(20, 6), 3),
        20: extension(b"\x03" + varint(len(parts[3])) + parts[3] + record(merge(1, sym("k") + text("v"))) + END, 6),
    }
    rootfs = bytearray(64 * SECTOR)
    for sector, data in log.items():
        rootfs[sector * SECTOR : sector * SECTOR + len(data)] = data
    with reading(tmp_path, bytes(rootfs)) as image:
        assert names(image) == [f"/file-{n:03}" for n in range(40)]
        assert image.rootfs.attributes == {"k": "v"}
        assert [piece.offset // SECTOR for piece in image.rootfs.extensions] == [0, 40, 3, 10, 20]


def test_holes_uninited_extents_and_room_past_the_end(tmp_path: Path) -> None:
    root = tree(
        file_node(
            "sparse",
            5 * SECTOR + 10,
            [
                extent("4", 20, 1, 8),
                extent("1", 30, 1),
                extent("2", 40, 1, None, sym("uninited") + text("true")),
                extent("9", 50, 1),
            ],
        ),
        file_node("empty", "0", []),
        file_node("hole", 2**62, []),
        sym("no-length") + tup(sym("extents") + tup()),
        sym("socket") + tup(sym("socket") + b"\x81\x00"),
        sym("odd") + tup(sym("mtime") + number(5)),
    )
    rootfs = bytearray(filesystem(root, size=64 * SECTOR))
    for sector in (20, 30, 40, 50):
        rootfs[sector * SECTOR : (sector + 1) * SECTOR] = bytes([sector]) * SECTOR
    with reading(tmp_path, bytes(rootfs)) as image:
        fs = image.rootfs
        sparse = fs.lookup("/sparse")
        assert isinstance(sparse, File)
        zero = bytes(SECTOR)
        expected = zero + b"\x1e" * SECTOR + zero + zero + b"\x14" * SECTOR + bytes(10)
        assert b"".join(fs.read(sparse)) == expected
        assert fs.read_at(sparse, SECTOR - 2, 4) == b"\0\0\x1e\x1e"
        assert fs.read_at(sparse, 5 * SECTOR + 8, 100) == b"\0\0"
        assert fs.read_at(sparse, 10**9, 1) == b""
        assert fs.used_end == 51 * SECTOR
        hole = fs.lookup("/hole")
        assert isinstance(hole, File)
        assert fs.read_at(hole, 2**61, 3) == b"\0\0\0"
        assert next(fs.read(hole)) == bytes(1024 * 1024)
        with fs.open_file(hole) as stream:
            assert stream.seek(-2, os.SEEK_END) == 2**62 - 2
            assert stream.read() == b"\0\0"
        assert fs.lookup("/empty") == File(size=0) == fs.lookup("/no-length")
        assert fs.lookup("/socket") == Special(kind="socket")
        assert fs.lookup("/odd") == Special(kind="unknown")


def test_streams_seek_like_files(tmp_path: Path) -> None:
    rootfs = bytearray(filesystem(tree(file_node("f", 1000, [extent("0", 20, 2)]))))
    content = bytes(n % 251 for n in range(1000))
    rootfs[20 * SECTOR : 20 * SECTOR + 1000] = content
    with reading(tmp_path, bytes(rootfs)) as image:
        node = image.rootfs.lookup("/f")
        assert isinstance(node, File)
        with image.rootfs.open_file(node) as stream:
            assert stream.seekable()
            assert stream.read(3) == content[:3]
            assert stream.seek(10, os.SEEK_CUR) == 13
            assert stream.read(5) == content[13:18]
            stream.seek(990)
            assert stream.read(100) == content[990:]
            assert stream.read(1) == b""
            with pytest.raises(ValueError, match="negative"):
                stream.seek(-1)


def test_links_are_followed_inside_the_image_only(tmp_path: Path) -> None:
    def directory(name: str, *children: bytes) -> bytes:
        return sym(name) + tup(sym("children") + tup(*children))

    def symlink(name: str, target: str) -> bytes:
        return sym(name) + tup(sym("linktarget") + text(target))

    root = tree(
        directory("usr", directory("lib", file_node("x.so.1", 0, []), symlink("x.so", "x.so.1"))),
        symlink("lib", "usr/lib"),
        symlink("abs", "/lib/x.so"),
        symlink("up", "usr/../../../lib/./x.so"),
        symlink("loop", "loop2"),
        symlink("loop2", "loop"),
        symlink("dangling", "nowhere"),
        symlink("through-file", "usr/lib/x.so.1/y"),
    )
    with reading(tmp_path, filesystem(root)) as image:
        fs = image.rootfs
        for path in ("/lib/x.so", "/abs", "/up", "lib//x.so", "/usr/./lib/x.so.1"):
            assert fs.resolve(path) == ("/usr/lib/x.so.1", File(size=0)), path
        assert fs.lookup("/lib", follow=False) == Symlink(target="usr/lib")
        assert isinstance(fs.lookup("/lib"), Directory)
        assert isinstance(fs.lookup("/lib/", follow=False), Symlink)
        assert fs.lookup("/lib/x.so", follow=False) == Symlink(target="x.so.1")
        for path in ("/loop", "/dangling", "/through-file", "/none", "/usr/lib/x.so.1/y"):
            assert fs.lookup(path) is None, path
        assert fs.resolve("/") == ("/", fs.root)
        assert fs.resolve("/usr/..") == ("/", fs.root)


def test_version_4(tmp_path: Path) -> None:
    arguments = tup(sym("0", 4) + text("a", 4), sym("1", 4) + text("b", 4), version=4)
    length = "children-that-are-longer-than-31-characters"
    root = tup(
        sym("children", 4) + tup(sym(length, 4) + tup(ref(2, 4) + tup(version=4), version=4), version=4),
        sym("arguments", 4) + arguments,
        sym("program", 4) + text("/" + "p" * 5000, 4),
        version=4,
    )
    with reading(tmp_path, filesystem(root, version=4)) as image:
        assert image.rootfs.version == 4
        assert names(image) == ["/" + length]
        assert image.rootfs.attributes == {"arguments": ["a", "b"], "program": "/" + "p" * 5000}


def test_a_kernel_goes_on_in_version_5_where_ops_began_in_4(tmp_path: Path) -> None:
    rootfs = bytearray(64 * SECTOR)
    pieces = {
        0: extension(link(1, 4), 1, first=True, version=4),
        1: extension(record(empty(4)) + link(9, 2), 4, version=4),
        9: extension(record(merge(1, sym("n") + number(3))) + END, 2),
    }
    for sector, data in pieces.items():
        rootfs[sector * SECTOR : sector * SECTOR + len(data)] = data
    with reading(tmp_path, bytes(rootfs)) as image:
        assert image.rootfs.version == 4
        assert [piece.version for piece in image.rootfs.extensions] == [4, 4, 5]
        assert image.rootfs.attributes == {"n": 3}


def test_layout_without_and_with_uefi(tmp_path: Path) -> None:
    with open_image(put(tmp_path, disk(filesystem(empty())))) as image:
        assert (image.boot_sector, image.uefi, image.is_stub, image.crash_log) == (True, False, False, None)
        assert [(p.kind, p.offset) for p in image.partitions] == [
            ("bootfs", 1024 + 4096),
            ("rootfs", 1024 + 4096 + 64 * SECTOR),
        ]
    with open_image(put(tmp_path, disk(filesystem(empty()), esp=8 * SECTOR))) as image:
        assert image.uefi
        assert [p.kind for p in image.partitions] == ["esp", "bootfs", "rootfs"]
        assert image.partitions[0].length == 8 * SECTOR


def test_a_missing_or_blank_boot_image_is_seen(tmp_path: Path) -> None:
    for stage2 in (b"", bytes(2 * SECTOR)):
        with open_image(put(tmp_path, disk(filesystem(empty()), stage2=stage2))) as image:
            assert not image.boot_sector


def test_the_boot_file_system_is_read(tmp_path: Path) -> None:
    boot = filesystem(tree(file_node("kernel", 0, []), sym("klib") + tup(sym("children") + tup())))
    with open_image(put(tmp_path, disk(filesystem(empty()), bootfs=boot))) as image:
        assert image.bootfs is not None
        assert [path for path, _ in image.bootfs.walk()] == ["/kernel", "/klib"]


def test_crash_log(tmp_path: Path) -> None:
    crash = b"KLOG" + struct.pack("<Qi", 7, -2) + b"page fault\nat 0" + b"\0old rubbish"
    with open_image(put(tmp_path, disk(filesystem(empty()), crash=crash))) as image:
        assert image.crash_log is not None
        assert (image.crash_log.boot_id, image.crash_log.exit_code) == (7, -2)
        assert image.crash_log.text == "page fault\nat 0"


def test_an_image_that_grew_has_a_larger_root_file_system(tmp_path: Path) -> None:
    root = filesystem(tree(file_node("late", 1, [extent("0", 100, 1)])), size=64 * SECTOR)
    path = put(tmp_path, disk(root))
    with pytest.raises(ImageError, match="ends at byte"):
        open_image(path)
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size + 64 * SECTOR)
    with open_image(path) as image:
        assert image.rootfs.length == 128 * SECTOR
        assert image.rootfs.used_end == 101 * SECTOR


def test_a_bare_file_system_is_read(tmp_path: Path) -> None:
    with open_image(put(tmp_path, filesystem(empty(), label="volume"))) as image:
        assert image.rootfs.label == "volume"
        assert image.bootfs is None
        assert not image.is_stub


def test_a_closed_image_reads_nothing(tmp_path: Path) -> None:
    with reading(tmp_path, filesystem(tree(file_node("f", 4, [extent("0", 20, 1)])))) as image:
        node = image.rootfs.lookup("/f")
        assert isinstance(node, File)
    with (tmp_path / "image.img").open("rb"), pytest.raises(ImageError, match="cannot read"):
        image.rootfs.read_at(node, 0, 4)
