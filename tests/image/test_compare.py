"""`compare_images`: whatever differs in two images is named, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.image.compare import ImageDifference, compare_images, same_content
from orchestrator.image.reader import open_image
from orchestrator.image.writer import BootFiles, ImageWriter
from orchestrator.values import Value

from .handmade import SECTOR, disk, extent, file_node, filesystem, number, record, sym, text, tree, tup

BOOT = BootFiles(boot_img=None, kernel=b"kernel", klibs={"tls": b"one", "ntp": b"two"})
FILES = {"/a": b"a" * 700, "/lib/x.so": b"\x7fELF" + bytes(3000) + b"end"}
MANIFEST: dict[str, Value] = {"program": "/a", "arguments": ["a"], "environment": {"A": "1", "B": "2"}}


def write(
    path: Path,
    boot: BootFiles = BOOT,
    files: dict[str, bytes] = FILES,
    links: dict[str, str] | None = None,
    manifest: dict[str, Value] = MANIFEST,
    **more: int | str,
) -> Path:
    with ImageWriter(path, boot, **more) as writer:  # type: ignore[arg-type]
        for name, data in files.items():
            writer.add_file(name, len(data), [data])
        for name, target in (links or {"/z": "a"}).items():
            writer.add_symlink(name, target)
        writer.finish(manifest)
    return path


def compared(one: Path, other: Path) -> list[ImageDifference]:
    with open_image(one) as left, open_image(other) as right:
        return compare_images(left, right)


def patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)


CASES: dict[str, tuple[Callable[[Path], Path], set[tuple[str, str, str]]]] = {
    "nothing": (write, set()),
    "kernel": (
        lambda path: write(path, BootFiles(boot_img=None, kernel=b"kernel!", klibs=BOOT.klibs)),
        {("kernel", "~", "/kernel")},
    ),
    "klibs": (
        lambda path: write(path, BootFiles(boot_img=None, kernel=b"kernel", klibs={"tls": b"0ne", "sev": b""})),
        {("klibs", "~", "/klib/tls"), ("klibs", "-", "/klib/ntp"), ("klibs", "+", "/klib/sev")},
    ),
    "loader": (
        lambda path: write(path, BootFiles(boot_img=None, kernel=b"kernel", klibs=BOOT.klibs, efi=b"MZ")),
        {("boot", "+", "/EFI/BOOT/BOOTX64.EFI")},
    ),
    "manifest": (
        lambda path: write(path, manifest={"program": "/a", "arguments": ["b"], "environment": {"A": "2"}, "t": "1"}),
        {
            ("manifest", "~", "arguments"),
            ("manifest", "~", "environment.A"),
            ("manifest", "-", "environment.B"),
            ("manifest", "+", "t"),
        },
    ),
    "a byte of a file": (
        lambda path: write(path, files={**FILES, "/a": b"a" * 600 + b"b" + b"a" * 99}),
        {("tree", "~", "/a")},
    ),
    "files and directories": (
        lambda path: write(path, files={"/a": FILES["/a"], "/m/n": b""}),
        {("tree", "-", "/lib"), ("tree", "-", "/lib/x.so"), ("tree", "+", "/m"), ("tree", "+", "/m/n")},
    ),
    "a link": (lambda path: write(path, links={"/z": "b"}), {("tree", "~", "/z")}),
    "a link for a file": (
        lambda path: write(path, files={"/lib/x.so": FILES["/lib/x.so"]}, links={"/m": "x", "/z": "a"}),
        {("tree", "-", "/a"), ("tree", "+", "/m")},
    ),
    "label": (lambda path: write(path, label="data"), {("tree", "~", "label")}),
    "free space": (lambda path: write(path, minimum_size=2**25), {("free space", "~", "size")}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_differs_is_named(tmp_path: Path, case: str) -> None:
    make, expected = CASES[case]
    differences = compared(write(tmp_path / "one"), make(tmp_path / "other"))
    assert {
        (difference.part, difference.change, difference.path) for difference in differences if difference.part != "form"
    } == expected
    assert same_content(differences) == (not expected)
    back = compared(tmp_path / "other", tmp_path / "one")
    mirrored = {"+": "-", "-": "+", "~": "~"}
    assert {(part, mirrored[change], path) for part, change, path in expected} == {
        (difference.part, difference.change, difference.path) for difference in back if difference.part != "form"
    }
    if case == "nothing":
        assert differences == []
    if case == "a byte of a file":
        (row,) = (difference for difference in differences if difference.part == "tree")
        assert (row.offset, row.detail) == (600, "the same size, from byte 600 on")


def test_the_encoding_alone_is_form(tmp_path: Path) -> None:
    differences = compared(write(tmp_path / "one"), write(tmp_path / "other", version=4))
    assert same_content(differences)
    assert {difference.path for difference in differences} == {
        f"{name} file system: {what}" for name in ("boot", "root") for what in ("encoding", "UUID")
    }


def handmade(path: Path, entries: list[bytes], places: dict[int, bytes], crash: bytes = b"") -> Path:
    rootfs = bytearray(filesystem(tree(*entries)))
    for sector, data in places.items():
        rootfs[sector * SECTOR : sector * SECTOR + len(data)] = data
    path.write_bytes(disk(bytes(rootfs), crash=crash))
    return path


def test_order_and_places_alone_are_form(tmp_path: Path) -> None:
    def file(name: str, sector: int) -> bytes:
        return file_node(name, 3, [extent("0", sector, 1)])

    one = handmade(tmp_path / "one", [file("a", 20), file("b", 30)], {20: b"aaa", 30: b"bbb"})
    other = handmade(tmp_path / "other", [file("b", 40), file("a", 30)], {40: b"bbb", 30: b"aaa"})
    differences = compared(one, other)
    assert [(difference.part, difference.path) for difference in differences] == [
        ("form", "root file system: order of entries"),
        ("form", "root file system: places of files"),
    ]


def test_what_only_bytes_tell_apart(tmp_path: Path) -> None:
    """A byte anywhere: each region of an image is named, and no change of a valid image goes unnoticed."""
    node = file_node("a", 3, [extent("0", 20, 1)])
    one = handmade(tmp_path / "one", [node], {20: b"aaa"}, crash=b"KLOG" + bytes(12) + b"text\0")
    data = one.read_bytes()
    rootfs = len(data) - 64 * SECTOR
    places = {
        3: ("boot", "boot sector"),
        426: ("boot", "region record"),
        447: ("form", "boot sector and partition table"),  # CHS, which nobody reads
        SECTOR + 5: ("boot", "second stage"),
        2 * SECTOR + 20: ("boot", "crash log"),
        rootfs + 9: ("form", "root file system: UUID"),
        rootfs + 300: ("form", "log of the root file system"),  # after the link, in the rest of the extension
        rootfs + 20 * SECTOR + 1: ("tree", "/a"),
        rootfs + 20 * SECTOR + 4: ("free space", "contents"),  # after the file's end, in its last sector
        rootfs + 40 * SECTOR: ("free space", "contents"),
    }
    for offset, expected in places.items():
        other = tmp_path / "other"
        other.write_bytes(data)
        patch(other, offset, b"\x5a")
        assert [(difference.part, difference.path) for difference in compared(one, other)] == [expected], offset


def test_what_a_kernel_noted(tmp_path: Path) -> None:
    times = sym("d") + tup(sym("children") + tup(), sym("mtime") + number(5))
    one = handmade(tmp_path / "one", [sym("d") + tup(sym("children") + tup())], {})
    differences = compared(one, handmade(tmp_path / "other", [times], {}))
    assert [(difference.part, difference.path, difference.detail) for difference in differences] == [
        ("tree", "mtime", "recorded for 0 / 1 nodes")
    ]
    later = sym("d") + tup(sym("children") + tup(), sym("mtime") + number(6))
    differences = compared(tmp_path / "other", handmade(tmp_path / "later", [later], {}))
    assert [difference.detail for difference in differences] == ["recorded for 1 / 1 nodes, with different values"]


def test_holes_are_zeros_and_not_gone_through(tmp_path: Path) -> None:
    holes = handmade(tmp_path / "one", [file_node("f", 2**61, [extent("4", 20, 1)])], {20: b"x"})
    zeros = handmade(tmp_path / "other", [file_node("f", 2**61, [extent("0", 24, 1), extent("4", 20, 1)])], {20: b"x"})
    assert [difference.path for difference in compared(holes, zeros) if difference.part != "form"] == [
        "size"
    ]  # a sector less is free
    more = handmade(tmp_path / "other", [file_node("f", 2**61, [extent("0", 24, 1)])], {24: b"\0x"})
    (row, *_) = compared(holes, more)
    assert (row.part, row.path, row.offset) == ("tree", "/f", 1)


def test_a_log_that_says_the_same_otherwise(tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.write_bytes(disk(filesystem(tree(sym("l") + tup(sym("linktarget") + text("x"))))))
    data = one.read_bytes()
    other = tmp_path / "other"
    noop = record(tree(sym("l") + tup(sym("linktarget") + text("x")))) + b"\x01"
    assert data.count(noop) == 1
    other.write_bytes(data.replace(noop + b"\0", b"\x04" + noop))
    assert [(difference.part, difference.path) for difference in compared(one, other)] == [
        ("form", "log of the root file system")
    ]


def test_images_and_volumes(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.write_bytes(filesystem(tree()))
    image = tmp_path / "image"
    image.write_bytes(disk(filesystem(tree())))
    assert compared(volume, volume) == []
    differences = compared(volume, image)
    assert {(difference.part, difference.path) for difference in differences if difference.part != "form"} >= {
        ("boot", "boot file system")
    }
