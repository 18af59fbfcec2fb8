"""Try every layout on a Nanos kernel, in `rehearse` and in `verify`, and print the table of docs/elf-layouts.md.

    NANOS=DIR python -m tests.elf.layouts.measure [PART OF A NAME]…

DIR is a Nanos release (kernel.img, boot.img). Needs qemu-system-x86 and the linkers that the rows name: gcc, lld, mold,
musl-tools, patchelf; a row whose tools are missing says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrator.boot.machine import Machine, boot
from orchestrator.elf.closure import GuestLoader
from orchestrator.errors import OrchestratorError, Severity
from orchestrator.image.listing import path_key
from orchestrator.image.writer import BootFiles, ImageWriter
from orchestrator.rehearse.run import Options, rehearse
from orchestrator.verify.image import verify_image

from .table import LAYOUTS, Layout

_HERE = Path(__file__).parent
_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    layout: Layout
    kernel: str
    rehearsal: str
    verified: str


def newest_lld() -> Path | None:
    """The newest ld.lld of this machine: Debian's are versioned."""
    found = list(Path("/usr/lib").glob("llvm-*/bin/ld.lld"))
    return max(found, key=lambda path: int(path.parts[3].removeprefix("llvm-")), default=None)


def link(layout: Layout, folder: Path) -> str:
    """Make `prog`; what is missing or failed, or ""."""
    lld = newest_lld()
    tools = {"lld": lld is not None and "llvm-14" not in lld.parts}
    missing = [need for need in layout.needs if not tools.get(need, shutil.which(need) is not None)]
    if missing:
        return f"not tried: no {', '.join(missing)}"
    for file in _HERE.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    environment = {**os.environ, "LLD": f"-B{lld.parent} -fuse-ld=lld" if lld else ""}
    environment["LLD14"] = "-B/usr/lib/llvm-14/bin -fuse-ld=lld"
    done = subprocess.run(
        ["sh", "-ec", layout.build], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return "" if done.returncode == 0 else f"can't be linked: {(done.stdout.strip().splitlines() or ['?'])[-1]}"


def pack(layout: Layout, folder: Path, boot_files: BootFiles) -> Path:
    """An image of `prog`, its libraries from this machine, and the layout's own files."""
    files = {"/prog": folder / "prog", **{path: folder / name for path, name in layout.files.items()}}

    def open_file(path: str) -> BinaryIO | None:
        host = files.get(path, Path(path))
        return host.open("rb") if host.is_file() else None

    loader = GuestLoader(open_file, program="/prog", environment={})
    needed = [loader.interpreter, *(link.path for link in loader.program_links)]
    for path in needed:
        if path is not None and path not in files and Path(path).is_file():
            files[path] = Path(path).resolve()
    image = folder / "prog.img"
    with ImageWriter(image, boot_files) as writer:
        for name in sorted(files, key=path_key):
            writer.add_file(name, files[name].stat().st_size, [files[name].read_bytes()])
        writer.add_directory("/workspace")
        writer.finish(
            {
                "program": "/prog",
                "arguments": ["prog"],
                "environment": {"NANOS_VERSION": os.environ.get("NANOS_VERSION", "0.1.51")},
                "mounts": {"%0": "/workspace"},
                "debug_exit": "t",
                **layout.passthrough,
            }
        )
    return image


def measure(layout: Layout, boot_files: BootFiles | None) -> Row:
    """Link, pack, and ask all three."""
    with tempfile.TemporaryDirectory(prefix="layout-") as temporary:
        folder = Path(temporary)
        problem = link(layout, folder)
        if problem:
            return Row(layout=layout, kernel=problem, rehearsal="", verified="")
        image = pack(layout, folder, boot_files or BootFiles(boot_img=None, kernel=b"none"))
        verification = verify_image(image)
        severe = [f for f in verification.findings if f.code.startswith(("elf-", "program-"))]
        verified = ", ".join(f"{f.code}{'' if f.severity is Severity.ERROR else ' (warning)'}" for f in severe)
        kernel = _booted(layout, image) if boot_files is not None else "no kernel given"
        return Row(layout=layout, kernel=kernel, rehearsal=_rehearsed(layout, image), verified=verified or "–")


def _booted(layout: Layout, image: Path) -> str:
    booted = boot(Machine(image=image, accel="tcg", memory=layout.memory, timeout=_SECONDS), lambda _data: None)
    return _answer(booted.log, "OK" if booted.ok else booted.reason)


def _rehearsed(layout: Layout, image: Path) -> str:
    log = bytearray()
    options = Options(engine="none", memory=layout.memory, timeout=_SECONDS, sink=lambda _name, data: log.extend(data))
    try:
        done = rehearse(image, options)
    except OrchestratorError as error:
        return error.message
    return _answer(bytes(log), "OK" if done.ok else done.run.words(done.limits))


def _answer(log: bytes, words: str) -> str:
    lines = log.decode(errors="replace").replace("\r", "").splitlines()
    said = [line for line in lines if line == "OK" or line.startswith(("wrong: ", "failed to", "exec_elf"))]
    if said == ["OK"] and words == "OK":
        return "OK"
    return "; ".join(dict.fromkeys([*(line for line in said if line != "OK"), *([words] if words != "OK" else [])]))[:160]


def main(names: list[str]) -> None:
    """Print the table."""
    nanos = os.environ.get("NANOS")
    boot_files = None
    if nanos:
        boot_files = BootFiles(boot_img=(Path(nanos) / "boot.img").read_bytes(), kernel=Path(nanos) / "kernel.img")
    print("| layout | Nanos | rehearse | verify |\n|---|---|---|---|")
    for layout in LAYOUTS:
        if names and not any(name in layout.name for name in names):
            continue
        row = measure(layout, boot_files)
        print(f"| {layout.name} | {row.kernel} | {row.rehearsal} | {row.verified} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
