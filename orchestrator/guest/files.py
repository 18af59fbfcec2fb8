"""The files that the guest's kernel makes in /dev, /proc and /sys: a skeleton of them, and what they say."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from orchestrator.guest.table import Guest

_OF_THE_KERNEL: Final = ("dev", "proc", "sys")
_KERNEL_USE: Final = 64 << 20  # bytes that the kernel itself holds soon after the start, measured


def make_skeleton(guest: Guest, tree: Path, skeleton: Path, program: str) -> None:
    """Make `skeleton` hold the guest's /dev, /proc and /sys: what the image's `tree` has there, and the kernel's own.

    Files whose content is made when they are opened are empty here.
    """
    for name in _OF_THE_KERNEL:
        # A link of the image's would lead to a directory of this machine's.
        if (tree / name).is_dir() and not (tree / name).is_symlink():
            shutil.copytree(tree / name, skeleton / name, symlinks=True)
        (skeleton / name).mkdir(parents=True, exist_ok=True)
    for file in guest.files:
        parts = file.path.strip("/").split("/")
        folder = _folder(skeleton, parts if file.kind == "directory" else parts[:-1])
        path = folder / parts[-1]
        if file.kind == "directory":
            continue
        _clear(path)
        if file.kind == "program":
            path.symlink_to(program)
        else:
            path.touch()


def _folder(top: Path, parts: Sequence[str]) -> Path:
    """A directory below `top`. What an image has put in its way, a link too, gives way as in the guest."""
    for part in parts:
        top /= part
        if top.is_symlink() or not top.is_dir():
            _clear(top)
            top.mkdir()
    return top


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def meminfo(total: int, held: int) -> str:
    """/proc/meminfo of a machine with `total` bytes of which the program holds `held`."""
    free = max(0, total - _KERNEL_USE - held) // 1024
    rows = {"MemTotal": total // 1024, "MemFree": free, "MemAvailable": free}
    text = "".join(f"{name + ':':<14}{value:>9} kB\n" for name, value in rows.items())
    text += f"Buffers:      {0:>9} kB\nSwapTotal:    {0:>9} kB\nSwapFree:     {0:>9} kB\n"
    return f"{text}Cached:       {0:>9} kB\n"


def free_memory(total: int, held: int) -> int:
    """Bytes that sysinfo calls free."""
    return max(0, total - _KERNEL_USE - held)


def mounts(shares: Mapping[str, str]) -> str:
    """/proc/mounts. `shares`: the image's `mounts`, %N → where."""
    rows = ["root / tfs ro 0 0\n"]
    rows += [f"virtfs{name.lstrip('%')} {at} tfs rw 0 0\n" for name, at in shares.items()]
    return "".join(rows)


def processors(count: int) -> str:
    """/sys/devices/system/cpu/online."""
    return f"0-{count - 1}\n"
