"""Entries of the cache as one file, to be taken to another machine: a tar, with zstd where the name asks for it.

Layout: `orchestrator-cache` (the format's version), then for each entry `entries/KEY/entry.json` and its `data`, then
`names/NAME.json`, and `orchestrator-cache-end`, by which a file that was cut is known. The same entries give the same
bytes. Importing believes nothing: names and paths are checked, and every entry's content is hashed before it counts.
"""

from __future__ import annotations

import io
import json
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

import zstandard

from orchestrator.errors import InputError
from orchestrator.files import replacing
from orchestrator.inputs import trees
from orchestrator.inputs.store import Entry, Store

FORMAT = b"1\n"
MARK, END = "orchestrator-cache", "orchestrator-cache-end"
MTIME = 1_577_836_800  # 2020-01-01: no time of this machine
MAX_RECORD = 1024 * 1024
CHUNK = 1024 * 1024
LEVEL = 3
_ZSTD = b"\x28\xb5\x2f\xfd"
_MEMBER = re.compile(r"entries/(?P<key>[a-z0-9][a-z0-9.+_-]{0,180})/(?P<rest>entry\.json|data(?:/.+)?)", re.DOTALL)
_NAME = re.compile(r"names/(?P<name>[a-z0-9][a-z0-9.+_-]{0,180})\.json")
_HEX64 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import did: keys that are new, and keys that were there already."""

    new: tuple[str, ...]
    known: tuple[str, ...]


def export_entries(store: Store, keys: Iterable[str], target: Path) -> list[Entry]:
    """Write entries and the names that stand for them to `target`. InputError for a key that isn't there."""
    entries = []
    for key in sorted(set(keys)):
        entry = store.get(key)
        if entry is None:
            raise InputError(f"the input cache has no whole {key}", remedy="`orchestrator cache ls` shows what it has")
        entries.append(entry)
    with (
        replacing(target) as part,
        part.open("wb") as raw,
        _packed(raw, target.suffix == ".zst") as sink,
        tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK) as tar,
    ):
        _add_bytes(tar, MARK, FORMAT)
        for entry in entries:
            _add_entry(tar, entry)
        for name, record in store.names():
            if record["key"] in {entry.key for entry in entries}:
                _add_bytes(tar, f"names/{name}.json", _json(record))
        _add_bytes(tar, END, FORMAT)
    return entries


def import_entries(store: Store, source: Path) -> Imported:
    """Take the entries of `source` into the cache. InputError for a file that isn't whole; whole entries stay."""
    try:
        with source.open("rb") as raw, _unpacked(raw) as stream:
            with tarfile.open(fileobj=cast("Any", stream), mode="r|", bufsize=CHUNK) as tar:
                found = _Import(store=store, members=_Members(tar), shown=str(source)).run()
            while stream.read(CHUNK):  # to the end, where zstd keeps its checksum
                pass
    except OSError as error:
        raise InputError(f"{source}: {error.strerror or error}", remedy="check the path and the disk") from error
    except (tarfile.TarError, zstandard.ZstdError, EOFError, ValueError, ArithmeticError) as error:
        raise _damaged(str(source), str(error)) from error
    return found


def is_export(path: Path) -> bool:
    """Whether a file is one that `export_entries` wrote, whole or not, by its first bytes."""
    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as raw, _unpacked(raw) as stream:
            return stream.read(len(MARK) + 1) == f"{MARK}\0".encode()
    except (OSError, zstandard.ZstdError, EOFError):
        return False


@contextmanager
def _packed(raw: BinaryIO, compress: bool) -> Iterator[IO[bytes]]:
    if not compress:
        yield raw
        return
    with zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).stream_writer(raw, closefd=False) as writer:
        yield writer


@contextmanager
def _unpacked(raw: BinaryIO) -> Iterator[IO[bytes]]:
    magic = raw.read(4)
    raw.seek(0)
    if magic != _ZSTD:
        yield raw
        return
    with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as reader:
        yield cast("IO[bytes]", reader)


def _add_entry(tar: tarfile.TarFile, entry: Entry) -> None:
    record = {"sha256": entry.sha256, "size": entry.size, "info": dict(entry.info)}
    _add_bytes(tar, f"entries/{entry.key}/entry.json", _json(record))
    top = f"entries/{entry.key}/data"
    if entry.path.is_file():
        _add_path(tar, top, entry.path)
        return
    _add_path(tar, top, entry.path)
    for name, _ in trees.walk(entry.path):
        _add_path(tar, f"{top}/{name}", entry.path / name)


def _add_path(tar: tarfile.TarFile, name: str, path: Path) -> None:
    status = path.lstat()
    info = tarfile.TarInfo(name)
    info.mtime = MTIME
    info.mode = 0o755 if stat.S_ISDIR(status.st_mode) or status.st_mode & 0o111 else 0o644
    if stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
        tar.addfile(info)
    elif stat.S_ISREG(status.st_mode):
        info.size = status.st_size
        with path.open("rb") as stream:
            tar.addfile(info, stream)


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.mtime, info.size, info.mode = MTIME, len(data), 0o644
    tar.addfile(info, io.BytesIO(data))


def _json(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, sort_keys=True, indent=1) + "\n").encode()


class _Members:
    """The members of a tar as they come, with a look at the next one."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._next = tar.next()

    def peek(self) -> tarfile.TarInfo | None:
        return self._next

    def skip(self) -> None:
        self._next = self._tar.next()

    def content(self, member: tarfile.TarInfo) -> IO[bytes]:
        source = self._tar.extractfile(member)
        if source is None:
            raise ValueError(f"{member.name} has no content")
        return source


@dataclass(kw_only=True)
class _Import:
    """One file being read."""

    store: Store
    members: _Members
    shown: str

    def run(self) -> Imported:
        first = self.members.peek()
        if first is None or first.name != MARK or self._small(first) != FORMAT:
            raise InputError(
                f"{self.shown} is not something that `cache export` or `bundle export` wrote",
                remedy="check the path; a newer program's file needs that program",
            )
        self.members.skip()
        new: list[str] = []
        known: list[str] = []
        while (member := self.members.peek()) is None or member.name != END:
            if member is None:
                raise _damaged(self.shown, "it is cut off")
            if (entry := _MEMBER.fullmatch(member.name)) and entry["rest"] == "entry.json":
                (new if self._entry(entry["key"], member) else known).append(entry["key"])
            elif name := _NAME.fullmatch(member.name):
                self._name(name["name"], member)
                self.members.skip()
            else:
                raise _damaged(self.shown, f"member {member.name[:200]!r} has no place here")
        return Imported(new=tuple(new), known=tuple(known))

    def _small(self, member: tarfile.TarInfo) -> bytes:
        if not member.isreg() or member.size > MAX_RECORD:
            raise _damaged(self.shown, f"{member.name[:200]!r} is no small file")
        return self.members.content(member).read()

    def _record(self, member: tarfile.TarInfo) -> dict[str, Any]:
        record = json.loads(self._small(member))
        if not isinstance(record, dict):
            raise _damaged(self.shown, f"{member.name[:200]!r} is no record")
        return record

    def _entry(self, key: str, member: tarfile.TarInfo) -> bool:
        """Take one entry; whether it was new. Its content is read to the end in either case."""
        record = self._record(member)
        self.members.skip()
        digest, info = record.get("sha256"), record.get("info")
        plain = isinstance(info, dict) and all(isinstance(each, str) for each in info.values())
        if not isinstance(digest, str) or not _HEX64.fullmatch(digest) or not plain:
            raise _damaged(self.shown, f"the record of {key} is not one")
        if key.startswith("sha256-") and key != f"sha256-{digest}":
            raise _damaged(self.shown, f"{key} holds something else")
        filled = False

        def fill(target: Path) -> Mapping[str, str]:
            nonlocal filled
            filled = True
            self._take(key, target)
            found = trees.digest_tree(target) if target.is_dir() else trees.file_digest(target)[0]
            if found != digest:
                raise _damaged(self.shown, f"the sha256 of {key} is {found}, its record says {digest}")
            return cast("Mapping[str, str]", info)

        self.store.put(key, fill)
        if not filled:
            self._pass(key)
        return filled

    def _parts(self, key: str) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
        """The members of an entry's data, with their paths below it."""
        while (member := self.members.peek()) is not None:
            found = _MEMBER.fullmatch(member.name)
            if found is None or found["key"] != key or found["rest"] == "entry.json":
                return
            path = PurePosixPath(found["rest"]).relative_to("data")
            if ".." in path.parts or "\0" in member.name:
                raise _damaged(self.shown, f"member {member.name[:200]!r} leads out of its entry")
            yield member, path
            self.members.skip()

    def _pass(self, key: str) -> None:
        for _ in self._parts(key):
            pass

    def _take(self, key: str, target: Path) -> None:
        for member, path in self._parts(key):
            place = target.joinpath(*path.parts)
            # Nothing is ever written through a link: what is above must be a directory that we made.
            above = place.parent if path.parts else None
            while above is not None and above != target.parent:
                if above.is_symlink() or not above.is_dir():
                    raise _damaged(self.shown, f"member {member.name[:200]!r} lies below no directory")
                above = above.parent
            if member.isdir():
                place.mkdir()
            elif member.issym() and path.parts:
                place.symlink_to(member.linkname)
            elif member.isreg():
                with place.open("xb") as sink:
                    source = self.members.content(member)
                    while chunk := source.read(CHUNK):
                        sink.write(chunk)
                place.chmod(0o755 if member.mode & 0o111 else 0o644)
            else:
                raise _damaged(self.shown, f"member {member.name[:200]!r} is neither file, directory nor link")
        if not target.exists():
            raise _damaged(self.shown, f"{key} has no data")

    def _name(self, name: str, member: tarfile.TarInfo) -> None:
        """A name of this machine's own stays as it is."""
        record = self._record(member)
        key = record.pop("key", None)
        if not isinstance(key, str) or not all(isinstance(each, str) for each in record.values()):
            raise _damaged(self.shown, f"{member.name[:200]!r} is no record")
        if self.store.named(name) is None and self.store.get(key) is not None:
            self.store.name(name, key, record)


def _damaged(shown: str, problem: str) -> InputError:
    return InputError(f"{shown} is damaged: {problem}", remedy="copy it again, or export it again")
