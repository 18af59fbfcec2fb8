"""Builds that run on this machine, and those that were killed: what in an engine is in use, and what nobody needs.

Each has a file in the user's cache directory, locked for as long as its process lives. A killed build's file stays,
and says how its processes and working containers are known.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator import files
from orchestrator.documents import DocumentError, read_document
from orchestrator.user_paths import running_builds

_MAX = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class RunningBuild:
    """One use of an engine: by which build, where the engine keeps its images, and the size (bytes) that Podman gives
    the /dev/shm of the build's steps, by which they are known (0 = none). `temporary` is where a Podman of this machine
    has its temporary files ("" = not known), `mark` the name of a file of this build alone among them."""

    build_id: str
    store: str
    shm: int = 0
    temporary: str = ""
    mark: str = ""


class Registered:
    """A build in the list. `lost`: its engine went away in the middle of it, so that it ends as a killed one."""

    lost = False


@contextmanager
def register(build: RunningBuild) -> Iterator[Registered]:
    """While the context lasts, `running` lists the build; a process that is killed in it leaves it to `killed`."""
    entry = Registered()
    path = running_builds() / f"{build.build_id}.{secrets.token_hex(4)}"
    lock = files.FileLock(path)
    try:
        files.make_directory(path.parent)
        lock.acquire()
        with files.open_for_append(path) as sink:
            sink.write(json.dumps(asdict(build)).encode())
    except OSError:  # a home that can't be written: then nobody knows of it
        yield entry
        return
    try:
        yield entry
    finally:
        if not entry.lost:
            path.unlink(missing_ok=True)
        lock.release()


def running() -> list[RunningBuild]:
    """The builds of other processes and of this one that have not ended."""
    return [build for path in _registered() if not _is_free(path) and (build := _read(path)) is not None]


def killed() -> list[tuple[Path, RunningBuild]]:
    """The builds whose process was killed, each with its file, which the caller removes when nothing is left of it."""
    ended = []
    for path in _registered():
        if not _is_free(path):
            continue
        if (build := _read(path)) is not None:
            ended.append((path, build))
        else:
            _forget_old(path)
    return ended


def _forget_old(path: Path) -> None:
    """A file without a build is one that is just being written, or one that never was."""
    with suppress(OSError):
        if time.time() - path.lstat().st_mtime > 60:
            path.unlink()


def _registered() -> list[Path]:
    try:
        return sorted(running_builds().iterdir())
    except OSError:
        return []


def _is_free(path: Path) -> bool:
    lock = files.FileLock(path)
    with suppress(OSError):
        if not os.path.lexists(path) or not lock.acquire(timeout=0):
            return False
        lock.release()
        return True
    return False


def _read(path: Path) -> RunningBuild | None:
    try:
        return read_document(path, RunningBuild, limit=_MAX, links=False)
    except (OSError, DocumentError):
        return None
