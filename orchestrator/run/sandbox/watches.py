"""What a program holds that no limit of the kernel covers: hidden shared memory, and what it adds to a folder."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from orchestrator.run.sandbox.limits import MemoryUse


class SharedMemory:
    """Shared memory that a process holds and its resident set doesn't show.

    It stays when its pages are given back (MADV_DONTNEED), as long as a piece is mapped. No process that isn't root
    is told how much that is; it is no more than was mapped, and no more than the machine's own has grown since.
    (Files in memory, memfd_create, can't be had: see forbidden.py.)
    """

    def __init__(self) -> None:
        self._before = _shmem()
        self._mapped: dict[str, int] = {}

    def hidden(self, pid: int, use: MemoryUse, enough: int) -> int:
        """Bytes, at most; 0 while the machine's own has not grown by a good part of `enough` beyond `use`."""
        grown = _shmem() - self._before - use.shared
        if grown < enough // 4:
            return 0
        now = _shared_mappings(pid)
        self._mapped = {name: max(size, self._mapped.get(name, 0)) for name, size in now.items()}
        return max(0, min(grown, sum(self._mapped.values()) - use.shared))


def _shmem() -> int:
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("Shmem:"):
                return int(line.split()[1]) * 1024
    return 0


def _shared_mappings(pid: int) -> dict[str, int]:
    """Anonymous shared mappings: the memory's number, and the bytes that are mapped of it."""
    sizes: dict[str, int] = {}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
            if line.endswith("/dev/zero (deleted)"):
                span, _, _, _, number, *_ = line.split(None, 5)
                first, last = (int(number, 16) for number in span.split("-"))
                sizes[number] = sizes.get(number, 0) + last - first
    return sizes


class DiskWatch:
    """How much a folder has grown since this was made, looked at often enough and no more."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._before = _blocks(folder)
        self._free = self._looked_free = free_space(folder)
        self._next = 0.0

    def exceeded(self, pid: int) -> bool:
        """Whether it has grown by more than the limit, files that are open and have no name included."""
        now, free = time.monotonic(), free_space(self._folder)
        if now < self._next and self._looked_free - free < self._limit // 8:
            return False
        used = _blocks(self._folder)
        self._looked_free = free
        self._next = time.monotonic() + max(0.5, 20 * (time.monotonic() - now))
        if used + _unnamed(pid) - self._before > self._limit:
            return True
        # What can't be seen, as an open file on its way through a socket: the process wrote it, and it is there.
        return self._free - free > self._limit and _written(pid) > self._limit


def _blocks(folder: Path) -> int:
    used, seen, todo = 0, set(), [str(folder)]
    while todo:
        with suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if (status.st_dev, status.st_ino) not in seen:  # else another name of it
                        seen.add((status.st_dev, status.st_ino))
                        used += status.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
    return used


def _unnamed(pid: int) -> int:
    """Bytes of files that a process has open and that were removed."""
    files: dict[tuple[int, int], int] = {}
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                status = entry.stat()
                if status.st_nlink == 0 and stat.S_ISREG(status.st_mode):
                    files[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(files.values())


def _written(pid: int) -> int:
    """Bytes that a process wrote to files and that were not cut off again."""
    with suppress(OSError, KeyError, ValueError):
        rows = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        return int(rows["write_bytes"]) - int(rows["cancelled_write_bytes"])
    return 0


def free_space(folder: Path) -> int:
    """Bytes that are free where `folder` lies; 0 where that can't be told."""
    try:
        space = os.statvfs(folder)
    except OSError:
        return 0
    return space.f_bavail * space.f_frsize
