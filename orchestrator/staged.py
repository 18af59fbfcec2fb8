"""The staged tree as it streams out of the resulting container: tar members -> guest entries."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

from orchestrator.archive import ArchiveError, Meter, Tar, UnpackLimits, read_tar, read_tar_file, translate_errors
from orchestrator.errors import BuildStepError, EngineError

CHUNK = 1024 * 1024
LIMITS = UnpackLimits(size=2**42, seconds=24 * 3600.0)
"""What a build makes may be large and slow to read; its headers may not."""
OpenArchive = Callable[[str], AbstractContextManager[BinaryIO]]
"""Opens a tar stream of a path in the resulting container, from its start each time it is called."""


@dataclass(frozen=True, kw_only=True)
class StagedEntry:
    """One entry of the guest's tree. `path` has no leading "/"; `kind` is file|directory|symlink|hardlink.

    `target` is a symlink's text, or the guest path of the file that a hard link repeats.
    """

    path: str
    kind: str
    size: int = 0
    target: str = ""
    member: tarfile.TarInfo | None = None
    archive: Tar | None = None

    def chunks(self) -> Iterator[bytes]:
        """A file's bytes, exactly `size` of them. Only once, and before the next entry is taken from a stream."""
        if self.archive is None or self.member is None:
            return
        left, source = self.size, self.archive.content(self.member)
        while left:
            chunk = b""
            with suppress(ArchiveError), translate_errors():
                chunk = source.read(min(CHUNK, left))
            if not chunk:
                break
            left -= len(chunk)
            yield chunk
        if left:
            raise EngineError(
                f"the engine's archive ended {left} bytes short in /{self.path}",
                remedy="the engine or its disk failed; look at its log and run the build again",
            )


def read_entries(stream: BinaryIO, top: str) -> Iterator[StagedEntry]:
    """The entries below `top` (the last component of the archived path) of an engine's archive stream, as they come.

    A truncated or broken stream is an EngineError; devices and sockets are a BuildStepError.
    """
    with _translate_errors(top), read_tar(Meter(stream=stream, limits=LIMITS)) as archive:
        yield from _entries(archive, top)


@contextmanager
def all_entries(spool: BinaryIO, top: str) -> Iterator[list[StagedEntry]]:
    """The same of a stream that lies in a file, all at once; they can be read in any order until the end."""
    with _translate_errors(top), read_tar_file(spool) as archive:
        yield list(_entries(archive, top))


def _entries(archive: Tar, top: str) -> Iterator[StagedEntry]:
    for member in archive:
        entry = _entry(archive, member, top)
        if entry is not None:
            yield entry
    if not archive.ended:
        raise ArchiveError("it has no end mark, so the rest is missing")


@contextmanager
def _translate_errors(top: str) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, ArchiveError) as error:
        raise EngineError(
            f"the engine's archive of /{top} is broken: {error}",
            remedy="the engine or its disk failed; look at its log and run the build again",
        ) from error


def _entry(archive: Tar, member: tarfile.TarInfo, top: str) -> StagedEntry | None:
    path = _below(member.name, top)
    if not path:
        return None
    if member.isreg():
        return StagedEntry(path=path, kind="file", size=member.size, member=member, archive=archive)
    if member.isdir():
        return StagedEntry(path=path, kind="directory")
    if member.issym():
        return StagedEntry(path=path, kind="symlink", target=member.linkname)
    if member.islnk():
        return StagedEntry(path=path, kind="hardlink", target=_below(member.linkname, top))
    raise BuildStepError(
        f"/{path} in the staged tree is a device, socket or FIFO; an image holds files, directories and links",
        remedy="leave it out of stage.files and of the manifest's Dirs",
    )


def _below(name: str, top: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/".join(parts[1:] if parts and parts[0] == top else parts)
