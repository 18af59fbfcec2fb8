"""The staged tree as it streams out of the resulting container: tar members -> guest entries.

Some of its files are placeholders there, empty ones: their bytes never went through a step of ours. The tree that
kinds of images read has the files themselves.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from orchestrator.archive import ArchiveError, Meter, Tar, UnpackLimits, read_tar, read_tar_file, translate_errors
from orchestrator.errors import BuildStepError, EngineError, InputError
from orchestrator.resolved import Input, Inputs

CHUNK = 1024 * 1024
LIMITS = UnpackLimits(size=2**42, seconds=24 * 3600.0)
"""What a build makes may be large and slow to read; its headers may not, and it may not have more entries: 20,000 take
70 MiB of memory until their image is written (measured)."""
FEWER: Final = "leave out what the program does not need, or put many small files into one archive that it reads"
"""What to do about a tree that has too many."""
OpenArchive = Callable[[str], AbstractContextManager[BinaryIO]]
"""Opens a tar stream of a path in the resulting container, from its start each time it is called."""


LARGE: Final = 8 * 1024 * 1024
"""Bytes from which on a file isn't copied by the staging step. Copying 8 MiB into a layer takes 30 ms on Docker 20.10,
130 ms on Podman 4.3.1 (measured); one more archive of the engine some 20 ms, an estimate."""
LARGE_FILES: Final = "/sbom/large"
"""Where the staging step lists them: guest path, path in the container, size in bytes, with tabs between."""
_LARGE_LINE: Final = re.compile(r"([^\t]+)\t(/[^\t]+)\t([0-9]{1,15})")
_LONGEST_LIST: Final = 64 * 1024 * 1024


class ImageFiles(Protocol):
    """The files of an engine's image."""

    def open_archive(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A tar stream of `path`. BuildStepError when the image has no such path; EngineError for a broken stream."""
        ...

    def open_file(self, path: str) -> BinaryIO | None:
        """A regular file straight from the engine's storage, where that is this machine's and can be read.

        `path` is absolute, and no part of it is a link. None everywhere else: `open_archive` has it.
        """
        ...

    def sorted_entries(self, path: str) -> Iterator[StagedEntry] | None:
        """The entries below `path` in the order of an image (`image_order`), where they can be read one by one.

        None everywhere else: `open_archive` has them.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class StagedEntry:
    """One entry of the guest's tree. `path` has no leading "/"; `kind` is file|directory|symlink|hardlink.

    `target` is a symlink's text, or the guest path of the file that a hard link repeats. `sha256` is what a file has to
    be, "" where nothing says it. `stored`: its bytes needn't be read, they lie in an open file at that offset. `open`
    opens the file itself where it lies on this machine; None where that can't be, or isn't worth it.
    """

    path: str
    kind: str
    size: int = 0
    target: str = ""
    sha256: str = ""
    read: Callable[[], Iterator[bytes]] | None = None
    stored: tuple[int, int] | None = None
    open: Callable[[], BinaryIO | None] | None = None

    def chunks(self) -> Iterator[bytes]:
        """A file's bytes, exactly `size` of them. Only once, and before the next entry is taken from a stream."""
        return iter(()) if self.read is None else self.read()

    def content(self) -> bytes:
        """The same at once: for small files."""
        return b"".join(self.chunks())


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedEntry:
    """One entry of a staged tree that was packed: `kind` is file|directory|symlink, `target` a symlink's text.

    `offset` says where in the image a file's bytes begin, all `size` of them; `sha256` (hex) is theirs.
    """

    path: str
    kind: str
    size: int = 0
    target: str = ""
    sha256: str = ""
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class PackedTree:
    """A staged tree in an image that was made of it: `descriptor` is the open image, which is as it was then.

    `entries` as `Packing.staged` had them. `unmarked` are the guest paths of files that `verify` has looked through in
    that image, and that did not say of themselves that they stand in for another.
    """

    descriptor: int
    entries: Sequence[PackedEntry]
    unmarked: frozenset[str] = frozenset()


def image_order(path: str) -> bytes:
    """Sorts paths as an image has them: by the bytes of their names, and a directory right before what is in it."""
    return path.replace("/", "\0").encode("utf-8", "surrogateescape")


def host_files(inputs: Inputs) -> dict[str, StagedEntry]:
    """The files of `stage.files` that no build step makes, by guest path."""
    return {resolved.guest_path: _host_entry(resolved) for resolved in inputs.staged_files}


def placed_files(inputs: Inputs, files: ImageFiles) -> dict[str, StagedEntry]:
    """The files whose places the staged tree has, by guest path: large ones of the image `files`, and those of
    `stage.files` that no build step makes."""
    large = {entry.path: entry for entry in _large_entries(files)}
    return large | host_files(inputs)


def _large_entries(files: ImageFiles) -> Iterator[StagedEntry]:
    for line in _large_list(files).decode(errors="surrogateescape").split("\n"):
        if not line:
            continue
        match = _LARGE_LINE.fullmatch(line)
        if match is None:  # a user's own step has changed the tools that staging uses
            raise BuildStepError(f"{LARGE_FILES} in the container has a line that makes no sense: {line[:80]!r}")
        path, source, size = match[1], match[2], int(match[3])
        yield StagedEntry(
            path=path, kind="file", size=size, read=partial(_large_chunks, files, source, size),
            open=partial(_open_large, files, source, size),
        )  # fmt: skip


def _large_list(files: ImageFiles) -> bytes:
    stored = files.open_file(LARGE_FILES)
    if stored is not None:
        with stored:
            return stored.read(_LONGEST_LIST)
    with files.open_archive(LARGE_FILES) as stream:
        texts = [b"".join(e.chunks()) for e in read_entries(stream, "") if e.kind == "file" and e.size < _LONGEST_LIST]
    return b"".join(texts)


def _open_large(files: ImageFiles, source: str, size: int) -> BinaryIO | None:
    stored = files.open_file(source)
    if stored is not None and os.fstat(stored.fileno()).st_size != size:
        stored.close()
        return None
    return stored


def _large_chunks(files: ImageFiles, source: str, size: int) -> Iterator[bytes]:
    stored = _open_large(files, source, size)
    if stored is not None:
        with stored:
            yield from _exactly(stored, size, source)
            return
    with files.open_archive(source) as stream:
        for entry in read_entries(stream, ""):
            if entry.kind == "file" and entry.size == size:
                yield from entry.chunks()
                return
    raise EngineError(
        f"{source} in the container is not what the staging step listed",
        remedy="the engine took a stale step from its cache; build with --no-cache",
    )


def _exactly(stream: BinaryIO, size: int, what: str) -> Iterator[bytes]:
    left = size
    while left and (chunk := stream.read(min(CHUNK, left))):
        left -= len(chunk)
        yield chunk
    if left:
        raise EngineError(f"{what} ends {left} bytes short in the engine's storage", remedy="look at its disk")


def _host_entry(resolved: Input) -> StagedEntry:
    path, size = resolved.local, int(resolved.pin["size"])
    read = partial(_host_chunks, path, size)
    return StagedEntry(
        path=resolved.guest_path, kind="file", size=size, sha256=resolved.pin["sha256"], read=read,
        open=partial(_open_host, path),
    )  # fmt: skip


def _open_host(path: Path | str) -> BinaryIO:
    try:
        return Path(path).open("rb", buffering=0)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", remedy="check its permissions") from error


def _host_chunks(path: Path | str, size: int) -> Iterator[bytes]:
    left = size
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while True:
                wanted = min(CHUNK, left + 1)  # one more than there should be: a small file takes a single call
                chunk = os.read(descriptor, wanted)
                left -= len(chunk)
                if not chunk or left < 0:
                    break
                yield chunk
                if not left and len(chunk) < wanted:
                    break
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", remedy="check its permissions") from error
    if left:
        raise changed_file(path)


def changed_file(path: Path | str) -> InputError:
    """The error for a file that isn't what it was when the build began."""
    return InputError(f"{path} changed during the build", remedy="build again when nothing writes to it")


def with_placed(entries: Iterator[StagedEntry], placed: Mapping[str, StagedEntry]) -> Iterator[StagedEntry]:
    """The entries, with the files `placed` where their placeholders are. EngineError where there is none for one."""
    left = dict(placed)
    for entry in entries:
        yield left.pop(entry.path, entry)
    if left:
        raise EngineError(
            f"the staged tree has no place for /{min(left)}",
            remedy="the engine took a stale step from its cache; build with --no-cache",
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


@contextmanager
def root_entries(spool: BinaryIO) -> Iterator[list[StagedEntry]]:
    """Every file, directory and link of a tar in a file, whatever else is in it; they can be read in any order."""
    with _translate_errors(""), read_tar_file(spool) as archive:
        known = (member for member in archive if member.isreg() or member.isdir() or member.issym() or member.islnk())
        yield [entry for member in known if (entry := _entry(archive, member, "")) is not None]


def file_entry(path: str, source: str, size: int) -> StagedEntry:
    """A file of this machine as an entry of a tree."""
    read, opened = partial(_host_chunks, source, size), partial(_open_host, source)
    return StagedEntry(path=path, kind="file", size=size, read=read, open=opened)


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
        if isinstance(error, ArchiveError) and error.refused:
            raise BuildStepError(f"/{top} in the container cannot be packed: {error}", remedy=FEWER) from error
        raise EngineError(
            f"the engine's archive of /{top} is broken: {error}",
            remedy="the engine or its disk failed; look at its log and run the build again",
        ) from error


def _entry(archive: Tar, member: tarfile.TarInfo, top: str) -> StagedEntry | None:
    path = _below(member.name, top)
    if not path:
        return None
    if member.isreg():
        read = partial(_member_chunks, archive, member, path)
        return StagedEntry(path=path, kind="file", size=member.size, read=read)
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


def _member_chunks(archive: Tar, member: tarfile.TarInfo, path: str) -> Iterator[bytes]:
    left, chunks = member.size, archive.chunks(member)
    while left:
        chunk = b""
        with suppress(ArchiveError), translate_errors():
            chunk = next(chunks, b"")
        if not chunk:
            break
        left -= len(chunk)
        yield chunk
    if left:
        raise EngineError(
            f"the engine's archive ended {left} bytes short in /{path}",
            remedy="the engine or its disk failed; look at its log and run the build again",
        )


def _below(name: str, top: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/".join(parts[1:] if parts and parts[0] == top else parts)
