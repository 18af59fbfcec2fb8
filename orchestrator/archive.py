"""Archives from outside, read in one way by all: tar, plain or packed by gzip, bzip2, xz or zstd; and zip.

Every read is metered: how much comes out, from how much, for how long, and how large a member's header is, which
tarfile reads whole (a 13 KB file of zeros in a pax record took 828 MiB). Errors are ArchiveError.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, BinaryIO, Final, cast

import zstandard

from orchestrator.tar_stream import Forward, Readable, plain_header

CHUNK: Final = 1024 * 1024

_MAGICS: Final = {b"PK": "zip", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_MEMORY: Final = 256 * 2**20
"""What a decompressor may take for its window; zstd -19 and xz -9 need 8 and 64 MiB."""
_EXTENDED: Final = {
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
}  # fmt: skip
_ENDS: Final = 8
# Errors of the system that an archive's own headers cause: bz2's "Invalid data stream" has no number, zipfile seeks
# to negative offsets, names can be too long for the file system.
_NONSENSE: Final = {None, errno.EINVAL, errno.ENAMETOOLONG}


@dataclass(frozen=True, kw_only=True)
class UnpackLimits:
    """What an honest archive stays below. Sizes in bytes; `ratio` is of unpacked to packed bytes, from `ratio_from` on:
    small files may be all zeros. `header` is of one member's extended headers, `directory` of a zip's list of members.
    """

    members: int = 500_000
    size: int = 64 * 2**30
    ratio: int = 200
    ratio_from: int = 2**30
    header: int = 256 * 2**10
    chained: int = 16
    directory: int = 32 * 2**20
    seconds: float = 3600.0


class ArchiveError(Exception):
    """An archive that is damaged, cut off, or beyond a limit (`refused`)."""

    def __init__(self, problem: str, *, refused: bool = False) -> None:
        super().__init__(problem)
        self.refused = refused


@contextmanager
def translate_errors() -> Iterator[None]:
    """What Python's modules raise for nonsense in an archive, as ArchiveError. The disk's errors stay what they are."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zstandard.ZstdError, lzma.LZMAError, zlib.error) as error:
        raise _error(error) from error
    except (EOFError, ValueError, RuntimeError, LookupError, ArithmeticError, struct.error, MemoryError) as error:
        raise _error(error) from error
    except OSError as error:
        if error.errno not in _NONSENSE:
            raise
        raise _error(error) from error


def _error(error: BaseException) -> ArchiveError:
    return ArchiveError(str(error) or type(error).__name__)


def kind_of(stream: IO[bytes]) -> str:
    """zip|gzip|bzip2|xz|zstd by the first bytes of a stream, at its beginning; "" for anything else (a plain tar)."""
    if isinstance(stream, io.BufferedReader):
        head = stream.peek(6)
    else:
        head = stream.read(6)
        stream.seek(0)
    return next((kind for magic, kind in _MAGICS.items() if head.startswith(magic)), "")


@dataclass(kw_only=True)
class Meter:
    """A stream, unpacked, that is read within limits. `last` are its last bytes: a whole tar ends in zeros."""

    stream: Readable
    limits: UnpackLimits
    packed: _Counted | None = None
    count: int = 0
    last: bytes = b""
    _ends: int = 0
    _deadline: float = field(init=False)

    def __post_init__(self) -> None:
        """The time begins."""
        self._deadline = time.monotonic() + self.limits.seconds

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; ArchiveError past a limit."""
        data = self.stream.read(size if 0 <= size <= CHUNK else CHUNK)
        self.count += len(data)
        self.last = (self.last + data[-tarfile.BLOCKSIZE :])[-tarfile.BLOCKSIZE :]
        if self.count > self.limits.size:
            raise ArchiveError(f"it unpacks to more than {self.limits.size} bytes", refused=True)
        packed = self.packed.count if self.packed is not None else self.count
        if self.count > max(self.limits.ratio_from, packed * self.limits.ratio):
            raise ArchiveError(f"it unpacks to {self.count} bytes or more, from {packed}", refused=True)
        if time.monotonic() > self._deadline:
            raise ArchiveError(f"unpacking it takes longer than {self.limits.seconds:g} s", refused=True)
        # To pass over a member, tarfile reads as often as its size says, whether anything comes or not.
        self._ends = 0 if data else self._ends + 1
        if self._ends > _ENDS:
            raise ArchiveError("it is truncated")
        return data

    def drain(self) -> None:
        """Read to the end, where packers keep their checksums."""
        while self.read(CHUNK):
            pass


class _Counted:
    """Packed bytes, counted as they are taken."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes."""
        data = self._stream.read(size)
        self.count += len(data)
        return data

    # gzip and bz2 look ahead, and ask for these.
    def seekable(self) -> bool:
        """Forwards only."""
        return False

    def readable(self) -> bool:
        """It is."""
        return True

    closed = False


class _Xz:
    """lzma.LZMAFile, with a limit on memory."""

    def __init__(self, stream: _Counted) -> None:
        self._stream = stream
        self._decoder: lzma.LZMADecompressor | None = None
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes."""
        while True:
            if self._decoder is None or self._decoder.eof:
                rest = (self._decoder.unused_data if self._decoder is not None else b"") or self._stream.read(CHUNK)
                if not rest.strip(b"\0"):  # padding between and after streams
                    if not rest:
                        return b""
                    self._decoder = None
                    continue
                self._decoder, self._rest = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY), rest.lstrip(b"\0")
            elif self._decoder.needs_input:
                self._rest = self._stream.read(CHUNK)
                if not self._rest:
                    raise EOFError("the archive is truncated")
            data = self._decoder.decompress(self._rest, size)
            self._rest = b""
            if data:
                return data


def unpack(stream: IO[bytes], limits: UnpackLimits) -> Meter:
    """A stream from its beginning, unpacked as its first bytes say. A zip is none of this: `read_zip`."""
    kind, counted = kind_of(stream), _Counted(stream)
    inner: Readable = counted
    if kind == "gzip":
        inner = cast("Readable", gzip.GzipFile(fileobj=cast("Any", counted)))
    elif kind == "bzip2":
        inner = cast("Readable", bz2.BZ2File(cast("Any", counted)))
    elif kind == "xz":
        inner = _Xz(counted)
    elif kind == "zstd":
        decoder = zstandard.ZstdDecompressor(max_window_size=_MEMORY)
        inner = decoder.stream_reader(cast("Any", counted), read_across_frames=True)
    return Meter(stream=inner, limits=limits, packed=counted)


class _Header(tarfile.TarInfo):
    """A tar header whose extended records are measured before they are read.

    tarfile's source names `_proc_member` as what a subclass may override.
    """

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Any:
        """The next header. The zero block that ends an archive is remembered: where it is missing, more is."""
        plain = tar.plain_member() if isinstance(tar, Tar) else None
        if plain is not None:
            return plain
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            if isinstance(tar, Tar):
                tar.ended = True
            raise

    def _proc_member(self, tar: Tar) -> Any:
        tar.extended(self)
        return super()._proc_member(tar)  # type: ignore[misc]

    def _no_sparse(self, *_arguments: Any) -> None:
        raise ArchiveError(f"member {self.name[:200]!r} is a sparse file", refused=True)

    # Their maps are lists of any length, for what packing saves anyway.
    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _no_sparse


class Tar(tarfile.TarFile):
    """A tar that remembers nothing of the members that have passed."""

    tarinfo = _Header

    def __init__(self, *arguments: Any, limits: UnpackLimits, **options: Any) -> None:
        """As TarFile. It reads the first header at once. `ended`: the block that ends an archive was seen."""
        self.limits = limits
        self.ended = False
        self._chain = self._global = 0
        super().__init__(*arguments, **options)

    def plain_member(self) -> tarfile.TarInfo | None:
        """The next member, where its header says all of it; None where tarfile has to look at it."""
        stream: Any = self.fileobj
        start = stream.tell()
        if isinstance(stream, Forward):
            block = stream.peek(tarfile.BLOCKSIZE)
        else:
            block = stream.read(tarfile.BLOCKSIZE)
            stream.seek(start)
        member = plain_header(block, self) if not self.pax_headers else None
        if member is None:
            return None
        self.extended(member)
        member.offset = start
        member.offset_data = self.offset = member.offset + tarfile.BLOCKSIZE
        if member.isreg():
            self.offset += -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        stream.seek(member.offset_data)
        return member

    def extended(self, header: tarfile.TarInfo) -> None:
        """Measure one header, before the records that belong to it are read. ArchiveError past the limits."""
        if header.type not in _EXTENDED:
            self._chain = 0
            return
        self._chain += 1
        if header.type == tarfile.XGLTYPE:  # these add up, and every member gets a copy
            self._global += header.size
        large = max(header.size, self._global)
        if header.size < 0 or large > self.limits.header or self._chain > self.limits.chained:
            raise ArchiveError(f"a member's header has {large} bytes or more, which no name needs", refused=True)

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        """Each member once."""
        count = 0
        while (member := self.next()) is not None:
            self.members: list[tarfile.TarInfo] = []
            count += 1
            if count > self.limits.members:
                raise ArchiveError(f"it has more than {self.limits.members} members", refused=True)
            yield member

    def content(self, member: tarfile.TarInfo) -> IO[bytes]:
        """The bytes of a regular file; of a stream before the next member is taken."""
        source = self.extractfile(member) if member.isreg() else None
        if source is None:
            raise ArchiveError(f"member {member.name[:200]!r} has no content")
        return source

    def chunks(self, member: tarfile.TarInfo) -> Iterator[bytes]:
        """The same in pieces of at most 1 MiB; fewer bytes than its size where the archive ends before."""
        source: Any = self.fileobj
        left = member.size if member.isreg() else 0
        while left:
            source.seek(member.offset_data + member.size - left)
            read = source.read_some if isinstance(source, Forward) and left > CHUNK else source.read
            chunk = read(min(CHUNK, left))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk

    def small(self, member: tarfile.TarInfo, limit: int) -> bytes:
        """All the bytes of a file of at most `limit`."""
        if not member.isreg() or not 0 <= member.size <= limit:
            raise ArchiveError(f"member {member.name[:200]!r} is not a file of at most {limit} bytes", refused=True)
        return self.content(member).read()


@contextmanager
def read_tar(stream: Meter) -> Iterator[Tar]:
    """The tar of a stream, read once and forwards. What follows the tar's end is left in the stream."""
    options: dict[str, Any] = {"fileobj": Forward(stream), "mode": "r:", "limits": stream.limits}
    with Tar.open(**options) as tar:
        yield tar


@contextmanager
def read_tar_file(stream: BinaryIO) -> Iterator[Tar]:
    """A plain tar in a file that can be read anywhere: members may be read later, in any order."""
    options: dict[str, Any] = {"fileobj": stream, "mode": "r:", "limits": UnpackLimits()}
    with Tar.open(**options) as tar:
        yield tar


class _Capped:
    """A file of which no single read takes more than a zip's list of members may have: zipfile reads that whole."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; ArchiveError where that is too much at once."""
        data = self._stream.read(min(size, self._limit + 1) if size >= 0 else self._limit + 1)
        if len(data) > self._limit:
            raise ArchiveError(f"its list of members has more than {self._limit} bytes", refused=True)
        return data


@contextmanager
def read_zip(stream: BinaryIO, limits: UnpackLimits) -> Iterator[zipfile.ZipFile]:
    """A zip. The sizes that its members state are the reader's to count."""
    with zipfile.ZipFile(cast("Any", _Capped(stream, limits.directory))) as archive:
        if len(archive.infolist()) > limits.members:
            raise ArchiveError(f"it has more than {limits.members} members", refused=True)
        yield archive
