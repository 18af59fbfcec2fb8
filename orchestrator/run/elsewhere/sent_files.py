"""Files of this machine as the chunks of a tar, all of them root's."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import EngineError
from orchestrator.tar_stream import CHUNK, TAR_END, member_chunks

Member = tuple[str, "Path | bytes | str"]
"""A path in the archive, and what is there: a file or directory of this machine, bytes, or a symbolic link's text."""


def tar_chunks(members: Iterable[Member]) -> Iterator[bytes]:
    """A tar of these. Sockets, pipes and devices are left out."""
    for name, content in members:
        if isinstance(content, Path):
            yield from _member(name, content)
            continue
        info = tarfile.TarInfo(name.lstrip("/"))
        if isinstance(content, str):
            info.type, info.linkname = tarfile.SYMTYPE, content
            yield from member_chunks(info)
        else:
            info.size, info.mode = len(content), 0o644
            yield from member_chunks(info, [content])
    yield TAR_END


def below(folder: Path, name: str, leaves_out: Callable[[str], bool] = lambda _name: False) -> Iterator[Member]:
    """A directory and all that is in it, to lie at `name`. No link is followed. `leaves_out`: by its own name."""
    yield name, folder
    with os.scandir(folder) as entries:
        rows = sorted((entry for entry in entries if not leaves_out(entry.name)), key=lambda entry: entry.name)
    for entry in rows:
        if entry.is_dir(follow_symlinks=False):
            yield from below(Path(entry), f"{name}/{entry.name}", leaves_out)
        else:
            yield f"{name}/{entry.name}", Path(entry)


def _member(name: str, path: Path) -> Iterator[bytes]:
    status = path.lstat()
    info = tarfile.TarInfo(name.lstrip("/"))
    info.mode, info.mtime = stat.S_IMODE(status.st_mode) & 0o777, int(status.st_mtime)
    if stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
        yield from member_chunks(info)
    elif stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
        yield from member_chunks(info)
    elif stat.S_ISREG(status.st_mode):
        with path.open("rb") as file:
            info.size = os.fstat(file.fileno()).st_size
            yield from member_chunks(info, _content(file, info.size))


def _content(file: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left and (chunk := file.read(min(left, CHUNK))):
        left -= len(chunk)
        yield chunk
    if left:
        raise EngineError(f"{file.name} became shorter while it was sent", remedy="try again")
