"""The machine code that the package holds in hex, against its assembly. Needs nasm and binutils for aarch64.

    python -m tests.support.machine_code

Exit 0: all of it is what the assembly says; pieces whose assembler is missing here are named. 1: some is not.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from orchestrator import stub_kernel as stub
from orchestrator.engine.probe import EXIT_0
from orchestrator.run.qemu.accelerator import PROBE
from orchestrator.run.sandbox import launcher

PACKAGE = Path(__file__).resolve().parents[2] / "orchestrator"
NASM = "nasm"
AARCH64 = "aarch64-linux-gnu-as"
PACKAGES = {NASM: "nasm", AARCH64: "binutils-aarch64-linux-gnu"}
"""Each assembler's Debian package."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Machine code of the package, its assembly, and the program that assembles it."""

    name: str
    text: str
    code: bytes
    assembler: str = NASM


def pieces() -> Iterator[Piece]:
    """All that there is."""
    for name, code in (("stub_boot.asm", stub.stub_boot_image()), ("stub_kernel.asm", stub.stub_kernel())):
        yield Piece(name=name, text=(PACKAGE / name).read_text(), code=code)
    launching = (PACKAGE / "run" / "sandbox" / "launcher.asm").read_text()
    yield Piece(name="launcher.asm", text=launching, code=launcher.CODE)
    probe = "\n".join(["bits 16", *(text for _, text in PROBE)]) + "\n"
    yield Piece(name="KVM probe", text=probe, code=bytes.fromhex("".join(code for code, _ in PROBE)))
    heads = {"x86_64": (NASM, "bits 64\n"), "aarch64": (AARCH64, "")}
    for machine, (code, _, text) in EXIT_0.items():
        assembler, head = heads[machine]
        lines = head + text.replace("; ", "\n") + "\n"
        yield Piece(name=f"Podman probe, {machine}", text=lines, code=code, assembler=assembler)


def assemble(piece: Piece) -> bytes:
    """The bytes of its assembly. CalledProcessError when the assembler refuses it."""
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "source.asm", Path(folder) / "result"
        source.write_text(piece.text)
        options = ["-f", "bin"] if piece.assembler == NASM else []
        subprocess.run([piece.assembler, *options, "-o", result, source], check=True)
        if piece.assembler == NASM:
            return result.read_bytes()
        with result.open("rb") as stream:
            sections = ELFFile(stream).iter_sections()
            return b"".join(section.data() for section in sections if section.name == ".text")


def main() -> int:
    wrong, compared = [], 0
    for piece in pieces():
        if shutil.which(piece.assembler) is None:
            print(f"machine code: {piece.name} not compared (apt: {PACKAGES[piece.assembler]})")
            continue
        compared += 1
        if assemble(piece) != piece.code:
            wrong.append(piece.name)
    if wrong:
        print(f"machine code: not what its assembly says: {', '.join(wrong)}")
    elif compared:
        print(f"machine code: {compared} pieces are what their assembly says")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
