"""Room on the disk, and what lies in memory of it: a run that would fill the disk is left out, with the reason."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from bench.measure import MIB

LARGE = 2048
"""MiB from which on nothing is left for the next way of doing the same: the disk would be full of copies."""
_SPARE = 1024
"""MiB that stay free whatever happens."""
_DROP = Path("/proc/sys/vm/drop_caches")


class NoRoomError(Exception):
    """The disk has not the room that is needed."""


def require_room(copies: float, mib: float, what: str) -> None:
    """NoRoomError where `copies` of so many MiB do not fit on the disk of the temporary directory."""
    needed, free = copies * mib + _SPARE, shutil.disk_usage(tempfile.gettempdir()).free / MIB
    if mib and needed > free:
        raise NoRoomError(f"{what} needs {needed / 1024:.0f} GiB of disk, and {free / 1024:.0f} are free")


def drop_caches() -> None:
    """Let the page cache go, as after a boot. SystemExit where that is not ours to do."""
    if os.geteuid() != 0:
        raise SystemExit("--drop-caches needs root: only root lets the page cache go")
    os.sync()
    _DROP.write_text("3\n")
