"""QEMU boots an image with the stub kernel."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator import stub_kernel as stub
from orchestrator.image.writer import BootFiles, ImageWriter

pytestmark = pytest.mark.slow


def test_it_says_its_line_and_stops_the_machine(tmp_path: Path) -> None:
    qemu = shutil.which("qemu-system-x86_64")
    assert qemu, "qemu-system-x86_64 is missing; `make test` installs it (apt: qemu-system-x86)"
    image = tmp_path / "stub.img"
    with ImageWriter(image, BootFiles(boot_img=stub.stub_boot_image(), kernel=stub.stub_kernel())) as writer:
        writer.add_file("/program", 4, [b"\x7fELF"])
        writer.finish({"program": "/program"})
    disk = f"file={image},format=raw,if=none,id=hd0,snapshot=on"
    done = subprocess.run(
        [
            *(qemu, "-machine", "q35", "-m", "64M", "-accel", "tcg"),
            *("-device", "virtio-scsi-pci,id=scsi0", "-device", "scsi-hd,bus=scsi0.0,drive=hd0", "-drive", disk),
            *("-device", "isa-debug-exit", "-no-reboot", "-display", "none", "-serial", "stdio"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )
    assert done.stdout.decode() == f"\r\n{stub.MESSAGE}\r\n"
    assert done.returncode == stub.STUB_EXIT_STATUS
