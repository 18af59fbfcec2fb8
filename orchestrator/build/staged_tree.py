"""A tree that was staged by hand, as a directory or a tar, read as the result of a build is read from an engine.

Either its root is the guest's, or it is the container of a native project's staging step (`render -o`), exported: then
it has /stage, /klibs and /sbom as the step left them.
"""

from __future__ import annotations

import io
import itertools
import os
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

from orchestrator.archive import ArchiveError, kind_of, translate_errors, unpack
from orchestrator.chunks import ChunkReader
from orchestrator.errors import BuildStepError, EngineError, UsageError
from orchestrator.staged import (
    CHUNK,
    FEWER,
    LARGE,
    LARGE_FILES,
    LIMITS,
    StagedEntry,
    file_entry,
    image_order,
    root_entries,
)
from orchestrator.tar_stream import TAR_END, member_chunks

STAGE, RECORDS = "stage", "sbom"
_ROOT = "/"


@dataclass(frozen=True, kw_only=True)
class StagedTree:
    """Satisfies `ImageFiles`. `entries` by path without a leading "/"; `spool`: a directory with room for them all."""

    path: Path
    entries: Mapping[str, StagedEntry]
    spool: Path

    @property
    def is_container(self) -> bool:
        """Whether it is an exported container of ours, and not the guest's root itself."""
        return STAGE in self.entries and LARGE_FILES.strip("/") in self.entries

    @property
    def placed(self) -> dict[str, Path]:
        """Large files of a directory, by guest path: the archive has only their places, as a build's has."""
        if self.is_container or not self.path.is_dir():
            return {}
        large = (at for at, entry in self.entries.items() if entry.kind == "file" and entry.size >= LARGE)
        return {at: self.path / at for at in large}

    @contextmanager
    def open_archive(self, path: str) -> Iterator[BinaryIO]:
        """A tar stream of `path`, sorted as an image is. BuildStepError when there is nothing of that name."""
        at = path.strip("/")
        below = self._below(at)
        if below is None:
            raise BuildStepError(f"{self.path} has no {path}", remedy="give a tree that holds all that the image needs")
        with io.BufferedReader(_TarStream(posixpath.basename(at), below), CHUNK) as stream:
            if not self.is_container:
                yield stream
                return
            # Two archives of it are read at a time, by two threads, and both would move about in the one tar.
            with tempfile.TemporaryFile(dir=self.spool) as spool:
                shutil.copyfileobj(stream, spool, CHUNK)
                spool.seek(0)
                yield spool

    def open_file(self, path: str) -> BinaryIO | None:  # noqa: ARG002
        """Not from here: `open_archive` has it."""
        return None

    def sorted_entries(self, path: str) -> Iterator[StagedEntry] | None:
        """All of them, whether a directory has them or a tar in a file."""
        below = self._below(path.strip("/"))
        if below is None:
            return None
        names = sorted(filter(None, below), key=image_order)
        return (_named(below[name], name) for name in names)

    def _below(self, at: str) -> dict[str, StagedEntry] | None:
        """What is at and below a path, by path from there on; None where there is nothing."""
        if not self.is_container and at == STAGE:
            places = {at: StagedEntry(path=at, kind="file") for at in self.placed}
            return {"": StagedEntry(path="", kind="directory"), **self.entries, **places}
        if not self.is_container and f"/{at}" in (LARGE_FILES, f"/{RECORDS}"):
            return {"": StagedEntry(path="", kind="file" if f"/{at}" == LARGE_FILES else "directory")}
        if at not in self.entries:
            return None
        return {
            name[len(at) :].lstrip("/"): entry
            for name, entry in self.entries.items()
            if name == at or name.startswith(f"{at}/")
        }


@contextmanager
def open_tree(path: Path, spool: Path) -> Iterator[StagedTree]:
    """A directory or a tar (also compressed). UsageError for anything else, and for what no image can hold."""
    if path.is_dir():
        listed = dict(itertools.islice(_walk(path), LIMITS.members + 1))
        yield _checked(StagedTree(path=path, entries=listed, spool=spool))
        return
    if not path.is_file():
        raise UsageError(
            f"there is no file or directory {path}", remedy="give the staged tree, as a directory or a tar"
        )
    with _plain_tar(path, spool) as stream:
        try:
            with root_entries(stream) as entries:
                tree = {entry.path: entry for entry in entries}
                yield _checked(StagedTree(path=path, entries=_with_parents(_linked(tree)), spool=spool))
        except (EngineError, BuildStepError) as error:
            cause = error.__cause__
            if not isinstance(cause, tarfile.TarError | ArchiveError):
                raise
            if isinstance(cause, ArchiveError) and cause.refused:
                raise UsageError(f"{path} cannot be packed: {cause}", remedy=error.remedy) from error
            raise UsageError(f"{path} is not a whole tar: {cause}", remedy="make it again") from error


@contextmanager
def _plain_tar(path: Path, spool: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as stream:
        if not kind_of(stream):
            yield stream
            return
        with tempfile.TemporaryFile(dir=spool) as plain:
            try:
                with translate_errors():
                    unpacked = unpack(stream, LIMITS)
                    while chunk := unpacked.read(CHUNK):
                        plain.write(chunk)
            except ArchiveError as error:
                raise UsageError(
                    f"{path} cannot be unpacked: {error}", remedy="give a tar, or a compressed tar"
                ) from error
            plain.seek(0)
            yield cast("BinaryIO", plain)


def _walk(top: Path) -> Iterator[tuple[str, StagedEntry]]:
    waiting = [("", str(top))]
    while waiting:
        below, directory = waiting.pop()
        for item in _listed(directory):
            at = f"{below}{item.name}"
            if item.is_symlink():
                target = os.readlink(item.path)  # noqa: PTH115 (as written)
                yield at, StagedEntry(path=at, kind="symlink", target=target)
            elif item.is_dir():
                yield at, StagedEntry(path=at, kind="directory")
                waiting.append((f"{at}/", item.path))
            elif item.is_file():
                yield at, file_entry(at, item.path, item.stat().st_size)
            else:
                raise UsageError(
                    f"{item.path} is a device, socket or pipe", remedy="an image holds files and directories"
                )


def _listed(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as listing:
            return list(listing)
    except OSError as error:
        raise UsageError(f"cannot read {directory}: {error.strerror}", remedy="check its permissions") from error


def _linked(tree: Mapping[str, StagedEntry]) -> dict[str, StagedEntry]:
    """The entries of a tar, with the files that hard links repeat in their places."""
    return {at: _file_of(entry, tree) if entry.kind == "hardlink" else entry for at, entry in tree.items()}


def _file_of(link: StagedEntry, tree: Mapping[str, StagedEntry]) -> StagedEntry:
    entry, passed = link, set[str]()
    while entry.kind == "hardlink" and entry.target in tree and entry.target not in passed:
        passed.add(entry.target)
        entry = tree[entry.target]
    return entry


def _named(entry: StagedEntry, path: str) -> StagedEntry:
    return entry if entry.path == path else replace(entry, path=path)


def _with_parents(entries: Mapping[str, StagedEntry]) -> dict[str, StagedEntry]:
    """The entries, with the directories that a tar doesn't name."""
    parents = {str(parent) for path in entries for parent in list(Path(path).parents)[:-1]}
    missing = {path: StagedEntry(path=path, kind="directory") for path in parents if path not in entries}
    return {**missing, **entries}


def _checked(tree: StagedTree) -> StagedTree:
    if not tree.entries:
        raise UsageError(f"{tree.path} is empty", remedy="give the staged tree")
    if len(tree.entries) > LIMITS.members:
        raise UsageError(f"{tree.path} has more than {LIMITS.members} files, directories and links", remedy=FEWER)
    return tree


class _TarStream(ChunkReader):
    """A tar of the entries, below `top`, made as it is read: no byte lies on the disk for it."""

    def __init__(self, top: str, entries: Mapping[str, StagedEntry]) -> None:
        super().__init__()
        self._chunks = _tar_chunks(top, entries)

    def next_chunk(self) -> bytes | None:
        return next(self._chunks, None)


def _tar_chunks(top: str, entries: Mapping[str, StagedEntry]) -> Iterator[bytes]:
    for name in sorted(entries, key=image_order):
        entry = entries[name]
        info = tarfile.TarInfo(f"{top}/{name}".rstrip("/"))
        if entry.kind == "directory":
            info.type = tarfile.DIRTYPE
        elif entry.kind == "symlink":
            info.type, info.linkname = tarfile.SYMTYPE, entry.target
        else:
            info.size = entry.size
        yield from member_chunks(info, entry.chunks())
    yield TAR_END
