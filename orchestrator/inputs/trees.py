"""Directories as values: a walk in a fixed order, a digest of content, a cheap stamp that shows changes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

CHUNK = 1024 * 1024
GEVULOT_SKIP = (".git", "target")
"""What a local gevulot tree holds at its top that is no source: neither pinned nor to be copied."""


def walk(root: Path, skip: Iterable[str] = ()) -> Iterator[tuple[str, os.stat_result]]:
    """(relative path with '/', lstat) of everything under `root`, sorted, links not followed.

    `skip` names entries at the top that are left out.
    """
    left_out = frozenset(skip)

    def visit(directory: Path, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        with os.scandir(directory) as entries:
            children = sorted(entries, key=lambda entry: entry.name)
        for child in children:
            name = prefix + child.name
            if name in left_out:
                continue
            status = child.stat(follow_symlinks=False)
            yield name, status
            if stat.S_ISDIR(status.st_mode):
                yield from visit(directory / child.name, name + "/")

    return visit(root, "")


def file_digest(path: Path) -> tuple[str, int]:
    """(SHA-256 in hex, size in bytes) of a file."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return digest, stream.tell()


def digest_tree(root: Path, skip: Iterable[str] = ()) -> str:
    """SHA-256 (hex) of a directory's content: names, kinds, the executable bit, link targets and bytes.

    Owners, times and other permission bits don't count, nor do sockets, pipes and devices: a context carries
    none of them.
    """
    whole = hashlib.sha256()
    for name, status in walk(root, skip):
        if stat.S_ISDIR(status.st_mode):
            line = "d"
        elif stat.S_ISLNK(status.st_mode):
            line = f"l {os.readlink(root / name)}"  # noqa: PTH115 (Path would tidy the target)
        elif stat.S_ISREG(status.st_mode):
            kind = "x" if status.st_mode & 0o111 else "f"
            line = f"{kind} {file_digest(root / name)[0]}"
        else:
            continue
        whole.update(f"{name}\0{line}\0".encode(errors="surrogateescape"))
    return whole.hexdigest()


def stamp(path: Path) -> str:
    """A cheap fingerprint of a file or directory: paths, modes, sizes and modification times, no content."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return f"{stat.S_IFMT(status.st_mode)}:{status.st_size}:{status.st_mtime_ns}"
    whole = hashlib.sha256()
    for name, stat_result in walk(path):
        # A directory's own size and time depend on the file system and on temporaries beside its children.
        rest = "" if stat.S_ISDIR(stat_result.st_mode) else f"{stat_result.st_size}:{stat_result.st_mtime_ns}"
        whole.update(f"{name}\0{stat_result.st_mode}:{rest}\0".encode(errors="surrogateescape"))
    return whole.hexdigest()


def tree_size(path: Path) -> int:
    """Bytes in the regular files of a file or directory."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size
    return sum(status.st_size for _, status in walk(path) if stat.S_ISREG(status.st_mode))


def delete(path: Path) -> None:
    """Remove a file or a whole directory; what isn't there is fine, and so is what someone else just removed."""
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
