"""Making a layout: linking its program, packing it into an image."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import BinaryIO

from orchestrator.elf.closure import GuestLoader
from orchestrator.image.listing import path_key
from orchestrator.image.writer import BootFiles, ImageWriter
from orchestrator.values import Value
from tests.support.linkers import OLD_LLD, newest_lld

from .table import Layout

_HERE = Path(__file__).parent


def missing(layout: Layout) -> tuple[str, ...]:
    """The commands that it needs and that this machine lacks."""
    return tuple(
        need for need in layout.needs if (newest_lld() is None if need == "lld" else shutil.which(need) is None)
    )


def link(layout: Layout, folder: Path) -> None:
    """Make `prog` in an empty folder. CalledProcessError, with the output, when it can't be linked."""
    for file in _HERE.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    lld = newest_lld()
    environment = {**os.environ, "LLD14": f"-B/usr/lib/llvm-{OLD_LLD}/bin -fuse-ld=lld"}
    environment["LLD"] = f"-B{lld.parent} -fuse-ld=lld" if lld else ""
    subprocess.run(["sh", "-ec", layout.build], cwd=folder, env=environment, capture_output=True, text=True, check=True)


def attributes(layout: Layout, nanos_version: str) -> dict[str, Value]:
    """The root attributes of its image. The guest's exit code is told."""
    return {
        "program": "/prog",
        "arguments": ["prog"],
        "environment": {"NANOS_VERSION": nanos_version},
        "mounts": {"%0": "/workspace"},
        "readonly_rootfs": "true",
        "debug_exit": "t",
        **layout.passthrough,
    }


def loader_of(files: dict[str, Path]) -> GuestLoader:
    """The guest's loader over these files (guest path → host file) and, behind them, this machine's own."""

    def open_file(path: str) -> BinaryIO | None:
        host = files.get(path, Path(path))
        return host.open("rb") if host.is_file() else None

    return GuestLoader(open_file, program="/prog", environment={})


def own_files(layout: Layout, folder: Path) -> dict[str, Path]:
    """Guest path → host file, of what `link` made."""
    return {"/prog": folder / "prog", **{path: folder / name for path, name in layout.files.items()}}


def pack(layout: Layout, folder: Path, boot_files: BootFiles, nanos_version: str) -> Path:
    """An image of what `link` made, with the libraries and the loader of this machine."""
    files = own_files(layout, folder)
    loader = loader_of(files)
    for path in (loader.interpreter, *(link.path for link in loader.program_links)):
        if path is not None and path not in files and Path(path).is_file():
            files[path] = Path(path).resolve()
    image = folder / "prog.img"
    with ImageWriter(image, boot_files) as writer:
        for name in sorted(files, key=path_key):
            writer.add_file(name, files[name].stat().st_size, [files[name].read_bytes()])
        writer.add_directory("/workspace")
        writer.finish(attributes(layout, nanos_version))
    return image
