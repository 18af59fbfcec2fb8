"""The machine code that the package holds in hex, against its assembly. Needs nasm.

    python -m tests.support.machine_code

Exit 0: all of it is what the assembly says, or there is no nasm here (which is said). 1: some is not.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from orchestrator.engine.probe import EXIT_0
from orchestrator.image import stub
from orchestrator.run.qemu.accelerator import PROBE
from orchestrator.run.sandbox import launcher

PACKAGE = Path(__file__).resolve().parents[2] / "orchestrator"


def table() -> Iterator[tuple[str, str, bytes]]:
    """Name, assembly and bytes of each piece."""
    for name, code in (("stub.asm", stub.stub_boot_image()), ("stub_kernel.asm", stub.stub_kernel())):
        yield name, (PACKAGE / "image" / name).read_text(), code
    yield "launcher.asm", (PACKAGE / "run" / "sandbox" / "launcher.asm").read_text(), launcher.CODE
    probe = "\n".join(["bits 16", *(text for _, text in PROBE)]) + "\n"
    yield "KVM probe", probe, bytes.fromhex("".join(code for code, _ in PROBE))
    code, _, text = EXIT_0["x86_64"]
    yield "Podman probe", "bits 64\n" + text.replace("; ", "\n") + "\n", code


def assemble(text: str) -> bytes:
    """What nasm makes of it. CalledProcessError when it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "source.asm", Path(folder) / "result"
        source.write_text(text)
        subprocess.run(["nasm", "-f", "bin", "-o", result, source], check=True)
        return result.read_bytes()


def main() -> int:
    if shutil.which("nasm") is None:
        print("machine code: not compared, nasm is missing (apt: nasm)")
        return 0
    wrong = [name for name, text, code in table() if assemble(text) != code]
    print("machine code: " + (f"not what its assembly says: {', '.join(wrong)}" if wrong else "as its assembly says"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
