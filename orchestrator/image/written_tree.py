"""The tree of a file system that is being written: what may be added, and the tree as the log's bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .codec import Encoder, encode_text
from .errors import ImageError
from .headers import file_node_parts
from .listing import entry_line, path_key
from .mbr import SECTOR
from .nodes import MAX_DIRECTORIES, MAX_NAME, MAX_PATH


class OutOfOrderError(ValueError):
    """An entry sorts before one that is already written; spool and sort by `path_key`."""


@dataclass(slots=True)
class WrittenFile:
    """A file of `size` bytes: `position` is in bytes from the partition's start, and meaningless when it is empty."""

    size: int
    position: int
    sha256: str


@dataclass(slots=True)
class WrittenLink:
    """A symbolic link with its text."""

    target: str


class WrittenDirectory(dict[str, "WrittenEntry"]):
    """A directory's entries by name, in their order."""

    __slots__ = ()


WrittenEntry = WrittenFile | WrittenLink | WrittenDirectory


class WrittenTree:
    """Entries, added in the order of `path_key`. `entries` has all of them, with their absolute paths."""

    def __init__(self) -> None:
        self.root = WrittenDirectory()
        self.entries: list[tuple[str, WrittenEntry]] = []
        # Of the entry that came last: where it is, as it was spelt, and as its names; then its own name.
        self._spelt: str | None = None
        self._names: tuple[bytes, ...] = ()
        self._name = b""
        self._directory = self.root
        self._prefix = "/"
        self._room = 0  # bytes that a name may have there

    def check_path(self, path: str) -> None:
        """Make sure that `path` can come next, and go there. ImageError for what no image can hold, OutOfOrderError."""
        spelt, _, name = path.rpartition("/")
        # Most files lie beside the one before, which says all of their paths but the last name.
        if spelt != self._spelt or name in ("", ".", "..") or "\0" in name:
            self._enter(path)
            return
        raw = encode_text(name)
        if not self._name < raw or len(raw) > self._room:
            self._enter(path)
            return
        self._name = raw

    def put(self, path: str, entry: WrittenEntry) -> None:
        """Add `entry` at the path that was checked last."""
        name = path.rstrip("/").rpartition("/")[2]
        self._directory[name] = entry
        self.entries.append((self._prefix + name, entry))

    def _enter(self, path: str) -> None:
        """`check_path` in full."""
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
        last = (*self._names, self._name)
        if key == last:
            raise ImageError(f"{path} is in the image twice", remedy="two steps stage the same path; keep one")
        if key < last:
            raise OutOfOrderError(f"{path} comes after an entry that sorts behind it")
        self._directory = self._parent(names)
        self._spelt = path.rpartition("/")[0] if path.endswith(names[-1]) else None
        self._names, self._name = key[:-1], key[-1]
        self._prefix = "/".join(("", *names[:-1], ""))
        self._room = min(MAX_NAME, MAX_PATH - sum(map(len, self._names)) - len(key))

    def _parent(self, names: list[str]) -> WrittenDirectory:
        directory = self.root
        for depth, name in enumerate(names[:-1], start=1):
            entry = directory.get(name)
            if entry is None:
                entry = directory[name] = WrittenDirectory()
                self.entries.append(("/" + "/".join(names[:depth]), entry))
            if not isinstance(entry, WrittenDirectory):
                raise ImageError(
                    f"/{'/'.join(names)} lies below /{'/'.join(names[:depth])}, which is not a directory",
                    remedy="two steps stage conflicting paths; keep one",
                )
            directory = entry
        return directory

    def file_at(self, path: str) -> WrittenFile | None:
        """The file at a path, if it is one."""
        entry: WrittenEntry | None = self.root
        for name in [name for name in path.split("/") if name]:
            entry = entry.get(name) if isinstance(entry, WrittenDirectory) else None
        return entry if isinstance(entry, WrittenFile) else None

    def files(self) -> Iterator[tuple[str, WrittenFile]]:
        """Every file with its path."""
        return ((path, entry) for path, entry in self.entries if isinstance(entry, WrittenFile))

    def lines(self) -> Iterator[str]:
        """The lines of `tree_digest` for the entries, in their order."""
        for path, entry in self.entries:
            if isinstance(entry, WrittenFile):
                yield entry_line("file", path, size=entry.size, sha256=entry.sha256)
            elif isinstance(entry, WrittenLink):
                yield entry_line("symlink", path, target=entry.target)
            else:
                yield entry_line("directory", path)


def encode_children(encoder: Encoder, directory: WrittenDirectory) -> None:
    """The entries of a directory, and all below it, as the value of `children`."""
    _ChildrenEncoder(encoder).add(directory)


class _ChildrenEncoder:
    """Nodes of files differ in their numbers only: once the log has the names of their parts, it has the same bytes
    between the numbers of each."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._between: tuple[bytes, ...] = ()

    def add(self, directory: WrittenDirectory) -> None:
        encoder = self._encoder
        encoder.tuple_header(len(directory))
        for name, entry in directory.items():
            encoder.symbol(name)
            if isinstance(entry, WrittenFile):
                self._add_file(entry)
            elif isinstance(entry, WrittenLink):
                encoder.tuple_header(1)
                encoder.symbol("linktarget")
                encoder.string(entry.target)
            else:
                encoder.tuple_header(1)
                encoder.symbol("children")
                self.add(entry)

    def _add_file(self, file: WrittenFile) -> None:
        sectors, position, size = -(-file.size // SECTOR), file.position // SECTOR, file.size
        if not size or not self._between:
            self._add_in_full(str(sectors), str(position), str(size))
            return
        before_sectors, before_length, before_position, before_size = self._between
        text = self._encoder.encoded_text
        count = text(str(sectors))
        node = (
            before_sectors, count, before_length, count, before_position, text(str(position)), before_size,
            text(str(size)),
        )  # fmt: skip
        self._encoder.add_encoded(b"".join(node), tuples=3)

    def _add_in_full(self, sectors: str, position: str, size: str) -> None:
        encoder = self._encoder
        encoder.tuple_header(2)
        encoder.symbol("extents")
        encoder.tuple_header(0 if size == "0" else 1)
        if size != "0":
            encoder.symbol("0")
            encoder.tuple_header(3)
            for name, number in (("allocated", sectors), ("length", sectors), ("offset", position)):
                encoder.symbol(name)
                encoder.string(number)
        encoder.symbol("filelength")
        encoder.string(size)
        if size != "0":
            self._between = file_node_parts(encoder.version, encoder.encoded_symbol)
