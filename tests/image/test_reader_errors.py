"""Every rule of the format, broken: an ImageError that says which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import ExitCode
from orchestrator.image.codec import MAX_DEPTH
from orchestrator.image.errors import ImageError
from orchestrator.image.listing import tree_listing
from orchestrator.image.nodes import MAX_DIRECTORIES
from orchestrator.image.reader import open_image

from .handmade import (
    END,
    SECTOR,
    disk,
    empty,
    entry,
    extension,
    extent,
    file_node,
    filesystem,
    head,
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


def fails(directory: Path, image: bytes, message: str) -> ImageError:
    with pytest.raises(ImageError, match=message) as caught, open_image(put(directory, image)):
        pass
    assert caught.value.exit_code == ExitCode.VERIFICATION
    return caught.value


def log(records: bytes, *, version: int = 5, label: str = "") -> bytes:
    """A file system whose second extension holds these records."""
    first = extension(link(1, 16), 1, first=True, version=version, label=label)
    return (first + extension(records, 16, version=version)).ljust(64 * SECTOR, b"\0")


ROOTS: list[tuple[str, bytes, str]] = [
    ("name with a slash", tree(file_node("a/b", 0, [])), "named 'a/b'"),
    ("name with NUL", tree(file_node("a\0", 0, [])), r"named 'a\\x00'"),
    ("name .", tree(file_node(".", 0, [])), r"named '\.'"),
    ("name ..", tree(file_node("..", 0, [])), r"named '\.\.'"),
    ("long name", tree(file_node("n" * 256, 0, [])), "longer than 255"),
    ("long target", tree(sym("l") + tup(sym("linktarget") + text("x" * 4096))), "no usable target"),
    ("child is text", tree(sym("a") + text("x")), "not a node"),
    ("child is null", tree(sym("a") + b"\x81\x00"), "not a node"),
    ("no children", tup(sym("program") + text("/x")), "no directory"),
    ("children are text", tup(sym("children") + text("x")), "no directory"),
    ("children of a directory are text", tree(sym("d") + tup(sym("children") + text("x"))), "not a tuple"),
    ("file and directory", tree(sym("d") + tup(sym("children") + tup(), sym("extents") + tup())), "cannot be all"),
    ("file and link", tree(sym("d") + tup(sym("linktarget") + text("x"), sym("extents") + tup())), "cannot be all"),
    ("link without target", tree(sym("l") + tup(sym("linktarget") + number(5))), "no usable target"),
    ("link with NUL", tree(sym("l") + tup(sym("linktarget") + text("a\0b"))), "no usable target"),
    ("extents are text", tree(sym("f") + tup(sym("extents") + text("x"))), "extents of 'f' are not a tuple"),
    ("extent is text", tree(file_node("f", 1, [sym("0") + text("x")])), "not a tuple"),
    ("length is no number", tree(file_node("f", "12x", [])), "length of 'f' is not a number"),
    ("length is negative", tree(file_node("f", -1, [])), "length of 'f' is not a number"),
    ("length is too large", tree(file_node("f", 2**63, [])), "length of 'f' is not a number"),
    ("length has many digits", tree(file_node("f", "9" * 5000, [])), "length of 'f' is not a number"),
    ("length is a vector", tree(sym("f") + tup(sym("filelength") + vector(), sym("extents") + tup())), "not a number"),
    ("place is no number", tree(file_node("f", 1, [extent("x", 20, 1)])), "place of an extent"),
    ("place is huge", tree(file_node("f", 1, [extent(str(2**62), 20, 1)])), "beyond the largest"),
    ("extent without length", tree(file_node("f", 1, [sym("0") + tup(sym("offset") + number(1))])), "is not a number"),
    ("extent outside", tree(file_node("f", 1, [extent("0", 64, 1)])), "ends at byte"),
    ("extent partly outside", tree(file_node("f", 1, [extent("0", 63, 1, 2)])), "ends at byte"),
    ("extent longer than allocated", tree(file_node("f", 1, [extent("0", 20, 2, 1)])), "only 512 allocated"),
    ("extents overlap in the file", tree(file_node("f", 1, [extent("0", 20, 2), extent("1", 30, 1)])), "overlap"),
    (
        "extents overlap on the disk",
        tree(file_node("f", 1, [extent("0", 20, 2)]), file_node("g", 1, [extent("0", 21, 1)])),
        "'f' and 'g' claim the same bytes",
    ),
    ("extent over the log", tree(file_node("f", 1, [extent("0", 16, 1)])), "'the log' and 'f' claim"),
    ("extent over the first sector", tree(file_node("f", 1, [extent("0", 0, 1)])), "claim the same"),
    ("too deep a tuple", tree(attributes=[sym("a") + tup(sym("b") + b"\x91\x04" * 65 + tup())]), "deeper than 64"),
]  # fmt: skip


@pytest.mark.parametrize(("root", "message"), [case[1:] for case in ROOTS], ids=[case[0] for case in ROOTS])
def test_broken_trees(tmp_path: Path, root: bytes, message: str) -> None:
    fails(tmp_path, disk(filesystem(root)), message)


RECORDS: list[tuple[str, bytes, str]] = [
    ("no tuple at all", END, "no root tuple"),
    ("unknown record", b"\x09", "unknown kind 9"),
    ("zeros", b"\0", "unknown kind 0"),
    ("value is text", record(text("x")) + END, "not a tuple"),
    ("root is a vector", record(merge(1)) + END, "index 1 is unknown"),
    ("unknown symbol", record(tup(ref(9) + text("x"))) + END, "index 9 is unknown"),
    ("symbol is a tuple", record(tup(ref(1) + text("x"))) + END, "not a symbol"),
    ("tuple is a symbol", record(empty() + b"") + record(merge(2)) + END, "not a tuple"),
    ("vector is a tuple", record(tup(sym("a") + b"\x20\x01")) + END, "not a vector"),
    ("string by an unknown index", record(tup(sym("a") + head(0, 4, 7))) + END, "index 7 is unknown"),
    ("key of a wrong type", record(tup(text("a") + text("b"))) + END, "has type 4"),
    ("unknown type", record(tup(sym("a") + b"\xd0")) + END, "unknown type 5"),
    ("value cut short", record(b"\x92" + sym("a") + text("b")) + END, "ends inside a value"),
    ("bytes cut short", record(tup(sym("a") + b"\xc7ab")) + END, "runs past the end of its tuple"),
    ("bytes left over", record(empty() + b"\x80") + END, "its value ends after"),
    ("empty tuple record", b"\x02\x00\x00" + END, "ends inside a value"),
    ("segment longer than tuple", b"\x02\x05\x06" + bytes(6), "longer than the rest"),
    ("continuation of nothing", b"\x03\x01\x90" + END, "longer than the rest"),
    ("tuple in a tuple", b"\x02\x05\x01\x90" + record(empty()), "before the one before it ended"),
    ("log ends inside a tuple", b"\x02\x05\x01\x90" + END, "4 bytes before the end"),
    ("tuple larger than the partition", b"\x02" + varint(10**9) + b"\x01\x90", "larger than the partition"),
    ("segment past its extension", b"\x02" + varint(20000) + varint(10000) + b"\x90", "past the end of its extension"),
    ("no end of log", b"\x04" * (16 * SECTOR - 8), "past the end of its extension"),
    ("endless number", b"\x02" + b"\xff" * 20, "larger than 64 bits"),
    ("number over 64 bits", record(tup(sym("a") + b"\xb0" + b"\x83" + b"\xff" * 8 + b"\x7f")) + END, "64 bits"),
    ("endless length", record(b"\x9f" + b"\xff" * 20) + END, "64 bits"),
    ("link back to itself", link(1, 1), "comes back to byte 512"),
    ("link to the start", link(0, 1), "comes back to byte 0"),
    ("link into the log", link(5, 1), "already holds"),
    ("link over the log", link(0, 40), "already holds"),
    ("link outside", link(64, 1), "outside of the partition"),
    ("link partly outside", link(60, 5), "outside of the partition"),
    ("link far outside", link(2**60, 1), "outside of the partition"),
    ("link to nothing", link(20, 0), "outside of the partition"),
    ("link to zeros", link(20, 1), "no TFS file system"),
]  # fmt: skip


@pytest.mark.parametrize(("records", "message"), [c[1:] for c in RECORDS], ids=[c[0] for c in RECORDS])
def test_broken_logs(tmp_path: Path, records: bytes, message: str) -> None:
    fails(tmp_path, disk(log(records)), message)


def test_unknown_version(tmp_path: Path) -> None:
    assert "newer" in fails(tmp_path, disk(filesystem(empty(), version=6)), "version 6 is unknown").remedy


def test_label_without_end(tmp_path: Path) -> None:
    fails(tmp_path, disk(log(END, label="l" * 32)), "label is longer")


def test_wrong_magic_in_either_file_system(tmp_path: Path) -> None:
    good = filesystem(empty())
    fails(tmp_path, disk(b"X" + good[1:]), "no TFS file system")
    fails(tmp_path, disk(good, bootfs=bytes(len(good))), "no TFS file system")


def test_a_directory_in_two_places(tmp_path: Path) -> None:
    # Indices: 1 root, 2 children, 3 its tuple, 4 a, 5 its node, 6 its children, 7 b.
    fails(tmp_path, disk(filesystem(tree(sym("a") + tup(ref(2) + tup()), sym("b") + merge(5)))), "in the tree twice")


def test_a_directory_inside_itself(tmp_path: Path) -> None:
    fails(tmp_path, disk(filesystem(tree(sym("a") + tup(ref(2) + merge(3))))), "in the tree twice")
    fails(tmp_path, disk(filesystem(tree(sym("a") + merge(1)))), "in the tree twice")


def test_a_tree_that_would_double_at_every_level(tmp_path: Path) -> None:
    # Each level holds the next one as a, and again as b: 2^60 paths in a few hundred bytes.
    def level(node: int, left: int) -> bytes:
        if not left:
            return tup(ref(2) + tup())
        return tup(ref(2) + tup(ref(4) + level(node + 2, left - 1), sym("b") + merge(node + 2)))

    # Indices: 1 root, 2 children, 3 its tuple, 4 a, 5 its node, and two for each level.
    root = tup(sym("children") + tup(sym("a") + level(5, 60), sym("b") + merge(5)))
    fails(tmp_path, disk(filesystem(root)), "in the tree twice")


def test_values_that_would_double_at_every_level(tmp_path: Path) -> None:
    # 1 root, 2 children, 3 tuple, 4 x, 5 vector, 6 y: the same vector under two names.
    root = tree(attributes=[sym("x") + vector(number(1)), sym("y") + b"\x20\x05"])
    fails(tmp_path, disk(filesystem(root)), "used in two places")


def test_files_that_share_their_extents(tmp_path: Path) -> None:
    # 1 root, 2 children, 3 its tuple, 4 f, 5 its node, 6 filelength, 7 extents, 8 the tuple of extents.
    shared = sym("g") + tup(sym("extents") + merge(8))
    root = tree(file_node("f", 0, [extent("0", 20, 0)]), shared)
    fails(tmp_path, disk(filesystem(root)), "storage of 'g' is in the tree twice")


def test_long_paths(tmp_path: Path) -> None:
    def nested(levels: int) -> bytes:
        value = empty()
        for _ in range(levels):
            value = tup(sym("children") + tup(sym("n" * 255) + value))
        return value

    with open_image(put(tmp_path, disk(filesystem(nested(15))))) as image:
        assert max(len(path) for path, _ in image.rootfs.walk()) == 15 * 256
    fails(tmp_path, disk(filesystem(nested(16))), "longer than 4095")


def test_nesting(tmp_path: Path) -> None:
    def nested(levels: int) -> bytes:
        value = empty()
        for _ in range(levels):
            value = tup(sym("children") + tup(sym("d") + value))
        return value

    deep = filesystem(nested(MAX_DIRECTORIES), size=256 * SECTOR)
    fails(tmp_path, disk(deep), f"deeper than {MAX_DIRECTORIES}")
    with open_image(put(tmp_path, disk(filesystem(nested(MAX_DIRECTORIES - 1))))) as image:
        assert max(path.count("/") for path, _ in image.rootfs.walk()) == MAX_DIRECTORIES - 1
    absurd = b"".join(b"\x91\x81a" for _ in range(MAX_DEPTH + 1)) + tup()
    fails(tmp_path, disk(filesystem(absurd)), f"deeper than {MAX_DEPTH}")


def test_a_file_of_holes_is_not_hashed_for_ever(tmp_path: Path) -> None:
    path = put(tmp_path, disk(filesystem(tree(file_node("f", 2**62, [])))))
    with open_image(path) as image, pytest.raises(ImageError, match="nearly all holes"):
        tree_listing(image.rootfs)


def patch(image: bytes, at: int, data: bytes) -> bytes:
    return image[:at] + data + image[at + len(data) :]


GOOD = disk(filesystem(empty()))
DISKS: list[tuple[str, Callable[[], bytes], str]] = [
    ("empty", lambda: b"", "has 0 bytes"),
    ("one sector", lambda: GOOD[:512], "has 512 bytes"),
    ("no signature", lambda: patch(GOOD, 510, b"\0\0"), "no partition table"),
    ("text", lambda: b"text\n" * 1000, "no partition table"),
    ("cut short", lambda: GOOD[:-SECTOR], "has .* bytes"),
    ("no partitions", lambda: patch(GOOD, 446, bytes(64)), "no bootfs"),
    ("no rootfs", lambda: patch(GOOD, 462, bytes(16)), "no rootfs"),
    ("another kind of partition", lambda: patch(GOOD, 446, entry(0x07, 5120, 512)), "no bootfs"),
    ("esp and nothing else", lambda: patch(GOOD, 446, entry(0xEF, 5120, 512) + bytes(16)), "no bootfs|no rootfs"),
    ("partitions overlap", lambda: patch(GOOD, 462, entry(0x83, 6144, 1024)), "overlap"),
    ("partition over the boot code", lambda: patch(GOOD, 446, entry(0x83, 512, 512)), "do not fit"),
    ("boot code without end", lambda: patch(GOOD, 434, b"\xff" * 8), "do not fit"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), [c[1:] for c in DISKS], ids=[c[0] for c in DISKS])
def test_broken_disks(tmp_path: Path, make: Callable[[], bytes], message: str) -> None:
    fails(tmp_path, make(), message)


def test_a_missing_image_or_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        open_image(tmp_path / "none.img")
    for folder in (tmp_path, Path("/dev/shm")):  # of tmpfs a directory has no end to seek
        with pytest.raises(ImageError):
            open_image(folder)
