"""One member of the build context, and its bytes: what changes while it is read is an error, never half a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrator.containerfile.order import MTIME
from orchestrator.errors import UsageError

CHUNK = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class Member:
    """One tar member: a directory, a link (`target`), or a file of `data` or of `source`.

    `mtime` is in seconds since 1970; `aged` says that it follows from how old `source` is among the others.
    """

    path: str
    kind: str  # "dir" | "link" | "file"
    executable: bool = False
    target: str = ""
    data: bytes | None = None
    source: Path | None = None
    mtime: int = MTIME
    aged: bool = False

    @property
    def size(self) -> int:
        """Bytes of a file as it is now; 0 for anything else. UsageError for one that can't be looked at."""
        if self.source is not None:
            return status_of(self.source).st_size
        return len(self.data or b"")


def scan(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(directory, error) from error


def status_of(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{path} cannot be read for the build context: {error.strerror}",
        remedy="make it readable, or list it in .dockerignore",
    )


def _changed(path: Path) -> UsageError:
    return UsageError(
        f"{path} changed while it was read for the build context",
        remedy="build again when nothing writes there, or list it in .dockerignore",
    )


def content_of(member: Member) -> tuple[int, Iterator[bytes]]:
    """A file member's size and its chunks, which add up to that size."""
    if member.source is None:
        data = member.data or b""
        return len(data), iter([data])
    try:
        # O_NONBLOCK: were the file replaced by a pipe since the walk, open would wait for ever.
        descriptor = os.open(member.source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise unreadable(member.source, error) from error
    before = os.fstat(descriptor)
    return before.st_size, _chunks(member.source, os.fdopen(descriptor, "rb", buffering=0), before)


def _chunks(path: Path, stream: BinaryIO, before: os.stat_result) -> Iterator[bytes]:
    with stream:
        if not stat.S_ISREG(before.st_mode):
            raise _changed(path)
        left = before.st_size
        while left:
            try:
                chunk = stream.read(min(CHUNK, left))
            except OSError as error:
                raise unreadable(path, error) from error
            if not chunk:
                raise _changed(path)
            left -= len(chunk)
            yield chunk
        # Grown, or written to in place: the bytes we gave may be of two versions.
        after = os.fstat(stream.fileno())
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise _changed(path)
