"""The log of a TFS file system: a chain of extensions that holds tuples cut into segments."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .codec import Decoder, Encoder, Raw, damaged, encode_text
from .errors import ImageError
from .headers import MAX_VARINT, encode_varint
from .mbr import SECTOR

MAGIC: Final = b"NVMTFS"
FIRST_SECTORS: Final = 1
EXTENSION_SECTORS: Final = 1024
MAX_LABEL: Final = 31  # bytes
MAX_LOG: Final = 256 * 1024 * 1024  # bytes of tuples: millions of files; decoded, they take up to 100 times that
END, TUPLE, CONTINUATION, NO_OP, LINK = 1, 2, 3, 4, 5

# The room that ops and the kernel keep free at the end of an extension, so that a link always fits, and the least
# that they put a segment into.
_LINK_ROOM: Final = 1 + 2 * MAX_VARINT
_SEGMENT_ROOM: Final = 1 + 2 * MAX_VARINT
_LEAST_ROOM: Final = _LINK_ROOM + _SEGMENT_ROOM + 32
_WINDOW: Final = 64 * 1024

ReadAt = Callable[[int, int], bytes]
"""(offset, length) → exactly `length` bytes of the partition."""


@dataclass(frozen=True, kw_only=True)
class Extension:
    """One piece of the log, in bytes from the partition's start."""

    offset: int
    length: int
    version: int


@dataclass(frozen=True, kw_only=True)
class TfsLog:
    """A decoded log. `root` is unchecked: tuples in it may be shared or even contain themselves."""

    version: int
    uuid: bytes
    label: str
    extensions: tuple[Extension, ...]
    root: dict[str, Raw]


class _Cursor:
    """Reads one extension from front to back through a bounded window."""

    def __init__(self, read_at: ReadAt, offset: int, length: int) -> None:
        self._read_at = read_at
        self._next = offset  # where the window ends
        self._end = offset + length
        self._window = b""
        self._at = 0

    def take(self, length: int) -> bytes:
        """The next `length` bytes; ImageError past the extension's end."""
        missing = length - (len(self._window) - self._at)
        if missing <= 0:
            self._at += length
            return self._window[self._at - length : self._at]
        if missing > self._end - self._next:
            raise damaged("a record of the file system's log runs past the end of its extension")
        head = self._window[self._at :]
        fetched = self._read_at(self._next, min(max(missing, _WINDOW), self._end - self._next))
        self._next += len(fetched)
        self._window, self._at = fetched, missing
        return head + fetched[:missing]

    def byte(self) -> int:
        """The next byte."""
        if self._at < len(self._window):
            self._at += 1
            return self._window[self._at - 1]
        return self.take(1)[0]

    def varint(self) -> int:
        """The next number."""
        number = 0
        for _ in range(MAX_VARINT):
            byte = self.byte()
            number = (number << 7) | (byte & 0x7F)
            if not byte & 0x80:
                break
        else:
            number = 1 << 64
        if number >> 64:
            raise damaged("a number in the file system's log is larger than 64 bits")
        return number


class _LogReader:
    def __init__(self, read_at: ReadAt, length: int) -> None:
        self._read_at = read_at
        self._length = length
        self._decoder = Decoder()
        self._starts: list[tuple[int, int]] = []  # (start, end) of extensions, sorted, to find loops
        self._segments = bytearray()
        self._total = 0  # bytes of segments so far
        self._missing = 0  # bytes of the tuple that is being collected
        self.extensions: list[Extension] = []
        self.uuid = b""
        self.label = ""

    @property
    def root(self) -> dict[str, Raw]:
        return self._decoder.root

    def run(self) -> None:
        where: tuple[int, int] | None = (0, FIRST_SECTORS * SECTOR)
        while where is not None:
            where = self._extension(*where)
        if self._missing:
            raise damaged(f"the file system's log ends {self._missing} bytes before the end of a tuple")

    def _extension(self, offset: int, length: int) -> tuple[int, int] | None:
        """Read one extension; where the next one is."""
        self._claim(offset, length)
        cursor = _Cursor(self._read_at, offset, length)
        magic = cursor.take(len(MAGIC))
        if magic != MAGIC:
            raise ImageError(
                f"no TFS file system: found {magic!r} where {MAGIC!r} should stand",
                remedy="the file is not a Nanos image, or was cut short or overwritten; build it again",
            )
        version = cursor.varint()
        if version not in (4, 5):
            raise ImageError(
                f"TFS version {version} is unknown; versions 4 and 5 can be read",
                remedy="the image comes from a newer or much older Nanos than 0.1.51",
            )
        cursor.varint()  # size in sectors, as the writer meant it; the kernel goes by the link, and so do we
        if offset == 0:
            self.uuid = cursor.take(16)
            self.label = self._read_label(cursor)
        self.extensions.append(Extension(offset=offset, length=length, version=version))
        return self._records(cursor, version)

    def _claim(self, offset: int, length: int) -> None:
        if length == 0 or offset + length > self._length:
            raise damaged(
                f"a log extension of {length} bytes at {offset} lies outside of the partition ({self._length} bytes)"
            )
        index = bisect_left(self._starts, (offset, 0))
        after = self._starts[index : index + 1]
        before = self._starts[index - 1 : index] if index else []
        if (after and after[0][0] < offset + length) or (before and before[0][1] > offset):
            raise damaged(f"the file system's log comes back to byte {offset}, which it already holds")
        self._starts.insert(index, (offset, offset + length))

    @staticmethod
    def _read_label(cursor: _Cursor) -> str:
        label = bytearray()
        while byte := cursor.byte():
            label.append(byte)
            if len(label) > MAX_LABEL:
                raise damaged(f"the file system's label is longer than {MAX_LABEL} bytes")
        return label.decode("utf-8", "surrogateescape")

    def _records(self, cursor: _Cursor, version: int) -> tuple[int, int] | None:
        while True:
            tag = cursor.byte()
            if tag == END:
                return None
            if tag == LINK:
                sector, sectors = cursor.varint(), cursor.varint()
                return sector * SECTOR, sectors * SECTOR
            if tag == TUPLE:
                if self._missing:
                    raise damaged("a tuple starts in the file system's log before the one before it ended")
                self._missing = cursor.varint()
                if self._missing > self._length:
                    raise damaged(
                        f"a tuple of {self._missing} bytes is larger than the partition ({self._length} bytes)"
                    )
                self._segment(cursor, version)
            elif tag == CONTINUATION:
                self._segment(cursor, version)
            elif tag != NO_OP:
                raise damaged(f"the file system's log has a record of the unknown kind {tag}")

    def _segment(self, cursor: _Cursor, version: int) -> None:
        length = cursor.varint()
        if length > self._missing:
            raise damaged(f"a segment of {length} bytes is longer than the rest of its tuple ({self._missing})")
        self._total += length
        if self._total > MAX_LOG:
            raise damaged(f"the file system's log holds more than {MAX_LOG} bytes")
        self._segments += cursor.take(length)
        self._missing -= length
        if not self._missing:
            self._decoder.decode(bytes(self._segments), version)
            self._segments.clear()


def read_log(read_at: ReadAt, length: int) -> TfsLog:
    """Read and decode the log of a partition of `length` bytes. ImageError for anything the format forbids."""
    reader = _LogReader(read_at, length)
    reader.run()
    return TfsLog(
        version=reader.extensions[0].version,
        uuid=reader.uuid,
        label=reader.label,
        extensions=tuple(reader.extensions),
        root=reader.root,
    )


@dataclass(frozen=True, kw_only=True)
class LogHeader:
    """What the first extension says of the file system."""

    version: int
    uuid: bytes
    label: str


def _extension_start(header: LogHeader, sectors: int) -> bytearray:
    start = bytearray(MAGIC + encode_varint(header.version) + encode_varint(sectors))
    if sectors == FIRST_SECTORS:
        start += header.uuid + encode_text(header.label) + b"\0"
    return start


def _link(data: bytearray, offset: int) -> None:
    data.append(LINK)
    data += encode_varint(offset // SECTOR) + encode_varint(EXTENSION_SECTORS)


def lay_out_log(header: LogHeader, encoder: Encoder, end: int) -> tuple[list[tuple[int, bytes]], int]:
    """The log that ops writes for the one tuple in `encoder`: pieces to write, and the file system's new end.

    The first extension holds only its header and a link; the second one follows it, before all data; what doesn't
    fit there spills into further extensions from byte `end` on. Offsets are bytes from the partition's start.
    """
    pieces: list[tuple[int, bytes]] = []
    first = _extension_start(header, FIRST_SECTORS)
    _link(first, FIRST_SECTORS * SECTOR)
    pieces.append((0, bytes(first)))
    offset, current = FIRST_SECTORS * SECTOR, _extension_start(header, EXTENSION_SECTORS)
    tuple_bytes = memoryview(encoder.data)
    written = 0
    while written < len(tuple_bytes):
        room = EXTENSION_SECTORS * SECTOR - len(current)
        if room < _LEAST_ROOM:
            _link(current, end)
            pieces.append((offset, bytes(current)))
            offset, current = end, _extension_start(header, EXTENSION_SECTORS)
            end += EXTENSION_SECTORS * SECTOR
            room = EXTENSION_SECTORS * SECTOR - len(current)
        segment = tuple_bytes[written : written + room - _LINK_ROOM - _SEGMENT_ROOM]
        current += bytes((CONTINUATION,)) if written else bytes((TUPLE,)) + encode_varint(len(tuple_bytes))
        current += encode_varint(len(segment))
        current += segment
        written += len(segment)
    current.append(END)
    pieces.append((offset, bytes(current)))
    return pieces, end
