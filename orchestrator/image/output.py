"""The image file that is being written: bytes at offsets, many small ones gathered, blocks of zeros left as holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .errors import ImageError, ShortFileError
from .mbr import SECTOR

PIECE: Final = 64 * 1024
_ZEROS: Final = bytes(PIECE)
_GATHERED: Final = 1024 * 1024
"""Bytes of small pieces, one behind the other, that are written at once: a call for each of 2 KiB took as long as the
rest of its file's packing (measured)."""
_AT_ONCE: Final = 16 * 1024 * 1024
"""Bytes that the kernel copies before others hear of it."""
_READ: Final = 1024 * 1024
"""Bytes that are read at once where the kernel doesn't copy, or where zeros are looked for."""
_NO_COPY: Final = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}
"""Of copy_file_range, where two file systems can't do it: bytes are then read and written."""


@contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ImageError(
            f"cannot write the image: {error.strerror}", remedy="check the output directory's free space and rights"
        ) from error


class ImageOutput:
    """The output file. What was written is there for others after `flush`; `read` and `copy_from` see it before."""

    def __init__(self, target: Path | int) -> None:
        self._own = isinstance(target, Path)
        self._gathered = bytearray()
        self._start = 0  # where they go
        with _explaining():
            if isinstance(target, Path):
                target = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o664)
            self.descriptor = target
            # An empty one is left alone: ext4 would begin to write all of it out when it is closed, and we would wait.
            if os.fstat(self.descriptor).st_size:
                os.ftruncate(self.descriptor, 0)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write `data` at `offset`; what isn't written is zeros."""
        if len(data) >= PIECE:
            self.flush()
            self._write(offset, memoryview(data))
            return
        gathered = self._gathered
        gap = offset - self._start - len(gathered)
        if not 0 <= gap < SECTOR or len(gathered) >= _GATHERED:
            self.flush()
            self._start, gap = offset, 0
        gathered += bytes(gap)
        gathered += data

    def flush(self) -> None:
        """Hand over what was gathered. ImageError where the disk is full."""
        if self._gathered:
            with memoryview(self._gathered) as view:
                self._write(self._start, view)
            self._gathered.clear()

    def _write(self, offset: int, view: memoryview) -> None:
        """Without the pieces that are zeros: the file was emptied at the start, so they read as zeros anyway."""
        begin = 0
        for start in range(0, len(view), PIECE):
            # Bytes are compared at once, views one by one; and few pieces begin with a zero.
            if not view[start] and (piece := bytes(view[start : start + PIECE])) == _ZEROS[: len(piece)]:
                self._write_all(offset + begin, view[begin:start])
                begin = start + len(piece)
        self._write_all(offset + begin, view[begin:])

    def _write_all(self, offset: int, view: memoryview) -> None:
        written = 0
        with _explaining():
            while written < len(view):
                written += os.pwrite(self.descriptor, view[written:], offset + written)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes that were written before."""
        self.flush()
        data = b""
        while len(data) < length:
            part = os.pread(self.descriptor, length - len(data), offset + len(data))
            # Holes at the end of what is written so far have no bytes yet.
            data += part or bytes(length - len(data))
        return data

    def copy_from(
        self, source: int, start: int, offset: int, length: int, *, leave_zeros: bool = False
    ) -> Iterator[int]:
        """Take `length` bytes of the open file `source` from `start` on; its holes are left out, with `leave_zeros`
        other zeros too. Gives how many of them are here, as they come. ShortFileError where the file ends before."""
        self.flush()
        end, at = start + length, start
        buffer = memoryview(bytearray(_READ)) if leave_zeros else None
        while at < end:
            data, hole = _next_data(source, at, end)
            while data < hole:
                data += self._copy_some(source, data, offset + data - start, hole - data, buffer)
                yield data - start
            at = hole
        yield length

    def _copy_some(self, source: int, start: int, offset: int, length: int, buffer: memoryview | None) -> int:
        copied = -1
        with _explaining():
            if buffer is None:
                try:
                    copied = os.copy_file_range(source, self.descriptor, min(length, _AT_ONCE), start, offset)
                except OSError as error:
                    if error.errno not in _NO_COPY:
                        raise
        if copied < 0:
            view = buffer if buffer is not None else memoryview(bytearray(_READ))
            copied = os.preadv(source, [view[: min(length, _READ)]], start)
            self._write(offset, view[:copied])
        if not copied:
            raise ShortFileError("a file ends before all of it is in the image")
        return copied

    def reach(self, end: int) -> None:
        """Make the file at least `end` bytes long, so that what isn't written reads as zeros."""
        if os.fstat(self.descriptor).st_size < end:
            self.set_size(end)

    def set_size(self, size: int) -> None:
        """Give the file its final size."""
        self.flush()
        with _explaining():
            os.ftruncate(self.descriptor, size)

    def close(self) -> None:
        """Close the file if we opened it."""
        if self._own and self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _next_data(source: int, at: int, end: int) -> tuple[int, int]:
    """Where the next bytes before `end` begin that are no hole, and where they end; (end, end) for none."""
    try:
        data = os.lseek(source, at, os.SEEK_DATA)
        return (data, min(os.lseek(source, data, os.SEEK_HOLE), end)) if data < end else (end, end)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the file's end, or no such place
            return (end, end) if os.fstat(source).st_size >= end else (at, end)
        return at, end  # a file system that knows no holes
