"""Writes one TFS file system: file data as it comes, the log at the end, the same bytes for the same input."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO, Final

from orchestrator.values import Value

from .beside import Hashing, ReadBack
from .codec import Encoder, encode_text
from .errors import ChangedFileError, ImageError, ShortFileError
from .listing import attribute_entries, lines_digest, listing_line
from .log import EXTENSION_SECTORS, FIRST_SECTORS, MAX_LABEL, LogHeader, lay_out_log
from .mbr import SECTOR
from .nodes import MAX_PATH, attributes_as_read
from .output import PIECE, ImageOutput
from .written_tree import WrittenDirectory, WrittenFile, WrittenLink, WrittenTree, encode_children

DATA_START: Final = (FIRST_SECTORS + EXTENSION_SECTORS) * SECTOR


@dataclass(kw_only=True)
class _Range:
    """Bytes of another file that are yet to be copied: from `start` there to `offset` here."""

    source: int
    start: int
    offset: int
    length: int


@dataclass(kw_only=True)
class _Opened:
    """A file of which all bytes are yet to be copied, to `offset` here; its sum has to turn out as `entry` says."""

    path: str
    entry: WrittenFile
    offset: int
    open: Callable[[], BinaryIO | None]


class TfsWriter:
    """One file system: file data goes out as it comes, the log at the end. `limit` is its size in bytes, if fixed.

    What is copied out of another file and known goes out last, with `copy_stored`.
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
        self._tree = WrittenTree()
        self._hashing = Hashing()
        self._stored: list[_Range | _Opened] = []
        self._hashed: list[tuple[str, WrittenFile, ReadBack]] = []

    def add_directory(self, path: str) -> None:
        """An empty directory (files in it make it by themselves)."""
        self._tree.check_path(path)
        self._tree.put(path, WrittenDirectory())

    def add_symlink(self, path: str, target: str) -> None:
        """A symbolic link with `target` verbatim."""
        if not target or "\0" in target or len(encode_text(target)) > MAX_PATH:
            raise ImageError(f"the symbolic link {path} has no usable target", remedy="remove or shorten it")
        self._tree.check_path(path)
        self._tree.put(path, WrittenLink(target))

    def add_file(self, path: str, size: int, chunks: Iterable[bytes]) -> str:
        """A file of exactly `size` bytes out of `chunks`; its SHA-256 (hex)."""
        self._check_room(path, size)
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
        return self._put(path, size, digest.hexdigest()).sha256

    def add_bytes(self, path: str, data: bytes) -> str:
        """A file that is at hand as a whole; its SHA-256 (hex)."""
        self._check_room(path, len(data))
        self._output.write(self._offset + self._end, data)
        return self._put(path, len(data), hashlib.sha256(data).hexdigest()).sha256

    def _check_room(self, path: str, size: int) -> None:
        self._tree.check_path(path)
        if self._limit is not None and self._end + -(-size // SECTOR) * SECTOR > self._limit:
            raise ImageError(
                f"available space ({self._limit - self._end} bytes) is too small for {path} ({size} bytes)"
            )

    def add_stored_file(self, path: str, size: int, sha256: str, source: int, start: int) -> None:
        """A file that lies in the open file `source` from `start` on, whose SHA-256 (hex) is known: `copy_stored`
        copies its bytes, and nobody reads them."""
        self._tree.check_path(path)
        offset = self._offset + self._end
        last = self._stored[-1] if self._stored else None
        if (
            isinstance(last, _Range)
            and last.source == source
            and offset - last.offset == start - last.start
            and (offset == -(-(last.offset + last.length) // SECTOR) * SECTOR)
        ):
            last.length = offset + size - last.offset  # with the zeros between them
        elif size:
            self._stored.append(_Range(source=source, start=start, offset=offset, length=size))
        self._put(path, size, sha256)

    def add_open_file(self, path: str, size: int, sha256: str, opened: Callable[[], BinaryIO | None]) -> None:
        """A file of `size` bytes that `opened` opens, unbuffered. With `sha256` (hex) it is copied with `copy_stored`,
        and `confirm` says whether that was right; with "" it is copied at once. ChangedFileError where it isn't, or
        doesn't stay, what it was."""
        self._check_room(path, size)
        offset = self._offset + self._end
        file = _Opened(path=path, entry=self._put(path, size, sha256), offset=offset, open=opened)
        if sha256:
            self._stored.append(file)
        else:
            self._copy_open(file, lambda _end: None)

    def copy_stored(self, progress: Callable[[int], None] = lambda _end: None) -> None:
        """Copy what is still to be copied; `progress` is told up to which byte of the output all is there."""
        for stored in self._stored:
            if isinstance(stored, _Opened):
                self._copy_open(stored, progress)
                continue
            for copied in self._output.copy_from(stored.source, stored.start, stored.offset, stored.length):
                progress(stored.offset + copied)
        self._stored.clear()

    def _copy_open(self, file: _Opened, progress: Callable[[int], None]) -> None:
        """Copy a file, and have it hashed as it lies in the image."""
        size = file.entry.size
        self._output.reach(file.offset + size)
        reading = self._hashing.read_back(self._output.descriptor, file.offset, size)
        self._hashed.append((file.path, file.entry, reading))
        source = file.open()
        if source is None:
            raise ChangedFileError(file.path)
        with source:
            descriptor = source.fileno()
            before = os.fstat(descriptor)
            if before.st_size != size:
                raise ChangedFileError(file.path)
            try:
                for copied in self._output.copy_from(descriptor, 0, file.offset, size, leave_zeros=True):
                    reading.written.reach(copied)
                    progress(file.offset + copied)
            except ShortFileError as error:
                raise ChangedFileError(file.path) from error
            after = os.fstat(descriptor)
        if (after.st_size, after.st_mtime_ns, after.st_ctime_ns) != (size, before.st_mtime_ns, before.st_ctime_ns):
            raise ChangedFileError(file.path)

    def confirm(self) -> None:
        """Wait until all is hashed. ChangedFileError for a file that is not what was said of it."""
        for path, entry, reading in self._hashed:
            sha256 = reading.sum.result()
            if entry.sha256 not in ("", sha256):
                raise ChangedFileError(path)
            entry.sha256 = sha256
        self._hashed.clear()

    def _put(self, path: str, size: int, sha256: str) -> WrittenFile:
        """Take note of a file whose bytes lie at the end."""
        file = WrittenFile(size, self._end, sha256)
        self._tree.put(path, file)
        self._end += -(-size // SECTOR) * SECTOR
        return file

    def copy_file(self, path: str, earlier_path: str) -> str:
        """A second copy of a file that is already written (a hard link of an archive); its SHA-256."""
        entry = self._tree.file_at(earlier_path)
        if entry is None:
            raise ImageError(f"{path} is a hard link to {earlier_path}, which is not a file of the image")
        self.copy_stored()
        self.confirm()
        start = self._offset + entry.position
        return self.add_file(path, entry.size, self._pieces(start, entry.size))

    def _pieces(self, start: int, size: int) -> Iterator[bytes]:
        for at in range(0, size, PIECE):
            yield self._output.read(start + at, min(PIECE, size - at))

    def finish(self, attributes: Mapping[str, Value]) -> tuple[str, str, int]:
        """Write the log; (UUID, tree digest, size in bytes)."""
        self.confirm()
        first = attribute_entries(attributes_as_read(attributes, self._version))
        tree = lines_digest(chain(map(listing_line, first), self._tree.lines()))
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
        return {path: (file.size, file.sha256) for path, file in self._tree.files()}

    @property
    def places(self) -> dict[str, int]:
        """Where every file so far begins in the output, in bytes, by path."""
        return {path: self._offset + file.position for path, file in self._tree.files()}

    @property
    def totals(self) -> tuple[int, int]:
        """(files, bytes of files) so far."""
        sizes = [file.size for _, file in self._tree.files()]
        return len(sizes), sum(sizes)

    def _encode_root(self, encoder: Encoder, attributes: Mapping[str, Value]) -> None:
        if "children" in attributes:
            raise ImageError("the manifest has a root key `children`", remedy="that name is the file tree's; rename it")
        encoder.tuple_header(len(attributes) + 1)
        for name in sorted({*attributes, "children"}, key=encode_text):
            encoder.symbol(name)
            if name == "children":
                encode_children(encoder, self._tree.root)
            else:
                encoder.value(attributes[name])


def _uuid(text: str) -> bytes:
    """16 bytes of SHA-256 over `text`, marked as a version 8 (custom) UUID of RFC 9562."""
    raw = bytearray(hashlib.sha256(b"gevulot-orchestrator tfs uuid\n" + encode_text(text)).digest()[:16])
    raw[6] = 0x80 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    return bytes(raw)
