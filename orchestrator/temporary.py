"""Temporary directories of ours: the command that makes one holds a lock in it, so that a later one knows what is left.

A command that is killed outright removes nothing. The next one that makes a temporary directory, and `clean`, end what
it started and remove what it left. What is in use is never touched: the kernel lets go of a lock with its process.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from orchestrator import files, process

PREFIX = "orchestrator-"
_OWNER = ".owner"
_STARTED = ".started"
"""The processes that end with the directory: a line each, its id and when it began."""
_PLACES = ("/tmp", "/var/tmp")


class OwnDirectory:
    """A new directory of mode 0700, removed by `close`. `purpose` is part of its name; `place`: where, else TMPDIR."""

    def __init__(self, purpose: str, place: Path | None = None) -> None:
        sweep()
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-", dir=place))
            self._lock = files.FileLock(self.path / _OWNER)
            # A sweep that met it without a lock may have removed it by now.
            with suppress(FileNotFoundError):
                self._lock.acquire()
                break

    def __enter__(self) -> Path:
        """Its path."""
        return self.path

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        """Remove it."""
        self.close()

    def adopt(self, pid: int) -> None:
        """Have the group of a process that we started, and that may outlive us, killed with the directory."""
        with files.open_for_append(self.path / _STARTED) as sink:
            sink.write(f"{pid} {_began(pid)}\n".encode())

    def close(self) -> None:
        """Remove it and all in it."""
        remove_tree(self.path)
        self._lock.release()


@contextmanager
def own_directory(purpose: str, place: Path | None = None) -> Iterator[Path]:
    """An `OwnDirectory` for as long as the context lasts."""
    with OwnDirectory(purpose, place) as path:
        yield path


def sweep(*, dry_run: bool = False) -> list[Path]:
    """Remove what commands left that were killed; which directories those are."""
    left = []
    for place in _places():
        for folder in sorted(place.glob(f"{PREFIX}*")):
            lock = _abandoned(folder)
            if lock is None:
                continue
            left.append(folder)
            if not dry_run:
                _end_processes(folder)
                remove_tree(folder)
            lock.release()
    return left


def remove_tree(folder: Path) -> None:
    """Remove a directory, but nothing that is mounted below it: the root file system of a killed step may be."""
    below = _mounts(folder)
    for mount in sorted(below, reverse=True):
        process.run(["umount", "--lazy", mount])
    if below and _mounts(folder):
        return
    # The lock's file last: what can't be removed now is known by it to the next sweep.
    with suppress(OSError):
        for entry in sorted(folder.iterdir(), key=lambda path: path.name == _OWNER):
            _remove(entry)
        folder.rmdir()


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():  # a program may have made directories that nobody may write to
        for inner, _folders, _files in os.walk(path):
            with suppress(OSError):
                Path(inner).chmod(0o700)
        shutil.rmtree(path)


def _places() -> set[Path]:
    """Where such directories may be: TMPDIR, the usual places, and the user's run-time directory."""
    named = (os.environ.get("TMPDIR"), os.environ.get("XDG_RUNTIME_DIR"), *_PLACES)
    return {Path(os.path.realpath(place)) for place in named if place and os.access(place, os.W_OK | os.X_OK)}


def _abandoned(folder: Path) -> files.FileLock | None:
    """The lock of a directory of ours whose owner is gone, taken; None for one in use, and for anything else."""
    try:
        status, owner = folder.lstat(), (folder / _OWNER).lstat()
        if not stat.S_ISDIR(status.st_mode) or not stat.S_ISREG(owner.st_mode):
            return None
        if {status.st_uid, owner.st_uid} != {os.getuid()}:
            return None
        lock = files.FileLock(folder / _OWNER)
        return lock if lock.acquire(timeout=0) else None
    except OSError:
        return None


def _end_processes(folder: Path) -> None:
    """Kill what the directory's owner started, where it still is the same process."""
    with suppress(OSError, ValueError):
        for line in (folder / _STARTED).read_text(encoding="ascii").splitlines():
            pid, began = line.split()
            if _began(int(pid)) == began:
                with suppress(ProcessLookupError):
                    os.killpg(int(pid), signal.SIGKILL)


def _began(pid: int) -> str:
    """When a process began, in ticks since the machine did; "-" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "-"


def _mounts(folder: Path) -> list[str]:
    """Mount points at or below `folder` that this process sees."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    # The kernel writes blanks and their like as three octal digits.
    points = [
        re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line.split(" ")[4]) for line in text.splitlines()
    ]
    return [point for point in points if Path(point).is_relative_to(folder)]
