"""What the file system says of files without reading them: whether any has changed since, as git's index knows it.

A file that is written twice within one tick of its file system's clock can change and keep its stamp (git calls such a
file racy). So whatever was changed shortly before its stamp was taken is read as well.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from orchestrator.inputs.trees import CHUNK, walk

RECENT_NS: Final = 2_000_000_000
"""A file that was changed this shortly before its stamp was taken may change once more unseen: FAT counts in 2 s."""
COMPILED: Final = "__pycache__"


def stamp(status: os.stat_result) -> str:
    """One file's: kind and mode, size, inode, times of change. The time of its status (ctime) nobody can set back."""
    return f"{status.st_mode}:{status.st_size}:{status.st_ino}:{status.st_mtime_ns}:{status.st_ctime_ns}"


class Stamps:
    """Stamps of many files, each by a name, as one digest. Errors: OSError for what can't be looked at.

    `complete` is False once something was added that stamps can't vouch for.
    """

    def __init__(self) -> None:
        self.complete = True
        self._whole = hashlib.sha256()
        self._changed: list[tuple[int, Path]] = []

    def add_file(self, name: str, path: Path) -> None:
        """A file that is read through links; one that isn't there counts as that."""
        try:
            self._add(name, path, path.stat())
        except FileNotFoundError:
            self._line(name, "missing")

    def add_own(self, name: str, path: Path) -> None:
        """Whatever is at `path` itself: of a directory its being there, of a link where it leads."""
        self._add(name, path, path.lstat())

    def add_tree(self, name: str, root: Path, skip: Iterable[str] = ()) -> None:
        """Everything below a directory but for `skip` at its top, and for what Python compiled.

        What links lead to counts as well; `complete` goes where that is a directory.
        """
        self._line(name, "tree")
        for inner, status in walk(root, skip):
            if COMPILED in inner.split("/"):
                continue
            self._add(inner, root / inner, status)
            if stat.S_ISLNK(status.st_mode):
                self.add_file(inner, root / inner)
                self.complete = self.complete and not (root / inner).is_dir()

    def add_text(self, name: str, text: str) -> None:
        """Anything that is no file."""
        self._line(name, hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest())

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that was added, in its order."""
        return self._whole.hexdigest()

    def recent(self, taken_ns: int) -> list[Path]:
        """Files that a stamp taken at `taken_ns` doesn't vouch for."""
        return [path for changed, path in self._changed if changed > taken_ns - RECENT_NS]

    def _add(self, name: str, path: Path, status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):  # its own times change with temporaries of ours
            self._line(name, "directory")
            return
        self._line(name, stamp(status))
        if stat.S_ISREG(status.st_mode):
            self._changed.append((max(status.st_mtime_ns, status.st_ctime_ns), path))

    def _line(self, name: str, text: str) -> None:
        self._whole.update(f"{name}\0{text}\0".encode(errors="surrogateescape"))


def contents(paths: Iterable[Path]) -> str:
    """SHA-256 (hex) of files' bytes, one after the other; "" for none. OSError for one that can't be read."""
    whole, some = hashlib.sha256(), False
    for path in paths:
        some = True
        for chunk in _chunks(path):
            whole.update(chunk)
        whole.update(b"\0")
    return whole.hexdigest() if some else ""


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk
