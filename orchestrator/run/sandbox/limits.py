"""Memory and processors: cgroups where they can be had; else, and threads and disk always, watched from outside."""

from __future__ import annotations

import os
import re
import resource
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_ROOT = Path("/sys/fs/cgroup")
_USE = ("RssAnon", "RssShmem", "VmHWM", "Threads")
_STACK = 2 << 20
"""The guest's (measured)."""
_MOST_DISK = 16 << 10


@dataclass(frozen=True, kw_only=True)
class MemoryGroup:
    """A memory cgroup, of version 1 or 2."""

    path: Path
    version: int

    @property
    def limit(self) -> int | None:
        """Bytes; None for no limit."""
        text = self._read("memory.limit_in_bytes" if self.version == 1 else "memory.max")
        return int(text) if text.isdigit() else None

    @property
    def peak(self) -> int | None:
        """The most bytes that it held."""
        text = self._read("memory.max_usage_in_bytes" if self.version == 1 else "memory.peak")
        return int(text) if text.isdigit() else None

    @property
    def kills(self) -> int:
        """How often the kernel killed in it for want of memory."""
        text = self._read("memory.oom_control" if self.version == 1 else "memory.events")
        rows = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
        return int(rows.get("oom_kill", "0"))

    def limit_to(self, size: int) -> None:
        """Set the limit in bytes, swap included. OSError where that isn't allowed."""
        if self.version == 1:
            (self.path / "memory.limit_in_bytes").write_text(str(size))
            with suppress(OSError):  # no swap accounting
                (self.path / "memory.memsw.limit_in_bytes").write_text(str(size))
            return
        (self.path / "memory.max").write_text(str(size))
        with suppress(OSError):
            (self.path / "memory.swap.max").write_text("0")

    def take(self, pid: int) -> None:
        """Move a process into it."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Remove it; it must be empty."""
        with suppress(OSError):
            self.path.rmdir()

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text().strip()
        except OSError:
            return ""


def memory_group_of(pid: int | str) -> MemoryGroup | None:
    """The memory cgroup that a process is in."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _existing(_ROOT / "memory" / path.lstrip("/"), 1)
    for line in lines:
        if line.startswith("0::"):
            return _existing(_ROOT / line[3:].lstrip("/"), 2)
    return None


def _existing(path: Path, version: int) -> MemoryGroup | None:
    name = "memory.limit_in_bytes" if version == 1 else "memory.max"
    return MemoryGroup(path=path, version=version) if (path / name).is_file() else None


def new_memory_group(size: int) -> MemoryGroup | None:
    """A memory cgroup of our own below the one we are in, limited to `size` bytes; None where that isn't allowed."""
    own = memory_group_of("self") or _existing_root()
    if own is None:
        return None
    path = own.path / f"orchestrator-{secrets.token_hex(6)}"
    try:
        path.mkdir()
    except OSError:
        return None
    group = MemoryGroup(path=path, version=own.version)
    try:
        group.limit_to(size)
    except OSError:  # version 2: the controller isn't delegated
        group.remove()
        return None
    return group


def _existing_root() -> MemoryGroup | None:
    """On version 2 the root group has no memory.max, and groups below it do."""
    controllers = _ROOT / "cgroup.controllers"
    if controllers.is_file() and "memory" in controllers.read_text().split():
        return MemoryGroup(path=_ROOT, version=2)
    return None


class MemoryUse(NamedTuple):
    """Bytes: `held` now and backed by no file; `most` that the process has held, files' pages and all. `shared` is
    the part of `held` that is shared memory; `threads` is how many there are."""

    held: int
    most: int
    shared: int
    threads: int


def memory_use(pid: int) -> MemoryUse | None:
    """What a process holds; None when it has gone, or has no memory any more."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    rows = (line.partition(":") for line in lines)
    fields = {name: int(rest.split()[0]) for name, _, rest in rows if name in (*_USE, "HugetlbPages")}
    if not fields.keys() >= set(_USE):
        return None
    shared = (fields["RssShmem"] + fields.get("HugetlbPages", 0)) * 1024
    return MemoryUse(fields["RssAnon"] * 1024 + shared, fields["VmHWM"] * 1024, shared, fields["Threads"])


def disk_limit(asked: int | None, free: int) -> int:
    """MiB that a program may add to /workspace: as asked, else half of the `free` bytes, and not over 16 GiB."""
    return asked if asked is not None else max(1, min(_MOST_DISK, free // 2 >> 20))


def resource_limits(*, disk: int, threads: int, own_count: bool) -> dict[int, int]:
    """What the launcher sets: RLIMIT_… to value. `disk` in MiB. `own_count`: the kernel counts this program's threads
    by themselves, and not with all that this user runs."""
    limits = {
        resource.RLIMIT_STACK: _STACK,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: disk << 20,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if own_count:
        # One more than the watch allows, so that it sees it; and the launcher's and the namespaces' processes.
        limits[resource.RLIMIT_NPROC] = threads + 4
    return limits


def counts_by_namespace() -> bool:
    """Whether the kernel counts a user's processes for each user namespace apart (Linux 5.14)."""
    release = [int(number) for number in re.findall(r"\d+", os.uname().release)[:2]]
    return release >= [5, 14]


def bind_to_processors(pid: int, count: int) -> None:
    """Let a process use `count` of the processors that we may use."""
    with suppress(OSError):
        os.sched_setaffinity(pid, sorted(os.sched_getaffinity(0))[:count])
