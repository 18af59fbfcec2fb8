"""A tar as a stream: what tarfile reads from, plain headers, which need none of what it can do, and one to be sent."""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

CHUNK: Final = 1024 * 1024
TAR_END: Final = bytes(2 * tarfile.BLOCKSIZE)
_FIELDS: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s16s155s12s")
"""name, mode, uid, gid, size, mtime, checksum, type, link, magic and version, user, group, device, prefix."""
_PLAIN: Final = frozenset((tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE))


class Readable(Protocol):
    """What has bytes to read."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes."""
        ...


class Forward:
    """A stream that can be read once, as a file in which tarfile moves: forwards only."""

    closed = False

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._buffer = b""
        self._at = 0  # in the buffer
        self._passed = 0  # before the buffer

    def tell(self) -> int:
        """Bytes from the stream's start."""
        return self._passed + self._at

    def seek(self, position: int) -> None:
        """Go forwards to a place, or as far as there are bytes. tarfile.StreamError for one that has passed."""
        if position < self.tell():
            raise tarfile.StreamError("seeking backwards is not allowed")
        while position > self._passed + len(self._buffer) and self._next():
            pass
        self._at = min(position - self._passed, len(self._buffer))

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""
        end = self._at + size
        while end > len(self._buffer) and (more := self._stream.read(CHUNK)):
            self._passed += self._at
            self._buffer = self._buffer[self._at :] + more if self._at < len(self._buffer) else more
            self._at, end = 0, size
        data = self._buffer[self._at : end]
        self._at += len(data)
        return data

    def read_some(self, size: int) -> bytes:
        """Up to `size` bytes, which are at hand; none at the end."""
        if self._at == len(self._buffer) and not self._next():
            return b""
        data = self._buffer[self._at : self._at + size]
        self._at += len(data)
        return data

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, which stay."""
        data = self.read(size)
        self._at -= len(data)
        return data

    def _next(self) -> bool:
        more = self._stream.read(CHUNK)
        if more:
            self._passed += len(self._buffer)
            self._buffer, self._at = more, 0
        return bool(more)


def plain_header(block: bytes, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    """The member of a POSIX header that needs no other to be understood, as tarfile would read it, in a third of the
    time; None for any other, and for whatever looks odd."""
    if len(block) != tarfile.BLOCKSIZE:
        return None
    (name, mode, uid, gid, size, mtime, checksum, kind, link, magic, user, group, _, prefix, _) = _FIELDS.unpack(block)
    if kind not in _PLAIN or magic != tarfile.POSIX_MAGIC or not name[0]:
        return None
    try:
        numbers = [int(field.strip(b"\0 ") or b"0", 8) for field in (mode, uid, gid, size, mtime, checksum)]
    except ValueError:
        return None
    if min(numbers) < 0 or numbers[5] != sum(block) - sum(checksum) + 256:
        return None
    text, rest, target, user, group = [
        field.partition(b"\0")[0].decode(tar.encoding or "utf-8", tar.errors or "strict")
        for field in (name, prefix, link, user, group)
    ]
    member = tar.tarinfo(f"{rest}/{text}" if rest else text)
    member.mode, member.uid, member.gid, member.size, member.mtime, member.chksum = numbers
    member.type, member.linkname, member.uname, member.gname = kind, target, user, group
    if kind == tarfile.DIRTYPE:
        member.name = member.name.rstrip("/")
    return member


def member_chunks(info: tarfile.TarInfo, content: Iterable[bytes] = ()) -> Iterator[bytes]:
    """A member to be sent: its header, `info.size` bytes of content, and what fills the last block. Names that are no
    UTF-8 keep their bytes. TAR_END follows the last member."""
    yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    yield from content
    if padding := -info.size % tarfile.BLOCKSIZE:
        yield bytes(padding)
