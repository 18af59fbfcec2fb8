"""What git's index says of a work tree's files. Its file is read here; git isn't run: a repository's own settings name
programs that git would start (fsmonitor, filters), and a build of a stranger's project runs nothing on the host.

Format: git's documentation, "index-format" (versions 2 to 4).
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_HEADER = struct.Struct(">4sII")
_STAT = struct.Struct(">10I")
_EXTENDED, _STAGE = 0x4000, 0x3000
_CHUNK = 256 * 1024
_SHA256 = re.compile(rb"^\s*objectformat\s*=\s*sha256\s*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class _IndexEntry:
    """A file of the index: its name's hash there, and the size and time that git saw last."""

    oid: bytes
    mtime_ns: int
    size: int


@dataclass(frozen=True, kw_only=True)
class _GitIndex:
    """The index of the work tree at `root`; `written_ns` is when git wrote it."""

    root: Path
    entries: dict[bytes, _IndexEntry]
    written_ns: int

    def has(self, path: Path, status: os.stat_result) -> bool:
        """Whether the file at `path` has the content that the index names, or is git's own."""
        inside = path.relative_to(self.root)
        if ".git" in inside.parts:
            return True
        entry = self.entries.get(os.fsencode(inside))
        if entry is None:
            return False
        same = (entry.mtime_ns, entry.size) == (status.st_mtime_ns, status.st_size & 0xFFFFFFFF)
        # A file written at the very time of the index may have been written again since: git calls it racy.
        if same and entry.mtime_ns < self.written_ns:
            return True
        return _blob_hash(path, status.st_size, len(entry.oid)) == entry.oid


@dataclass(kw_only=True)
class Repositories:
    """The git work trees that files lie in, submodules too; each index is read once."""

    _above: dict[Path, _GitIndex | None] = field(default_factory=dict)

    def has(self, path: Path, status: os.stat_result) -> bool | None:
        """Whether git has the file as it is: False for one that it doesn't track or that was edited; None: no git.

        `path` is absolute, `status` its own. OSError when it can't be read.
        """
        repository = self._of(path.parent)
        return None if repository is None else repository.has(path, status)

    def _of(self, directory: Path) -> _GitIndex | None:
        if directory not in self._above:
            if os.path.lexists(directory / ".git"):
                self._above[directory] = _read_repository(directory)
            else:
                self._above[directory] = None if directory == directory.parent else self._of(directory.parent)
        return self._above[directory]


def index_files(directories: Iterable[Path]) -> list[Path]:
    """The index of every git work tree that one of `directories` (absolute) lies in. OSError if one is unreadable."""
    above = {parent for directory in directories for parent in (directory, *directory.parents)}
    return [_folder(root) / "index" for root in sorted(above) if os.path.lexists(root / ".git")]


def _folder(root: Path) -> Path:
    """Where git keeps what is its own of the work tree at `root`."""
    folder = root / ".git"
    if folder.is_file():  # a submodule or a further work tree: `gitdir: PATH`
        folder = root / folder.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    return folder


def _read_repository(root: Path) -> _GitIndex | None:
    """The repository of a work tree; None where it can't be understood (a split index, a newer version)."""
    try:
        folder = _folder(root)
        index = folder / "index"
        written = index.stat().st_mtime_ns
        entries = dict(_entries(index.read_bytes(), _oid_size(folder)))
    except (OSError, ValueError, struct.error, IndexError):
        return None
    return _GitIndex(root=root, entries=entries, written_ns=written)


def _oid_size(folder: Path) -> int:
    common = folder / "commondir"
    config = (folder / common.read_text(encoding="utf-8").strip() if common.is_file() else folder) / "config"
    return 32 if config.is_file() and _SHA256.search(config.read_bytes()) else 20


def _entries(data: bytes, oid_size: int) -> Iterator[tuple[bytes, _IndexEntry]]:
    """Each path of the index and its entry; without those of an unfinished merge."""
    magic, version, count = _HEADER.unpack_from(data)
    if magic != b"DIRC" or version not in (2, 3, 4):
        raise ValueError("not an index of version 2 to 4")
    at, path = _HEADER.size, b""
    for _ in range(count):
        begin = at
        _, _, seconds, nanoseconds, *_, size = _STAT.unpack_from(data, at)
        at += _STAT.size
        oid = data[at : at + oid_size]
        (flags,) = struct.unpack_from(">H", data, at + oid_size)
        at += oid_size + (4 if flags & _EXTENDED else 2)
        kept = b""
        if version == 4:
            cut, at = _varint(data, at)
            kept = path[: len(path) - cut]
        end = data.index(b"\0", at)
        path = kept + data[at:end]
        at = end + 1 if version == 4 else begin + (end - begin + 8) // 8 * 8
        if not flags & _STAGE:
            yield path, _IndexEntry(oid=oid, mtime_ns=seconds * 1_000_000_000 + nanoseconds, size=size)
    if data[at : at + 4] == b"link":  # a split index: most of it is in another file
        raise ValueError("a split index")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """git's variable-length number at `at`, and where it ends."""
    value = data[at] & 0x7F
    while data[at] & 0x80:
        at += 1
        value = ((value + 1) << 7) | (data[at] & 0x7F)
    return value, at + 1


def _blob_hash(path: Path, size: int, oid_size: int) -> bytes:
    whole = hashlib.new("sha256" if oid_size == 32 else "sha1", b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            whole.update(chunk)
    return whole.digest()
