"""The launcher's bytes are what its assembly says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import orchestrator.run.sandbox
from orchestrator.run.sandbox.launcher import CODE


def test_the_table_is_what_the_assembly_says(tmp_path: Path) -> None:
    nasm = shutil.which("nasm")
    assert nasm, "nasm is missing; `make test` installs it (apt: nasm)"
    source = Path(orchestrator.run.sandbox.__file__).parent / "launcher.asm"
    subprocess.run([nasm, "-f", "bin", "-o", tmp_path / "out", source], check=True)
    assert (tmp_path / "out").read_bytes() == CODE
