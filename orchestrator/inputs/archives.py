"""Archives to directories. An archive comes from outside: nothing it holds may land, or point, elsewhere."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from orchestrator import archive as reading
from orchestrator.errors import InputError
from orchestrator.files import GuardedTree
from orchestrator.inputs import trees

CHUNK = reading.CHUNK
_HOPS = 40
"""Links that one path may lead through; Linux follows as many."""


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits(reading.UnpackLimits):
    """What an honest archive stays below."""

    depth: int = 100


def extract(archive: Path, target: Path, *, name: str = "", limits: ArchiveLimits | None = None) -> None:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip into the new directory `target`.

    A single directory at the top is left out. Files are 0644 or 0755, owners and times are not kept. Refused:
    absolute paths and `..`, links that leave the archive, devices, more than `limits` allow, damaged and cut off
    archives. Errors: InputError that names `name` (default: the file); `target` is not there then.
    """
    shown = name or str(archive)
    staging = target.with_name(f"{target.name}.unpack")
    try:
        with archive.open("rb") as stream, GuardedTree(staging) as tree:
            writer = _Writer(
                tree=tree, shown=shown, limits=limits or ArchiveLimits(), packed=os.fstat(stream.fileno()).st_size
            )
            try:
                with reading.translate_errors():
                    _unpack(stream, writer)
                top = _only_child(staging)
                writer.check_links(0 if top == staging else 1)
            except reading.ArchiveError as error:
                raise _refused(shown, error) from error
        top.rename(target)
    finally:
        trees.delete(staging)


def _unpack(stream: BinaryIO, writer: _Writer) -> None:
    kind = reading.kind_of(stream)
    if kind == "zip":
        _unpack_zip(stream, writer)
    elif kind == "zstd":
        raise InputError(f"{writer.shown}: zstd archives are not supported", remedy="repack it as .tar.xz")
    else:
        _unpack_tar(reading.unpack(stream, writer.limits), writer)


def _unpack_tar(stream: reading.Meter, writer: _Writer) -> None:
    with reading.read_tar(stream) as tar:
        for member in tar:
            path = writer.enter(member.name)
            if member.isdir():
                writer.make_directory(path)
            elif member.isreg():
                writer.write_file(path, tar.content(member), member.size, bool(member.mode & 0o111))
            elif member.issym():
                writer.make_symlink(path, member.linkname)
            elif member.islnk():
                writer.make_hard_link(path, writer.enter(member.linkname))
            else:
                raise writer.refused(member.name, "is not a file, directory or link")
    stream.drain()
    if stream.last.strip(b"\0") or not stream.last:
        raise EOFError("the archive is truncated")


def _unpack_zip(stream: BinaryIO, writer: _Writer) -> None:
    with reading.read_zip(stream, writer.limits) as archive:
        for member in archive.infolist():
            mode = member.external_attr >> 16
            path = writer.enter(member.filename)
            if member.is_dir():
                writer.make_directory(path)
            elif stat.S_ISLNK(mode):
                writer.make_symlink(path, _link_text(archive.open(member)))
            elif stat.S_IFMT(mode) in {0, stat.S_IFREG}:
                with archive.open(member) as source:
                    writer.write_file(path, source, member.file_size, bool(mode & 0o111))
            else:
                raise writer.refused(member.filename, "is not a file, directory or link")


def _link_text(source: IO[bytes]) -> str:
    with source:
        text = source.read(4096)
        return text.decode() if len(text) < 4096 else "/"  # no link has that much; and "/" is refused


@dataclass(kw_only=True)
class _Writer:
    """Puts members into `tree`, and nowhere else."""

    tree: GuardedTree
    shown: str
    limits: ArchiveLimits
    packed: int
    members: int = 0
    size: int = 0
    links: dict[PurePosixPath, str] = field(default_factory=dict)
    deadline: float = field(init=False)

    def __post_init__(self) -> None:
        """The time begins."""
        self.deadline = time.monotonic() + self.limits.seconds

    def enter(self, name: str) -> PurePosixPath:
        """The member's path, checked; counts it. "" (or ".") is the root itself."""
        self.members += 1
        if self.members > self.limits.members:
            raise self.refused(name, f"exceeds the limit of {self.limits.members} members")
        if time.monotonic() > self.deadline:
            raise self.refused(name, f"was not reached within {self.limits.seconds:g} s")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name or len(path.parts) > self.limits.depth:
            raise self.refused(name, "has a path outside the archive")
        return path

    def make_directory(self, path: PurePosixPath) -> None:
        """Make a directory and those above it; none of them may be reached through a link."""
        try:
            self.tree.make_directory(path)
        except NotADirectoryError as error:
            raise self.refused(str(path), "is below something that is not a directory") from error

    def write_file(self, path: PurePosixPath, source: IO[bytes], size: int, executable: bool) -> None:
        """Write a regular file of `size` bytes."""
        self._make_room(path)
        self._count(str(path), size)
        left = size
        with self.tree.create_file(path, 0o755 if executable else 0o644) as sink:
            while left:
                chunk = source.read(min(CHUNK, left))
                if not chunk:
                    raise EOFError(f"{path} is truncated")
                sink.write(chunk)
                left -= len(chunk)
            if source.read(1):  # reaches a zip member's checksum; a longer one lied about its size
                raise ValueError(f"{path} is longer than its header says")

    def make_symlink(self, path: PurePosixPath, to: str) -> None:
        """Make a symbolic link. Whether it stays inside is asked at the end: what it leads through may come later."""
        if not to or "\0" in to or to.startswith("/"):
            raise self._outside(path, to)
        self._make_room(path)
        self.tree.make_symlink(path, to)
        self.links[path] = to

    def make_hard_link(self, path: PurePosixPath, other: PurePosixPath) -> None:
        """Make a hard link to a file that came before."""
        self.make_directory(other.parent)
        if not other.parts or self.tree.kind_of(other) != "file":
            raise self.refused(str(path), f"is a hard link to {other}, which is not an earlier file of the archive")
        if path == other:
            return
        # A copy would cost the space again; a link is safe, as nobody writes to the tree later.
        self._make_room(path)
        self.tree.make_hard_link(path, other)

    def check_links(self, top: int) -> None:
        """InputError for a link that leads out of the archive, by itself or through others; `top` levels go."""
        for path, to in self.links.items():
            if not self._stays(path, top):
                raise self._outside(path, to)

    def _stays(self, link: PurePosixPath, top: int) -> bool:
        """Whether each step of the way that `link` leads is inside. It may end in nothing, or go round for ever."""
        at: list[str] = []
        left, hops = list(reversed(link.parts)), 0
        while left:
            part = left.pop()
            if part == "..":
                if len(at) <= top:
                    return False
                at.pop()
                continue
            at.append(part)
            to = self.links.get(PurePosixPath(*at))
            if to is None:
                continue
            hops += 1
            if hops > _HOPS:
                return True  # the system says ELOOP
            at.pop()
            left += [part for part in reversed(to.split("/")) if part not in ("", ".")]
        return True

    def refused(self, member: str, why: str) -> InputError:
        """The error for a member that no honest archive holds."""
        return InputError(
            f"{self.shown}: refused: member {member[:200]!r} {why}", remedy="do not use this archive, or repack it"
        )

    def _outside(self, path: PurePosixPath, to: str) -> InputError:
        return self.refused(str(path), f"is a link to {to[:200]!r}, outside the archive")

    def _make_room(self, path: PurePosixPath) -> None:
        if not path.parts:
            raise self.refused(str(path), "has no name")
        self.make_directory(path.parent)
        there = self.tree.kind_of(path)
        if there in ("file", "link"):
            self.tree.remove(path)  # as tar does: the later member wins
            self.links.pop(path, None)
        elif there:
            raise self.refused(str(path), "replaces a directory")

    def _count(self, member: str, size: int) -> None:
        self.size += size
        if size < 0 or self.size > self.limits.size:
            raise self.refused(member, f"makes the archive unpack to more than {self.limits.size} bytes")
        if self.size > max(self.limits.ratio_from, self.packed * self.limits.ratio):
            raise self.refused(member, f"makes the archive unpack to {self.size} bytes, from {self.packed} packed")


def _only_child(directory: Path) -> Path:
    children: Iterator[Path] = directory.iterdir()
    first, second = next(children, None), next(children, None)
    if first is not None and second is None and first.is_dir() and not first.is_symlink():
        return first
    return directory


def _refused(shown: str, error: reading.ArchiveError) -> InputError:
    if error.refused:
        return InputError(f"{shown}: refused: {error}", remedy="do not use this archive, or repack it")
    return InputError(
        f"{shown} is not a complete tar or zip archive ({error})",
        remedy="fetch it again, or check that the URL points to an archive",
    )
