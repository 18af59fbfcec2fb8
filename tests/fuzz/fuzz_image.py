"""Fuzzes the image reader with atheris: `python -m tests.fuzz.fuzz_image [-max_total_time=600] [corpus directory]`.

Every input is a recipe: one of the seed images below with some bytes replaced, or a seed whose log, or whose root
tuple, is the input itself. Only ImageError may come out of reading it.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from orchestrator.image.compare import compare_images
from orchestrator.image.convert import convert_image
from orchestrator.image.errors import ImageError
from orchestrator.image.listing import tree_digest, tree_listing
from orchestrator.image.output import ImageOutput
from orchestrator.image.reader import Image, open_image
from orchestrator.image.tfs import TfsWriter
from orchestrator.image.tree import File
from tests.image.handmade import (
    END,
    SECTOR,
    disk,
    empty,
    esp,
    extension,
    extent,
    file_node,
    filesystem,
    link,
    merge,
    number,
    record,
    ref,
    sym,
    text,
    tree,
    tup,
    varint,
    vector,
)

_BOOTFS = 2 * SECTOR + 4096
"""Where the first partition starts in the seeds, the EFI partition of one."""


def _of_writer(version: int) -> bytes:
    """A file system of our own writer, with the log's empty rest cut away."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "tfs"
        output = ImageOutput(path)
        writer = TfsWriter(output, 0, version=version, label="seed")
        writer.add_file("/bin/prover", 600, [b"\x7fELF" * 150])
        writer.add_symlink("/lib", "usr/lib")
        writer.add_directory("/tmp")
        writer.add_file("/usr/lib/libc.so.6", 3, [b"abc"])
        writer.finish({"program": "/bin/prover", "arguments": ["a", "b"], "mounts": {"%0": "/workspace"}})
        output.set_size(1030 * SECTOR)
        output.close()
        return path.read_bytes()


def _of_kernel() -> bytes:
    """Several tuples in several extensions, with integers, deletions, renames, holes."""
    root = tree(
        file_node("f", 3000, [extent("0", 40, 2), extent("4", 44, 1, 4, sym("uninited") + text("true"))]),
        sym("d") + tup(ref(2) + tup(sym("l") + tup(sym("linktarget") + text("../f")))),
        sym("s") + tup(sym("socket") + b"\x81\x00"),
        attributes=[sym("program") + text("/f"), sym("list") + vector(number(-1), text("x"), tup())],
    )
    later = [merge(1, sym("trace") + text("t")), merge(3, sym("gone") + tup()), merge(3, sym("gone") + b"\x80")]
    rootfs = bytearray(64 * SECTOR)
    pieces = {
        0: extension(link(2, 1), 1, first=True, label="k"),
        2: extension(b"\x02" + varint(len(root)) + varint(100) + root[:100] + link(30, 3), 1),
        30: extension(b"\x04\x03" + varint(len(root) - 100) + root[100:] + record(later[0]) + link(8, 2), 3),
        8: extension(record(later[1]) + record(later[2]) + END, 2),
    }
    for sector, data in pieces.items():
        rootfs[sector * SECTOR : sector * SECTOR + len(data)] = data
    return bytes(rootfs)


def _of_uefi(boot: bytes) -> bytes:
    """An image with a loader in its EFI partition."""
    partition = esp(b"MZ" * 700)
    image = bytearray(disk(_of_kernel(), bootfs=boot, esp=len(partition)))
    image[_BOOTFS : _BOOTFS + len(partition)] = partition
    return bytes(image)


def _seeds() -> list[bytes]:
    boot = filesystem(tree(file_node("kernel", 0, [])))
    crash = b"KLOG" + bytes(12) + b"text\0"
    return [
        disk(_of_kernel(), bootfs=boot, crash=crash),
        _of_uefi(boot),
        disk(filesystem(empty(4), version=4), bootfs=boot),
        disk(_of_writer(5), bootfs=boot),
        disk(_of_writer(4), bootfs=boot),
        _of_kernel(),
    ]


SEEDS = _seeds()
_REFERENCE = Path(tempfile.mkstemp(prefix="fuzz-image-")[1])
_REFERENCE.write_bytes(SEEDS[0])
atexit.register(_REFERENCE.unlink)
# Where the bytes that mean something are: the first sector, the boot file system's log, the root file system's log.
_ROOTFS = _BOOTFS + 64 * SECTOR
_PLACES = [(0, 512), (_BOOTFS, 1200), (_ROOTFS, 2048), (_ROOTFS + 8 * SECTOR, 600), (_ROOTFS + 30 * SECTOR, 800)]


def build(recipe: bytes) -> bytes:
    """The image that a recipe describes. Byte 0 picks the seed, byte 1 what the rest is."""
    seed, kind, rest = recipe[0] % len(SEEDS), recipe[1] % 4, recipe[2:]
    if kind == 0:
        return disk(extension(link(1, 62), 1, first=True) + extension(rest[: 60 * SECTOR], 62) + bytes(SECTOR))
    if kind == 1:
        version = 4 + seed % 2
        return disk(filesystem(rest[: 14 * SECTOR], version=version))
    image = bytearray(SEEDS[seed])
    while len(rest) >= 5:
        start, length = _PLACES[rest[0] % len(_PLACES)]
        at = (start + int.from_bytes(rest[1:3], "little") % length) % len(image)
        count = 1 + rest[3] % 8
        image[at : at + count] = rest[4 : 4 + count][: len(image) - at]
        rest = rest[4 + count :]
    if kind == 3 and rest:
        del image[len(image) * rest[0] // 256 :]
    return bytes(image)


def exercise(image: bytes) -> bool:
    """Read everything, compare and convert it; whether it is a valid image. Anything but ImageError is a finding."""
    descriptor = os.memfd_create("image")
    try:
        os.write(descriptor, image)
        with open_image(Path(f"/proc/self/fd/{descriptor}")) as opened:
            assert opened.rootfs.used_end <= opened.rootfs.length
            assert opened.is_stub in (True, False)
            for filesystem_ in filter(None, (opened.bootfs, opened.rootfs)):
                for path, node in filesystem_.walk():
                    filesystem_.resolve(path)
                    if isinstance(node, File):
                        assert sum(part.length for part in node.extents) == node.size
                        filesystem_.read_at(node, max(0, node.size - 100), 200)
                        next(filesystem_.read(node), b"")
                if all(not isinstance(node, File) or node.size < 2**22 for _, node in filesystem_.walk()):
                    tree_digest(tree_listing(filesystem_))
            with open_image(_REFERENCE) as reference:
                assert compare_images(opened, reference) or image == SEEDS[0]
            assert compare_images(opened, opened) == []
            _convert(opened)
    except ImageError:
        return False
    finally:
        os.close(descriptor)
    return True


def _convert(opened: Image) -> None:
    """Canonical form, with nothing lost, is its own canonical form."""
    with tempfile.TemporaryDirectory() as directory:
        once, twice = Path(directory) / "once", Path(directory) / "twice"
        try:
            convert_image(opened, once, lossy=True)
        except ImageError:
            return
        with open_image(once) as converted:
            assert convert_image(converted, twice).left_out == ()
        with open_image(twice) as again, open_image(once) as converted:
            assert compare_images(converted, again) == []


def _one_input(data: bytes) -> None:
    if len(data) > 2:
        exercise(build(data))


def _corpus(directory: Path) -> None:
    """Starting points: valid tuples and logs, and small patches of every seed."""
    root = tree(file_node("f", 5, [extent("0", 20, 1)]), attributes=[sym("a") + vector(text("x"), number(3))])
    (directory / "log").write_bytes(b"\0\0" + record(root) + record(merge(1, sym("b") + b"\x80")) + link(40, 1) + END)
    (directory / "tuple-5").write_bytes(b"\1\1" + root)
    (directory / "tuple-4").write_bytes(b"\0\1" + empty(4))
    for seed in range(len(SEEDS)):
        for kind in (2, 3):
            (directory / f"patch-{seed}-{kind}").write_bytes(bytes([seed, kind, 2, 0, 0, 0, 0x4E, 0x80]))


def main() -> None:
    """Run libFuzzer with what the command line says."""
    atheris: Any = importlib.import_module("atheris")  # only this needs it, and it carries no types
    with tempfile.TemporaryDirectory() as directory:
        _corpus(Path(directory))
        atheris.instrument_all()
        atheris.Setup([*sys.argv, directory], _one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
