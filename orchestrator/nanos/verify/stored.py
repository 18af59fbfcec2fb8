"""Looks at the stored bytes of an image's files: which of them are ELF, and which hold one of some marks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.image.mbr import SECTOR
from orchestrator.image.reader import Filesystem
from orchestrator.image.tree import File

TEXT: Final = 200
"""Bytes after a mark that belong to it."""
CHUNK: Final = 1024 * 1024
ELF: Final = b"\x7fELF"
NamedFile = tuple[str, File]


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """Small files that lie one behind the other: `data` has them all. `places`: path, and where its bytes are there."""

    data: bytes
    places: Sequence[tuple[str, int, int]]


def elf_files(filesystem: Filesystem, files: Sequence[NamedFile]) -> Iterator[str]:
    """The paths of those that start as an ELF file does."""
    for near in _neighbours(filesystem, files):
        if isinstance(near, Neighbours):
            if ELF in near.data:
                yield from (path for path, start, end in near.places if near.data.startswith(ELF, start, end))
        elif filesystem.read_at(near[1], 0, len(ELF)) == ELF:
            yield near[0]


def marked_files(
    filesystem: Filesystem, files: Sequence[NamedFile], wanted: Callable[[str], tuple[bytes, ...]]
) -> Iterator[tuple[str, dict[bytes, bytes]]]:
    """The paths of those that hold a mark, with the bytes that follow the first of each; `wanted` is by path."""
    for near in _neighbours(filesystem, files):
        if not isinstance(near, Neighbours):
            path, file = near
            yield path, search(_stored(filesystem, file), wanted(path))
            continue
        # Most have none: then one look at all of them will do.
        marks = {mark for path, _, _ in near.places for mark in wanted(path)}
        if any(mark in near.data for mark in marks):
            for path, start, end in near.places:
                yield path, search([near.data[start:end]], wanted(path))


def search(pieces: Iterable[bytes], wanted: tuple[bytes, ...]) -> dict[bytes, bytes]:
    """Mark → the bytes that follow its first occurrence."""
    texts: dict[bytes, bytes] = {}
    overlap = max(map(len, wanted)) + TEXT
    tail = b""
    for piece in pieces:
        seam = tail + piece[:overlap]
        for mark in wanted:
            # A mark at the very end is found again, with all its text, in the seam with the next piece.
            if len(texts.get(mark, b"")) < TEXT:
                data, at = seam, seam.find(mark)
                if not 0 <= at < len(tail):  # a piece is large: it isn't copied to be joined with the one before
                    data, at = piece, piece.find(mark)
                if at >= 0:
                    texts[mark] = data[at + len(mark) : at + len(mark) + TEXT]
        tail = (seam if len(piece) < overlap else piece)[-overlap:]
    return texts


def _neighbours(filesystem: Filesystem, files: Sequence[NamedFile]) -> Iterator[Neighbours | NamedFile]:
    """All of the files: small ones together with those that follow them on the disk, others by themselves."""
    near: list[NamedFile] = []
    start = end = 0
    for path, file in files:
        position = _position(file)
        if position is None or file.size > CHUNK:
            yield path, file
            continue
        if not 0 <= position - end < SECTOR or position + file.size - start > CHUNK:
            yield from _read(filesystem, near, start, end)
            near, start = [], position
        near.append((path, file))
        end = position + file.size
    yield from _read(filesystem, near, start, end)


def _read(filesystem: Filesystem, near: Sequence[NamedFile], start: int, end: int) -> Iterator[Neighbours]:
    if near:
        places = [(path, at - start, at - start + file.size) for path, file in near for at in [_position(file) or 0]]
        yield Neighbours(data=filesystem.read_stored(start, end - start), places=places)


def _position(file: File) -> int | None:
    """Where all the bytes of a file lie, from the partition's start; None where they don't lie in one piece."""
    return file.extents[0].position if len(file.extents) == 1 else None


def _stored(filesystem: Filesystem, file: File) -> Iterator[bytes]:
    """The stored bytes in order; holes, which may be of any size, leave one NUL each."""
    for extent in file.extents:
        if extent.position is None:
            yield b"\0"
            continue
        for offset in range(0, extent.length, CHUNK):
            yield filesystem.read_at(file, extent.offset + offset, min(CHUNK, extent.length - offset))
