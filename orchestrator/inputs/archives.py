"""Archives to directories. An archive comes from outside: nothing it holds may land, or point, elsewhere."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from orchestrator.errors import InputError
from orchestrator.inputs import trees

CHUNK = 1024 * 1024
# Errors of the system that an archive's own headers cause: bz2's "Invalid data stream" has no number, zipfile seeks
# to negative offsets, names can be too long for the file system.
_NONSENSE = {None, errno.EINVAL, errno.ENAMETOOLONG, errno.ELOOP}
_ZSTD = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """What an honest archive stays below. `ratio` counts from `ratio_from` bytes on: small files may be all zeros."""

    members: int = 500_000
    size: int = 64 * 2**30
    ratio: int = 200
    ratio_from: int = 2**30
    depth: int = 100


def extract(archive: Path, target: Path, *, name: str = "", limits: ArchiveLimits | None = None) -> None:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip into the new directory `target`.

    A single directory at the top is left out. Files are 0644 or 0755, owners and times are not kept. Refused:
    absolute paths and `..`, links that leave the archive, devices, more than `limits` allow, damaged and cut off
    archives. Errors: InputError that names `name` (default: the file); `target` is not there then.
    """
    shown = name or str(archive)
    staging = target.with_name(f"{target.name}.unpack")
    staging.mkdir(parents=True)
    try:
        writer = _Writer(root=staging, shown=shown, limits=limits or ArchiveLimits(), packed=archive.stat().st_size)
        with archive.open("rb") as stream:
            try:
                _unpack(stream, writer)
            except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, gzip.BadGzipFile) as e:
                raise _damaged(shown, e) from e
            except (ValueError, RuntimeError, LookupError, ArithmeticError, struct.error) as e:
                raise _damaged(shown, e) from e  # zipfile and tarfile: nonsense in headers, encryption
            except OSError as e:
                if e.errno not in _NONSENSE:
                    raise
                raise _damaged(shown, e) from e
        _only_child(staging).rename(target)
    finally:
        trees.delete(staging)


def _unpack(stream: BinaryIO, writer: _Writer) -> None:
    magic = stream.read(6)
    stream.seek(0)
    opened: IO[bytes]
    if magic.startswith(b"PK"):
        _unpack_zip(stream, writer)
        return
    if magic.startswith(b"\x1f\x8b"):
        opened = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    elif magic.startswith(b"BZh"):
        opened = bz2.BZ2File(stream)
    elif magic.startswith(b"\xfd7zXZ\0"):
        opened = lzma.LZMAFile(stream)  # noqa: SIM115 (the caller closes what is under it)
    elif magic.startswith(_ZSTD):
        raise InputError(f"{writer.shown}: zstd archives are not supported", remedy="repack it as .tar.xz")
    else:
        opened = stream
    _unpack_tar(_Tail(opened), writer)


class _Tail:
    """A stream that remembers its last bytes: a whole tar ends in zeros, one cut between members doesn't."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.last = (self.last + data)[-tarfile.BLOCKSIZE :]
        return data


def _unpack_tar(stream: _Tail, writer: _Writer) -> None:
    with tarfile.open(fileobj=cast("Any", stream), mode="r|") as tar:
        for member in tar:
            path = writer.enter(member.name)
            if member.isdir():
                writer.directory(path)
            elif member.isreg():
                source = tar.extractfile(member)
                writer.file(path, cast("IO[bytes]", source), member.size, bool(member.mode & 0o111))
            elif member.issym():
                writer.link(path, member.linkname)
            elif member.islnk():
                writer.same(path, writer.enter(member.linkname))
            else:
                raise writer.refused(member.name, "is a device, pipe or something unknown")
    while stream.read(CHUNK):  # to the end, where gzip and xz keep their checksums
        pass
    if stream.last.strip(b"\0") or not stream.last:
        raise EOFError("the archive is cut off")


def _unpack_zip(stream: BinaryIO, writer: _Writer) -> None:
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            mode = member.external_attr >> 16
            path = writer.enter(member.filename)
            if member.is_dir():
                writer.directory(path)
            elif stat.S_ISLNK(mode):
                writer.link(path, archive.read(member).decode() if member.file_size < 4096 else "/")
            elif stat.S_IFMT(mode) in {0, stat.S_IFREG}:
                with archive.open(member) as source:
                    writer.file(path, source, member.file_size, bool(mode & 0o111))
            else:
                raise writer.refused(member.filename, "is a device, pipe or something unknown")


@dataclass(kw_only=True)
class _Writer:
    """Puts members under `root`, and nowhere else."""

    root: Path
    shown: str
    limits: ArchiveLimits
    packed: int
    members: int = 0
    size: int = 0

    def enter(self, name: str) -> PurePosixPath:
        """The member's path, checked; counts it. "" (or ".") is the root itself."""
        self.members += 1
        if self.members > self.limits.members:
            raise self.refused(name, f"is one of more than {self.limits.members} members")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name or len(path.parts) > self.limits.depth:
            raise self.refused(name, "has a path that leads out of the archive")
        return path

    def directory(self, path: PurePosixPath) -> None:
        """Make a directory and those above it; none of them may be reached through a link."""
        current = self.root
        for part in path.parts:
            current = current / part
            if current.is_symlink() or (current.exists() and not current.is_dir()):
                raise self.refused(str(path), "lies below something that is no directory")
            current.mkdir(exist_ok=True)

    def file(self, path: PurePosixPath, source: IO[bytes], size: int, executable: bool) -> None:
        """Write a regular file of `size` bytes."""
        target = self._place(path)
        self._count(str(path), size)
        left = size
        with target.open("xb") as sink:
            while left:
                chunk = source.read(min(CHUNK, left))
                if not chunk:
                    raise EOFError(f"{path} is cut off")
                sink.write(chunk)
                left -= len(chunk)
            if source.read(1):  # reaches a zip member's checksum; a longer one lied about its size
                raise ValueError(f"{path} is longer than it says")
        target.chmod(0o755 if executable else 0o644)

    def link(self, path: PurePosixPath, to: str) -> None:
        """Make a symbolic link that stays inside."""
        inside = os.path.normpath(os.path.join(path.parent, to))  # noqa: PTH118 (text, not a path of the host)
        if not to or "\0" in to or to.startswith("/") or inside == ".." or inside.startswith("../"):
            raise self.refused(str(path), f"is a link to {to!r}, outside the archive")
        self._place(path).symlink_to(to)

    def same(self, path: PurePosixPath, other: PurePosixPath) -> None:
        """Make a hard link to a file that came before."""
        source = self.root / other
        self.directory(other.parent)
        if source.is_symlink() or not source.is_file():
            raise self.refused(str(path), f"is a hard link to {other}, which is no file of the archive before it")
        if path == other:
            return
        # A copy would cost the space again; a link is safe, as nobody writes to the tree later.
        self._place(path).hardlink_to(source)

    def refused(self, member: str, why: str) -> InputError:
        """The error for a member that no honest archive holds."""
        return InputError(
            f"{self.shown}: refused: member {member!r} {why}", remedy="don't use this archive, or repack it"
        )

    def _place(self, path: PurePosixPath) -> Path:
        if not path.parts:
            raise self.refused(str(path), "has no name")
        self.directory(path.parent)
        target = self.root / path
        if target.is_symlink() or target.is_file():
            target.unlink()  # as tar does: the later member wins
        elif target.exists():
            raise self.refused(str(path), "replaces a directory")
        return target

    def _count(self, member: str, size: int) -> None:
        self.size += size
        if size < 0 or self.size > self.limits.size:
            raise self.refused(member, f"brings the size over {self.limits.size} bytes")
        if self.size > max(self.limits.ratio_from, self.packed * self.limits.ratio):
            raise self.refused(member, f"brings the size to {self.size} bytes, from {self.packed} packed")


def _only_child(directory: Path) -> Path:
    children: Iterator[Path] = directory.iterdir()
    first, second = next(children, None), next(children, None)
    if first is not None and second is None and first.is_dir() and not first.is_symlink():
        return first
    return directory


def _damaged(shown: str, error: Exception) -> InputError:
    return InputError(
        f"{shown}: not a whole tar or zip archive ({error or type(error).__name__})",
        remedy="fetch it again, or check that the URL is of an archive",
    )
