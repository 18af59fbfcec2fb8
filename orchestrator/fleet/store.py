"""Files of a fleet by their SHA-256, and which of them each finished job gave: a directory of the scheduler's."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from orchestrator.amounts import size as shown_size
from orchestrator.documents import DocumentError, read_document
from orchestrator.errors import InputError
from orchestrator.files import free_space, make_directory, open_emptied, replacing, write_text
from orchestrator.fleet.messages import JobEnded, JobFile, to_text

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_ROOM: Final = 256 * 2**20
"""Bytes that are left free on the disk."""


class FleetStore:
    """In a directory of mode 0700. Files are written whole or not at all; results only name files that are there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        make_directory(root, 0o700)

    def has(self, digest: str) -> bool:
        """Whether it has the file."""
        return self.path(digest).is_file()

    def path(self, digest: str) -> Path:
        """Where the file is. ValueError for what is no digest: it comes from a peer."""
        if not _DIGEST.fullmatch(digest):
            raise ValueError("no SHA-256")
        return self.root / "files" / digest[:2] / digest

    @contextmanager
    def receive(self, digest: str, size: int) -> Iterator[Incoming]:
        """Write a file; at the end it is there if digest and size are right. InputError otherwise, and for no room."""
        path = self.path(digest)
        make_directory(path.parent)
        with replacing(path) as part, receiving(part, digest, size, below=self.root) as incoming:
            yield incoming

    def result(self, key: str) -> JobEnded | None:
        """What a finished job gave, if all of it is there."""
        try:
            ended = read_document(self._result(key), JobEnded, newer=True, links=False)
        except (OSError, DocumentError):
            return None
        whole = all(self._has_all_of(file) for file in ended.files)
        if whole:
            for file in ended.files:
                with suppress(OSError):
                    os.utime(self.path(file.sha256))  # it is in use: what is old may be deleted
        return ended if whole and ended.files else None

    def _has_all_of(self, file: JobFile) -> bool:
        return self.has(file.sha256) and self.path(file.sha256).stat().st_size == file.size

    def remember(self, key: str, ended: JobEnded) -> None:
        """Keep what a finished job gave."""
        make_directory(self._result(key).parent)
        write_text(self._result(key), to_text(ended) + "\n")

    def _result(self, key: str) -> Path:
        return self.root / "results" / key[:2] / f"{key}.json"


@contextmanager
def receiving(part: Path, digest: str, size: int, *, below: Path) -> Iterator[Incoming]:
    """Write a temporary file. InputError, at the end, unless digest and size are right; and for no room, which is to be
    made `below` a directory."""
    if size + _ROOM > free_space(part.parent):
        raise InputError(f"the fleet's store has no room for {shown_size(size)}",
                         remedy=f"free some disk below {below}")  # fmt: skip
    with open_emptied(part) as sink:
        incoming = Incoming(sink, size)
        yield incoming
        if not incoming.is_whole(digest):
            raise InputError("a file of the fleet came with other bytes than its SHA-256 says",
                             remedy="try again")  # fmt: skip


class Incoming:
    """A file that arrives."""

    def __init__(self, sink: BinaryIO, size: int) -> None:
        self._sink, self._size = sink, size
        self._digest, self._written = hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        """The next bytes. InputError for more than were announced."""
        self._written += len(data)
        if self._written > self._size:
            raise InputError("a file of the fleet is larger than it was said to be", remedy="try again")
        self._digest.update(data)
        self._sink.write(data)

    @property
    def missing(self) -> int:
        """Bytes that are still to come."""
        return self._size - self._written

    def is_whole(self, digest: str) -> bool:
        """Whether all has arrived, and is what it should be."""
        self._sink.flush()
        return self._written == self._size and self._digest.hexdigest() == digest
