"""The stub kernel's bytes: what its assembly says, and what a boot image must be."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

from elftools.elf.elffile import ELFFile

from orchestrator import stub_kernel as stub
from orchestrator.image.mbr import REGION_AT, TABLE_AT
from orchestrator.image.reader import open_image
from orchestrator.image.tree import File
from orchestrator.image.writer import BootFiles, ImageWriter


def test_boot_image_tells_its_length() -> None:
    image = stub.stub_boot_image()
    _, length, kind = struct.unpack_from("<QQI", image, REGION_AT)
    assert (kind, 512 + length) == (12, len(image))
    assert image[TABLE_AT:512] == bytes(64) + b"\x55\xaa"
    assert stub.MESSAGE.encode() in image[:REGION_AT]


def test_kernel_is_a_valid_executable() -> None:
    kernel = stub.stub_kernel()
    elf = ELFFile(BytesIO(kernel))
    assert (elf.get_machine_arch(), elf.elfclass, elf["e_type"]) == ("x64", 64, "ET_EXEC")
    (segment,) = elf.iter_segments()
    assert segment["p_filesz"] == len(kernel)
    entry = elf["e_entry"] - segment["p_vaddr"]
    assert kernel[entry : entry + 4] == b"\xfa\xf4\xeb\xfd"  # cli; hlt; jump back


def test_an_image_with_it_is_recognised(tmp_path: Path) -> None:
    for kernel, expected in ((stub.stub_kernel(), True), (b"\x7fELF another kernel", False)):
        with ImageWriter(tmp_path / "i", BootFiles(boot_img=stub.stub_boot_image(), kernel=kernel)) as writer:
            writer.finish({})
        with open_image(tmp_path / "i") as image:
            assert image.is_stub is expected
            assert image.boot_sector


def test_elf_files_are_read_where_they_lie(tmp_path: Path) -> None:
    with ImageWriter(tmp_path / "i", BootFiles(boot_img=None, kernel=stub.stub_kernel())) as writer:
        writer.finish({})
    with open_image(tmp_path / "i") as image:
        assert image.bootfs is not None
        kernel = image.bootfs.lookup("/kernel")
        assert isinstance(kernel, File)
        with image.bootfs.open_file(kernel) as stream:
            assert ELFFile(stream)["e_entry"] == 0x400078
