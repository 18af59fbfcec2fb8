"""`convert_image`: what an image holds decides its bytes, and nothing that it holds gets lost unsaid."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.image.compare import compare_images, same_content
from orchestrator.image.convert import Converted, convert_image
from orchestrator.image.errors import ImageError
from orchestrator.image.reader import open_image
from orchestrator.image.writer import BootFiles, ImageWriter
from orchestrator.stub_kernel import stub_boot_image, stub_kernel
from orchestrator.values import Value
from tests.standins.ops.disk import Settings, write_image
from tests.standins.ops.guest import Folder, Guest, Link
from tests.standins.ops.home import Release

from .handmade import (
    SECTOR,
    disk,
    extent,
    file_node,
    filesystem,
    head,
    link,
    number,
    record,
    sym,
    text,
    tree,
    tup,
    varint,
)
from .handmade import extension as piece
from .test_codec import NAMES as KEYS
from .test_codec import TEXTS
from .test_writer import TREES, Node, flatten
from .test_writer import write as write_native


def convert(source: Path, target: Path, *, lossy: bool = False) -> Converted:
    with open_image(source) as image:
        return convert_image(image, target, lossy=lossy)


SIZES = {f"/d{n % 3}/file-{n}": n * 37 % 3000 for n in range(60)}


def release(folder: Path, *, bios: bool = True, efi: bool = True) -> Release:
    folder.mkdir(exist_ok=True)
    files = {"kernel.img": stub_kernel(), "boot.img": stub_boot_image(), "bootx64.efi": b"MZ loader", "tls": b"klib"}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return Release(
        version="0.1.51", kernel=folder / "kernel.img", klibs=folder,
        boot=folder / "boot.img" if bios else None, efi=folder / "bootx64.efi" if efi else None,
    )  # fmt: skip


def of_ops(folder: Path, target: Path, kernel_files: Release, options: Settings) -> Path:
    """An image as ops 0.1.43 writes it: random UUIDs, entries and data in random order."""
    guest = Guest()
    for path, size in SIZES.items():
        host = folder / path[1:].replace("/", "-")
        host.write_bytes(random.Random(path).randbytes(size))
        guest.add_file(path, str(host))
    guest.root["ln"] = Link(target="d1/file-1")
    empty: Folder = {}
    guest.root["workspace"] = empty
    guest.klibs = {"tls": str(folder / "tls")}
    guest.attributes.update(
        {"program": "/d1/file-1", "arguments": ["a", "b"], "klibs": "bootfs", "mounts": {"%0": "/x"}}
    )
    guest.environment = {"USER": "root", "PWD": "/"}
    write_image(target, guest, kernel_files, options)
    return target


def of_native(folder: Path, target: Path, kernel_files: Release, options: Settings) -> Path:
    boot = BootFiles(
        boot_img=kernel_files.boot.read_bytes() if kernel_files.boot else None,
        kernel=kernel_files.kernel,
        klibs={"tls": folder / "tls"},
        efi=kernel_files.efi.read_bytes() if kernel_files.efi and options.uefi else None,
    )
    with ImageWriter(target, boot, version=options.version, minimum_size=options.minimum) as writer:
        for path in sorted(SIZES, key=lambda name: [part.encode() for part in name.split("/")]):
            writer.add_file(path, SIZES[path], [random.Random(path).randbytes(SIZES[path])])
        writer.add_symlink("/ln", "d1/file-1")
        writer.add_directory("/workspace")
        writer.finish(
            {
                "program": "/d1/file-1", "arguments": ["a", "b"], "klibs": "bootfs", "mounts": {"%0": "/x"},
                "environment": {"USER": "root", "PWD": "/"},
            }
        )  # fmt: skip
    return target


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    ("minimum", "uefi", "bios"), [(0, False, True), (2**26, False, True), (0, True, True), (2**26, True, False)]
)
def test_an_image_of_ops_gets_natives_bytes(tmp_path: Path, version: int, minimum: int, uefi: bool, bios: bool) -> None:
    kernel_files, options = release(tmp_path, bios=bios), Settings(version=version, minimum=minimum, uefi=uefi)
    native = of_native(tmp_path, tmp_path / "native", kernel_files, options).read_bytes()
    ops = [of_ops(tmp_path, tmp_path / f"ops{number}", kernel_files, options) for number in range(2)]
    assert len({native, *(path.read_bytes() for path in ops)}) == 3
    for path in [*ops, tmp_path / "native"]:
        converted = convert(path, tmp_path / "converted")
        assert (tmp_path / "converted").read_bytes() == native
        assert converted.left_out == ()
    with open_image(ops[0]) as one, open_image(tmp_path / "native") as other:
        differences = compare_images(one, other)
    assert differences
    assert same_content(differences)


def test_label_and_free_space_stay(tmp_path: Path) -> None:
    boot = BootFiles(boot_img=stub_boot_image(), kernel=b"k")
    with ImageWriter(tmp_path / "one", boot, label="data", minimum_size=2**25) as writer:
        writer.finish({})
    convert(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


ATTRIBUTES = st.dictionaries(KEYS, TEXTS | st.lists(TEXTS, max_size=3) | st.integers(0, 99) | st.none(), max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, attributes=ATTRIBUTES, version=st.sampled_from([4, 5]))
def test_canonical_images_are_their_own(
    tmp_path: Path, tree: dict[str, Node], attributes: dict[str, Value], version: int
) -> None:
    write_native(tmp_path / "one", tree, attributes, version)
    convert(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert len(list(flatten(tree))) >= len(tree)


def handmade(path: Path, *entries: bytes, places: dict[int, bytes] | None = None, attributes: bytes = b"") -> Path:
    """An image with a kernel in its boot file system."""
    boot = bytearray(filesystem(tree(file_node("kernel", 3, [extent("0", 30, 1)]))))
    boot[30 * SECTOR : 30 * SECTOR + 3] = b"krn"
    rootfs = bytearray(filesystem(tree(*entries, attributes=[attributes] if attributes else [])))
    for sector, data in (places or {}).items():
        rootfs[sector * SECTOR : sector * SECTOR + len(data)] = data
    path.write_bytes(disk(bytes(rootfs), bootfs=bytes(boot)))
    return path


def test_a_kernels_log_and_pieces_of_files(tmp_path: Path) -> None:
    """Integers, several tuples, files in pieces and with holes: the same bytes as without all that."""
    pieces = [extent("0", 20, 1), extent("2", 40, 1, 4)]
    source = handmade(
        tmp_path / "one",
        file_node("b", 2 * SECTOR + 5, pieces),
        sym("a") + tup(sym("linktarget") + text("b")),
        places={20: b"x" * SECTOR, 40: b"y" * 5},
        attributes=sym("n") + number(7),
    )
    convert(source, tmp_path / "converted")
    with ImageWriter(
        tmp_path / "native",
        BootFiles(boot_img=source.read_bytes()[:446] + bytes(64) + source.read_bytes()[510:1024], kernel=b"krn"),
        minimum_size=source.stat().st_size,
    ) as writer:
        writer.add_symlink("/a", "b")
        content = b"x" * SECTOR + bytes(SECTOR) + b"y" * 5
        writer.add_file("/b", len(content), [content])
        writer.finish({"n": 7})
    assert (tmp_path / "converted").read_bytes() == (tmp_path / "native").read_bytes()


def boot_with(path: Path, *children: bytes, attributes: bytes = b"", crash: bytes = b"") -> Path:
    root = tree(file_node("kernel", 0, []), *children, attributes=[attributes] if attributes else [])
    path.write_bytes(disk(filesystem(tree()), bootfs=filesystem(root), crash=crash))
    return path


FOLDER = tup(sym("children") + tup())
LOSSES: dict[str, Callable[[Path], Path]] = {
    "/s (socket)": lambda path: handmade(path, sym("s") + tup(sym("socket") + b"\x81\x00")),
    "mtime of 1 node": lambda path: handmade(path, sym("d") + tup(sym("children") + tup(), sym("mtime") + number(1))),
    "5 bytes in free space that are not zero": lambda path: handmade(path, places={50: b"leaks"}),
    "the boot file system's /other": lambda path: boot_with(path, file_node("other", 0, [])),
    "the boot file system's /klib/deep": lambda path: boot_with(
        path, sym("klib") + tup(sym("children") + tup(sym("deep") + FOLDER))
    ),
    "the boot file system's attribute key": lambda path: boot_with(path, attributes=sym("key") + text("x")),
    "the crash log": lambda path: boot_with(path, crash=b"KLOG" + bytes(12) + b"text\0"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_would_get_lost_is_named(tmp_path: Path, loss: str) -> None:
    source = LOSSES[loss](tmp_path / "one")
    with pytest.raises(ImageError) as raised:
        convert(source, tmp_path / "other")
    assert raised.value.message == f"canonical form has no place for {loss}"
    assert "--lossy" in raised.value.remedy
    assert convert(source, tmp_path / "other", lossy=True).left_out == (loss,)
    assert convert(tmp_path / "other", tmp_path / "again").left_out == ()


KERNEL = filesystem(tree(file_node("kernel", 0, [])))
REFUSED = {
    "a volume": (filesystem(tree()), "this is a volume"),
    "no kernel": (disk(filesystem(tree())), "no kernel"),
    "a link for a kernel": (
        disk(filesystem(tree()), bootfs=filesystem(tree(sym("kernel") + tup(sym("linktarget") + text("x"))))),
        "no kernel",
    ),
    "no loader": (disk(filesystem(tree()), bootfs=KERNEL, esp=80 * SECTOR), "no /EFI/BOOT/BOOTX64.EFI"),
    "holes": (disk(filesystem(tree(file_node("f", 2**60, []))), bootfs=KERNEL), "nearly all holes"),
    "long names": (
        disk(filesystem(tree(head(1, 0, 400) + "ü".encode() * 200 + tup(sym("extents") + tup()))), bootfs=KERNEL),
        "too long",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_converted(tmp_path: Path, case: str) -> None:
    data, words = REFUSED[case]
    (tmp_path / "one").write_bytes(data)
    for lossy in (False, True):
        with pytest.raises(ImageError, match=words):
            convert(tmp_path / "one", tmp_path / "other", lossy=lossy)


def test_logs_of_several_extensions(tmp_path: Path) -> None:
    root = tree(*(sym(f"l{n}") + tup(sym("linktarget") + text("x" * 50)) for n in range(30)))
    rootfs = bytearray(64 * SECTOR)
    pieces = {
        0: piece(link(9, 2), 1, first=True),
        9: piece(b"\x02" + varint(len(root)) + varint(200) + root[:200] + link(3, 6), 2),
        3: piece(b"\x03" + varint(len(root) - 200) + root[200:] + b"\x01", 6),
    }
    for sector, data in pieces.items():
        rootfs[sector * SECTOR : sector * SECTOR + len(data)] = data
    (tmp_path / "one").write_bytes(disk(bytes(rootfs), bootfs=KERNEL))
    (tmp_path / "two").write_bytes(disk(filesystem(root), bootfs=KERNEL))
    assert record(root) in (tmp_path / "two").read_bytes()
    convert(tmp_path / "one", tmp_path / "a")
    convert(tmp_path / "two", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
