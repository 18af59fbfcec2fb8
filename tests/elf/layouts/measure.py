"""Try every layout on a Nanos kernel, in `rehearse` and in `verify`, and print the table of docs/elf-layouts.md.

    NANOS=DIR python -m tests.elf.layouts.measure [PART OF A NAME]…

DIR is a Nanos release (kernel.img, boot.img), whose version NANOS_VERSION tells (default 0.1.51). Needs
qemu-system-x86 and what the rows need: gcc, lld 18 or newer, mold, musl-tools, patchelf; a row that can't be made here
says so. Ends with 1 where a row's outcome isn't as table.py has it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from orchestrator.errors import OrchestratorError, Severity
from orchestrator.image.writer import BootFiles
from orchestrator.nanos.machine import boot
from orchestrator.nanos.verify.image import verify_image
from orchestrator.run.qemu.machine import QemuMachine
from orchestrator.run.sandbox.rehearsal import RehearseOptions, rehearse

from .making import link, missing, pack
from .table import LAYOUTS, Layout

_SECONDS = 60.0


def measure(layout: Layout, boot_files: BootFiles, version: str) -> tuple[str, str, str]:
    """Link, pack, and ask all three: what the kernel, `rehearse` and `verify` say."""
    absent = missing(layout)
    if absent:
        return f"not tried: no {', '.join(absent)}", "", ""
    with tempfile.TemporaryDirectory(prefix="layout-") as temporary:
        folder = Path(temporary)
        try:
            link(layout, folder)
        except subprocess.CalledProcessError as error:
            return f"can't be linked: {error.stderr.strip()[-120:]}", "", ""
        image = pack(layout, folder, boot_files, version)
        findings = [f for f in verify_image(image).findings if f.code.startswith(("elf-", "program-"))]
        marks = [f"{f.code}{'' if f.severity is Severity.ERROR else ' (warning)'}" for f in findings]
        return _booted(layout, image), _rehearsed(layout, image), ", ".join(marks) or "none"


def _booted(layout: Layout, image: Path) -> str:
    machine = QemuMachine(image=image, accel="tcg", memory=layout.memory, timeout=_SECONDS)
    booted = boot(machine, lambda _data: None)
    return _answer(booted.log, "OK" if booted.ok else booted.reason)


def _rehearsed(layout: Layout, image: Path) -> str:
    log = bytearray()
    options = RehearseOptions(
        engine="none", memory=layout.memory, timeout=_SECONDS, sink=lambda _name, data: log.extend(data)
    )
    try:
        done = rehearse(image, options)
    except OrchestratorError as error:
        return error.message
    said = _answer(bytes(log), "OK" if done.run.ok else done.run.reason)
    return f"error ({said})" if done.damaged else said


def _answer(log: bytes, ending: str) -> str:
    """What the program said was wrong, and how it ended."""
    lines = log.decode(errors="replace").replace("\r", "").splitlines()
    wrong = [line for line in lines if line.startswith(("wrong: ", "failed to"))]
    if "OK" in lines and ending == "OK":
        return "OK"
    return "; ".join(dict.fromkeys([*wrong, ending]))[:160]


def main(names: list[str]) -> int:
    """Print the table."""
    release = os.environ.get("NANOS")
    if not release:
        sys.exit("measure: NANOS must name a directory with kernel.img and boot.img")
    boot_files = BootFiles(boot_img=(Path(release) / "boot.img").read_bytes(), kernel=Path(release) / "kernel.img")
    version = os.environ.get("NANOS_VERSION", "0.1.51")
    differ = 0
    print(f"| layout | Nanos {version} | rehearse | verify |\n|---|---|---|---|")
    for layout in LAYOUTS:
        if names and not any(name in layout.name for name in names):
            continue
        kernel, rehearsal, verified = measure(layout, boot_files, version)
        print(f"| {layout.name} | {kernel} | {rehearsal} | {verified} |", flush=True)
        if rehearsal and (kernel == "OK") is not layout.runs:
            differ += 1
            print(f"{layout.name}: table.py says otherwise", file=sys.stderr)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
