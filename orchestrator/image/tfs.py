"""Writes one TFS file system: file data as it comes, the log at the end, the same bytes for the same input."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.values import Value

from .beside import Hashing
from .codec import Encoder, encode_text
from .errors import ImageError
from .listing import ListingEntry, attribute_entries, path_key, tree_digest
from .log import EXTENSION_SECTORS, FIRST_SECTORS, MAX_LABEL, LogHeader, lay_out_log
from .mbr import SECTOR
from .nodes import MAX_DIRECTORIES, MAX_NAME, MAX_PATH, attributes_as_read

DATA_START: Final = (FIRST_SECTORS + EXTENSION_SECTORS) * SECTOR
PIECE: Final = 64 * 1024
_ZEROS: Final = bytes(PIECE)
_AT_ONCE: Final = 16 * 1024 * 1024
"""Bytes that the kernel copies before others hear of it."""
_NO_COPY: Final = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}
"""Of copy_file_range, where two file systems can't do it: bytes are then read and written."""


class OutOfOrderError(ValueError):
    """An entry sorts before one that is already written; spool and sort by `path_key`."""


@dataclass(kw_only=True)
class _FilePosition:
    size: int
    position: int  # bytes from the partition's start; meaningless when empty
    sha256: str


@dataclass(kw_only=True)
class _Range:
    """Bytes of another file that are yet to be copied: from `start` there to `offset` here."""

    source: int
    start: int
    offset: int
    length: int


@dataclass(kw_only=True)
class _Link:
    target: str


_Dir = dict[str, "_Entry"]
_Entry = _FilePosition | _Link | _Dir


@contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ImageError(
            f"cannot write the image: {error.strerror}", remedy="check the output directory's free space and rights"
        ) from error


class ImageOutput:
    """The output file, with bytes at offsets; blocks of zeros become holes."""

    def __init__(self, target: Path | int) -> None:
        self._own = isinstance(target, Path)
        with _explaining():
            if isinstance(target, Path):
                target = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o664)
            self.descriptor = target
            os.ftruncate(self.descriptor, 0)

    def write(self, offset: int, data: bytes) -> None:
        """Write `data` at `offset`; what isn't written is zeros."""
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            piece = view[start : start + PIECE]
            if piece == _ZEROS[: len(piece)]:
                continue  # the file was emptied at the start, so what isn't written reads as zeros
            written = 0
            with _explaining():
                while written < len(piece):
                    written += os.pwrite(self.descriptor, piece[written:], offset + start + written)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes that were written before."""
        data = b""
        while len(data) < length:
            part = os.pread(self.descriptor, length - len(data), offset + len(data))
            # Holes at the end of what is written so far have no bytes yet.
            data += part or bytes(length - len(data))
        return data

    def copy(self, source: int, start: int, offset: int, length: int) -> Iterator[int]:
        """Take `length` bytes of the open file `source` from `start` on; its holes are left out. Gives how many of
        them are here, as they come. ImageError where the file ends before."""
        end, at = start + length, start
        while at < end:
            data, hole = _next_data(source, at, end)
            while data < hole:
                data += self._copy_some(source, data, offset + data - start, min(hole - data, _AT_ONCE))
                yield data - start
            at = hole
        yield length

    def _copy_some(self, source: int, start: int, offset: int, length: int) -> int:
        copied = -1
        with _explaining():
            try:
                copied = os.copy_file_range(source, self.descriptor, length, start, offset)
            except OSError as error:
                if error.errno not in _NO_COPY:
                    raise
        if copied < 0:
            data = os.pread(source, min(length, 16 * PIECE), start)
            self.write(offset, data)
            copied = len(data)
        if not copied:
            raise ImageError("the earlier image ends before its files do")
        return copied

    def set_size(self, size: int) -> None:
        """Give the file its final size."""
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


class TfsWriter:
    """One file system: file data goes out as it comes, the log at the end. `limit` is its size in bytes, if fixed.

    What is copied out of another file goes out last, with `copy_stored`.
    """

    def __init__(
        self, output: ImageOutput, offset: int, *, version: int, label: str = "", limit: int | None = None
    ) -> None:
        if len(encode_text(label)) > MAX_LABEL or "\0" in label:
            raise ImageError(f"the label {label!r} is longer than {MAX_LABEL} bytes", remedy="shorten it")
        self._output = output
        self._offset = offset
        self._version = version
        self._label = label
        self._limit = limit
        self._end = DATA_START
        self._root: _Dir = {}
        self._last: tuple[bytes, ...] = ()
        self._listing: list[ListingEntry] = []
        self._hashing = Hashing()
        self._stored: list[_Range] = []
        self._places: dict[str, int] = {}

    def add_directory(self, path: str) -> None:
        """An empty directory (files in it make it by themselves)."""
        names = self._advance(path)
        self._parent(names)[names[-1]] = {}
        self._list(ListingEntry(type="directory", path="/" + "/".join(names)))

    def add_symlink(self, path: str, target: str) -> None:
        """A symbolic link with `target` verbatim."""
        if not target or "\0" in target or len(encode_text(target)) > MAX_PATH:
            raise ImageError(f"the symbolic link {path} has no usable target", remedy="remove or shorten it")
        names = self._advance(path)
        self._parent(names)[names[-1]] = _Link(target=target)
        self._list(ListingEntry(type="symlink", path="/" + "/".join(names), target=target))

    def add_file(self, path: str, size: int, chunks: Iterable[bytes]) -> str:
        """A file of exactly `size` bytes out of `chunks`; its SHA-256 (hex)."""
        names = self._advance(path)
        parent = self._parent(names)
        padded = -(-size // SECTOR) * SECTOR
        if self._limit is not None and self._end + padded > self._limit:
            raise ImageError(
                f"available space ({self._limit - self._end} bytes) is too small for {path} ({size} bytes)"
            )
        digest = self._hashing.new()
        written = 0
        for chunk in chunks:
            if written + len(chunk) > size:
                raise ImageError(f"{path} is larger than the {size} bytes that were announced")
            digest.update(chunk)
            self._output.write(self._offset + self._end + written, chunk)
            written += len(chunk)
        if written != size:
            raise ImageError(f"{path} has {written} bytes, not the {size} that were announced")
        self._put(parent, names, size, digest.hexdigest())
        return digest.hexdigest()

    def add_stored_file(self, path: str, size: int, sha256: str, source: int, start: int) -> None:
        """A file that lies in the open file `source` from `start` on, whose SHA-256 (hex) is known: `copy_stored`
        copies its bytes, and nobody reads them."""
        names = self._advance(path)
        parent, offset = self._parent(names), self._offset + self._end
        last = self._stored[-1] if self._stored else None
        if (
            last is not None
            and last.source == source
            and offset - last.offset == start - last.start
            and (offset == -(-(last.offset + last.length) // SECTOR) * SECTOR)
        ):
            last.length = offset + size - last.offset  # with the zeros between them
        elif size:
            self._stored.append(_Range(source=source, start=start, offset=offset, length=size))
        self._put(parent, names, size, sha256)

    def copy_stored(self, progress: Callable[[int], None] = lambda _end: None) -> None:
        """Copy what `add_stored_file` added; `progress` is told up to which byte of the output all is there."""
        for stored in self._stored:
            for copied in self._output.copy(stored.source, stored.start, stored.offset, stored.length):
                progress(stored.offset + copied)
        self._stored.clear()

    def _put(self, parent: _Dir, names: list[str], size: int, sha256: str) -> None:
        """Take note of a file whose bytes lie at the end."""
        path = "/" + "/".join(names)
        parent[names[-1]] = _FilePosition(size=size, position=self._end, sha256=sha256)
        self._places[path] = self._offset + self._end
        self._end += -(-size // SECTOR) * SECTOR
        self._list(ListingEntry(type="file", path=path, size=size, sha256=sha256))

    def copy_file(self, path: str, earlier_path: str) -> str:
        """A second copy of a file that is already written (a hard link of an archive); its SHA-256."""
        entry: _Entry | None = self._root
        for name in [name for name in earlier_path.split("/") if name]:
            entry = entry.get(name) if isinstance(entry, dict) else None
        if not isinstance(entry, _FilePosition):
            raise ImageError(f"{path} is a hard link to {earlier_path}, which is not a file of the image")
        self.copy_stored()
        start = self._offset + entry.position
        return self.add_file(path, entry.size, self._pieces(start, entry.size))

    def _pieces(self, start: int, size: int) -> Iterator[bytes]:
        for at in range(0, size, PIECE):
            yield self._output.read(start + at, min(PIECE, size - at))

    def finish(self, attributes: Mapping[str, Value]) -> tuple[str, str, int]:
        """Write the log; (UUID, tree digest, size in bytes)."""
        entries = [*attribute_entries(attributes_as_read(attributes, self._version)), *self._listing]
        tree = tree_digest(entries)
        uuid = _uuid(f"{tree}\n{self._version}\n{self._label}")
        encoder = Encoder(self._version)
        self._encode_root(encoder, attributes)
        header = LogHeader(version=self._version, uuid=uuid, label=self._label)
        pieces, end = lay_out_log(header, encoder, self._end)
        if self._limit is not None and end > self._limit:
            raise ImageError(
                f"available space ({self._limit - self._end} bytes) is too small for the log ({end - self._end} bytes)"
            )
        for offset, data in pieces:
            self._output.write(self._offset + offset, data)
        digits = uuid.hex()
        return (
            "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])),
            tree,
            self._limit or end,
        )

    def close(self) -> None:
        """End the thread that hashes; what was written stays."""
        self._hashing.close()

    @property
    def contents(self) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 (hex) of every file so far, by path."""
        return {entry.path: (entry.size, entry.sha256) for entry in self._listing if entry.type == "file"}

    @property
    def places(self) -> dict[str, int]:
        """Where every file so far begins in the output, in bytes, by path."""
        return self._places

    @property
    def totals(self) -> tuple[int, int]:
        """(files, bytes of files) so far."""
        sizes = [entry.size for entry in self._listing if entry.type == "file"]
        return len(sizes), sum(sizes)

    def _advance(self, path: str) -> list[str]:
        """The path's components, after the checks that don't need the tree."""
        names = [name for name in path.split("/") if name]
        if not names:
            raise ImageError("the root directory cannot be added: it is always there")
        if "\0" in path or "." in names or ".." in names:
            raise ImageError(f"{path!r} is not a valid path in an image", remedy="write it without . and ..")
        if len(names) >= MAX_DIRECTORIES:
            raise ImageError(f"{path} lies deeper than {MAX_DIRECTORIES - 1} directories", remedy="use a flatter tree")
        key = path_key(path)
        if max(map(len, key)) > MAX_NAME or sum(map(len, key)) + len(key) > MAX_PATH:
            raise ImageError(
                f"{path[:60]}… is too long: a name can have {MAX_NAME} bytes, a path {MAX_PATH}",
                remedy="shorten it",
            )
        if key == self._last:
            raise ImageError(f"{path} is in the image twice", remedy="two steps stage the same path; keep one")
        if key < self._last:
            raise OutOfOrderError(f"{path} comes after an entry that sorts behind it")
        self._last = key
        return names

    def _parent(self, names: list[str]) -> _Dir:
        directory = self._root
        for depth, name in enumerate(names[:-1], start=1):
            entry = directory.get(name)
            if entry is None:
                entry = directory[name] = {}
                self._list(ListingEntry(type="directory", path="/" + "/".join(names[:depth])))
            if not isinstance(entry, dict):
                raise ImageError(
                    f"/{'/'.join(names)} lies below /{'/'.join(names[:depth])}, which is not a directory",
                    remedy="two steps stage conflicting paths; keep one",
                )
            directory = entry
        return directory

    def _list(self, entry: ListingEntry) -> None:
        self._listing.append(entry)

    def _encode_root(self, encoder: Encoder, attributes: Mapping[str, Value]) -> None:
        if "children" in attributes:
            raise ImageError("the manifest has a root key `children`", remedy="that name is the file tree's; rename it")
        encoder.tuple_header(len(attributes) + 1)
        for name in sorted({*attributes, "children"}, key=encode_text):
            encoder.symbol(name)
            if name == "children":
                _encode_children(encoder, self._root)
            else:
                encoder.value(attributes[name])


def _encode_children(encoder: Encoder, directory: _Dir) -> None:
    encoder.tuple_header(len(directory))
    for name, entry in directory.items():
        encoder.symbol(name)
        if isinstance(entry, dict):
            encoder.tuple_header(1)
            encoder.symbol("children")
            _encode_children(encoder, entry)
        elif isinstance(entry, _Link):
            encoder.tuple_header(1)
            encoder.symbol("linktarget")
            encoder.string(entry.target)
        else:
            _encode_file(encoder, entry)


def _encode_file(encoder: Encoder, file: _FilePosition) -> None:
    encoder.tuple_header(2)
    encoder.symbol("extents")
    encoder.tuple_header(1 if file.size else 0)
    if file.size:
        sectors = str(-(-file.size // SECTOR))
        encoder.symbol("0")
        encoder.tuple_header(3)
        numbers = {"allocated": sectors, "length": sectors, "offset": str(file.position // SECTOR)}
        for name, number in numbers.items():
            encoder.symbol(name)
            encoder.string(number)
    encoder.symbol("filelength")
    encoder.string(str(file.size))


def _uuid(text: str) -> bytes:
    """16 bytes of SHA-256 over `text`, marked as a version 8 (custom) UUID of RFC 9562."""
    raw = bytearray(hashlib.sha256(b"gevulot-orchestrator tfs uuid\n" + encode_text(text)).digest()[:16])
    raw[6] = 0x80 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    return bytes(raw)
