"""This machine's GPUs for a rehearsal: their device nodes, and the driver's libraries instead of the packed ones.

libcuda speaks to the kernel driver of its own version alone. The packed one is the guest driver's, so here this
machine's stands in for it; program, CUDA runtime, C library and loader stay the image's.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from orchestrator.errors import EngineError
from orchestrator.files import GuardedTree
from orchestrator.run.sandbox.tree import resolve

_DEVICES: Final = Path("/dev")
_FOLDERS: Final = tuple(
    Path(folder)
    for folder in (
        "/usr/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu/nvidia/current", "/usr/lib64", "/usr/lib",
        "/usr/local/nvidia/lib64", "/run/opengl-driver/lib",
    )
)  # fmt: skip
_DRIVER: Final = re.compile(
    r"lib(cuda|nvidia-ml|nvidia-ptxjitcompiler|nvidia-nvvm|nvidia-gpucomp)\.so\.(1|4|\d{3}\.\d+(\.\d+)?)"
)
"""libcuda loads the last three by name when it compiles PTX; newer drivers have split them off."""
_SYSTEM: Final = Path("/")
_FACTS: Final = (
    "proc/driver/nvidia/**/*", "sys/module/nvidia*/initstate", "sys/module/nvidia*/version",
    "sys/devices/system/memory/block_size_bytes", "sys/devices/system/node/online",
    "sys/devices/system/node/node*/cpu*",
)  # fmt: skip
"""What the machine's libcuda reads before it uses a GPU; and of each GPU's PCI device, those below."""
_PCI_DEVICES: Final = "sys/bus/pci/devices"
_PCI_FACTS: Final = ("class", "device", "local_cpulist", "local_cpus", "numa_node", "revision", "vendor")
_NVIDIA: Final = "0x10de"
_LONGEST_FACT: Final = 64 * 1024
_GUEST_FOLDER: Final = "lib/x86_64-linux-gnu"


@dataclass(frozen=True, kw_only=True)
class HostGpus:
    """Device nodes, and the driver's libraries (files by the names that they are loaded by)."""

    devices: tuple[str, ...]
    libraries: tuple[Path, ...]


def host_gpus() -> HostGpus:
    """What this machine has. EngineError when that is no NVIDIA GPU, or its driver has no libcuda here."""
    nodes = [*_DEVICES.glob("nvidia*"), *_DEVICES.glob("nvidia-caps/*")]
    devices = tuple(sorted(str(node) for node in nodes if node.is_char_device()))
    if not devices:
        raise EngineError(
            f"this machine has no NVIDIA GPU ({_DEVICES}/nvidia* is missing)",
            remedy="rehearse without --gpus, or where nvidia-smi shows a GPU",
        )
    for folder in _FOLDERS:
        if (folder / "libcuda.so.1").is_file():
            libraries = sorted(
                library for library in folder.iterdir() if _DRIVER.fullmatch(library.name) and library.is_file()
            )
            return HostGpus(devices=devices, libraries=tuple(libraries))
    raise EngineError(
        "this machine's driver has no libcuda.so.1 in the usual folders",
        remedy="install the driver's CUDA library (Debian: libcuda1), of nvidia-smi's version",
    )


def copy_facts(skeleton: Path) -> None:
    """Put what the machine's driver says of itself and its GPUs in /proc and /sys into the guest's skeleton of them.

    The sandbox shows neither. A file that the guest has too stays the guest's.
    """
    paths = [path for pattern in _FACTS for path in _SYSTEM.glob(pattern)]
    for device in (_SYSTEM / _PCI_DEVICES).glob("*"):
        if _text_of(device / "vendor").strip() == _NVIDIA:
            paths += [device / name for name in _PCI_FACTS]
    with GuardedTree(skeleton) as inside:
        for path in paths:
            target = PurePosixPath(path.relative_to(_SYSTEM))
            if path.is_file() and not (skeleton / target).exists():
                with inside.create_file(target) as sink:
                    sink.write(_text_of(path).encode())


def _text_of(path: Path) -> str:
    """Its beginning; "" when it can't be read, as some of them by root alone."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST_FACT)
    except OSError:
        return ""


def swap_driver_libraries(tree: Path, libraries: Iterable[Path]) -> tuple[str, ...]:
    """Put the machine's driver libraries into an image's file tree, in place of those packed; their names, sorted.

    Removes every packed one, wherever it lies; versions of its own beside the machine's would be found first.
    """
    for path in tree.rglob("lib*.so*"):
        if _DRIVER.fullmatch(path.name):
            path.unlink()
    # In an image /lib may be a link, and where it leads, within its tree, is the image's affair.
    target = PurePosixPath(resolve(tree, _GUEST_FOLDER).relative_to(tree))
    names = []
    with GuardedTree(tree) as inside:
        for library in libraries:
            with inside.create_file(target / library.name, 0o755) as sink, library.open("rb") as source:
                shutil.copyfileobj(source, sink, 1024 * 1024)
            names.append(library.name)
    return tuple(sorted(names))
