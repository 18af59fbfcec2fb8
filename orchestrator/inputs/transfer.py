"""Entries of the cache as one file, to be taken to another machine: a tar, with zstd where the name asks for it.

Layout: `orchestrator-cache` (the format's version), then for each entry `entries/KEY/entry.json` and its `data`, then
`names/NAME.json`, and `orchestrator-cache-end`, by which a file that was cut is known. The same entries give the same
bytes.

Importing believes nothing. A file is its SHA-256, sources are their commit's object ids. What can't prove itself counts
only where something else does: sources and images that a lock's digests name, and what was built (the shim by a name
that is marked, the program's stage by its key), for builds without a network. Unpacked archives are made again.
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
from typing import IO, Annotated, Any, BinaryIO, TypeVar, cast

import zstandard
from pydantic import Field

from orchestrator import archive as reading
from orchestrator import files
from orchestrator.documents import Document, DocumentError, parse_document
from orchestrator.errors import InputError
from orchestrator.files import open_emptied, replacing
from orchestrator.inputs import git_proof, trees
from orchestrator.inputs.store import IMPORTED, CacheEntry, Store
from orchestrator.label import EXPORT

FORMAT = b"1\n"
END = f"{EXPORT}-end"
MTIME = 1_577_836_800  # 2020-01-01: no time of this machine
MAX_RECORD = 1024 * 1024
CHUNK = 1024 * 1024
LEVEL = 3
LIMITS = reading.UnpackLimits(members=5_000_000, size=2**40, seconds=4 * 3600.0)
"""A bundle holds whole bases and their layers, which is more than an archive of sources."""
ONE_LIMITS = reading.UnpackLimits(members=1_000_000, size=16 * 2**30)
"""One entry, from whoever it is."""
_MEMBER = re.compile(r"entries/(?P<key>[a-z0-9][a-z0-9.+_-]{0,180})/(?P<rest>entry\.json|data(?:/.+)?)", re.DOTALL)
_NAME = re.compile(r"names/(?P<name>[a-z0-9][a-z0-9.+_-]{0,180})\.json")
_SOURCES = re.compile(r"git-([0-9a-f]{40}|[0-9a-f]{64})")
_IMAGES = re.compile(r"(?:image|program)-[0-9a-f]{40,64}")
_FACTS = {
    "source", "from", "include", "tool", "debs", "snapshot", "python", "submodules",
    git_proof.COMMIT, git_proof.MODULES,
}  # fmt: skip
T = TypeVar("T")


class _BundledRecord(Document):
    """What a bundle's entry.json must say."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    info: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What an import did: keys that are new, keys that were there already, and keys that were left out.

    `unproven` are those of the new that only a lock, or an offline build, makes something of.
    """

    new: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()


def export_entries(store: Store, keys: Iterable[str], target: Path) -> list[CacheEntry]:
    """Write entries and the names that stand for them to `target`. InputError for a key that isn't there."""
    entries = []
    for key in sorted(set(keys)):
        entry = store.get(key)
        if entry is None:
            raise InputError(
                f"the input cache has no complete {key}", remedy="`orchestrator cache ls` shows what it has"
            )
        entries.append(entry)
    keys = {entry.key for entry in entries}
    _write(target, entries, {name: record for name, record in store.names() if record["key"] in keys})
    return entries


def write_entry(entry: CacheEntry, target: Path) -> None:
    """Write one entry to `target`, without the names that stand for it."""
    _write(target, [entry], {})


def _write(target: Path, entries: Iterable[CacheEntry], names: Mapping[str, Mapping[str, str]]) -> None:
    with (
        replacing(target) as part,
        open_emptied(part) as raw,
        _open_packed(raw, target.suffix == ".zst") as sink,
        tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK) as tar,
    ):
        _add_bytes(tar, EXPORT, FORMAT)
        for entry in entries:
            _add_entry(tar, entry)
        for name, record in names.items():
            _add_bytes(tar, f"names/{name}.json", _json(_unmarked(record)))
        _add_bytes(tar, END, FORMAT)


def read_entry(key: str, source: Path, target: Path) -> Mapping[str, str]:
    """Write the content of the one entry that `source` holds, `key`, to `target` (new); the facts that we know.

    InputError unless the content proves itself, as sources do by their commit, or has the SHA-256 of a `sha256-` key.
    """
    try:
        with source.open("rb") as raw, reading.translate_errors():
            stream = reading.unpack(raw, ONE_LIMITS)
            with reading.read_tar(stream) as tar:
                return _One(members=_Members(tar), shown=source.name).read(key, target)
    except reading.ArchiveError as error:
        raise _damaged(source.name, str(error)) from error


def import_entries(store: Store, source: Path) -> ImportReport:
    """Take the entries of `source` into the cache. InputError for a file that isn't whole; whole entries stay."""
    try:
        with source.open("rb") as raw, reading.translate_errors():
            stream = reading.unpack(raw, LIMITS)
            with reading.read_tar(stream) as tar:
                report = _Import(store=store, members=_Members(tar), shown=str(source)).run()
            stream.drain()
    except OSError as error:
        raise InputError(f"{source}: {error.strerror or error}", remedy="check the path and the disk") from error
    except reading.ArchiveError as error:
        if error.refused:
            raise InputError(f"{source}: refused: {error}", remedy="do not use this file") from error
        raise _damaged(str(source), str(error)) from error
    return report


@contextmanager
def _open_packed(raw: BinaryIO, compress: bool) -> Iterator[IO[bytes]]:
    if not compress:
        yield raw
        return
    with zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).stream_writer(raw, closefd=False) as writer:
        yield writer


def _add_entry(tar: tarfile.TarFile, entry: CacheEntry) -> None:
    record = {"sha256": entry.sha256, "size": entry.size, "info": _unmarked(entry.info)}
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


def _unmarked(facts: Mapping[str, str]) -> dict[str, str]:
    """Without our own mark: whoever imports it puts one there."""
    return {name: value for name, value in facts.items() if name != IMPORTED}


def _json(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, sort_keys=True, indent=1) + "\n").encode()


class _Members:
    """The members of a tar as they come, with a look at the next one."""

    def __init__(self, tar: reading.Tar) -> None:
        self.content, self.small = tar.content, tar.small
        self._members = iter(tar)
        self._next = next(self._members, None)

    def peek(self) -> tarfile.TarInfo | None:
        return self._next

    def skip(self) -> None:
        self._next = next(self._members, None)


@dataclass(kw_only=True)
class _Reading:
    """One file being read."""

    members: _Members
    shown: str

    def _begin(self) -> None:
        first = self.members.peek()
        if first is None or first.name != EXPORT or self._small(first) != FORMAT:
            raise InputError(
                f"{self.shown} was not written by `cache export` or `bundle export`",
                remedy="check the path; a file of a newer version needs that version",
            )
        self.members.skip()

    def _small(self, member: tarfile.TarInfo) -> bytes:
        return self.members.small(member, MAX_RECORD)

    def _record(self, member: tarfile.TarInfo, kind: type[T]) -> T:
        try:
            return parse_document(kind, self._small(member), newer=True)
        except DocumentError as error:
            raise _damaged(self.shown, f"{member.name[:200]!r} is not a record: {error}") from error

    def _parts(self, key: str) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
        """The members of an entry's data, with their paths below it."""
        while (member := self.members.peek()) is not None:
            match = _MEMBER.fullmatch(member.name)
            if match is None or match["key"] != key or match["rest"] == "entry.json":
                return
            path = PurePosixPath(match["rest"]).relative_to("data")
            if ".." in path.parts or "\0" in member.name:
                raise _damaged(self.shown, f"member {member.name[:200]!r} points outside its entry")
            yield member, path
            self.members.skip()

    def _pass(self, key: str) -> None:
        for _ in self._parts(key):
            pass

    def _take(self, key: str, target: Path) -> None:
        first = self.members.peek()
        if first is not None and first.isreg():
            self._take_file(key, target)
        else:
            self._take_tree(key, target)
        if not target.exists():
            raise _damaged(self.shown, f"{key} has no data")

    def _take_file(self, key: str, target: Path) -> None:
        for member, path in self._parts(key):
            if path.parts or not member.isreg() or target.exists():
                raise _damaged(self.shown, f"member {member.name[:200]!r} is not inside a directory")
            with files.create(target) as sink:
                self._copy(member, sink)
            target.chmod(_mode(member))

    def _take_tree(self, key: str, target: Path) -> None:
        tree: files.GuardedTree | None = None
        try:
            for member, path in self._parts(key):
                if tree is None:
                    if path.parts or not member.isdir():
                        raise _damaged(self.shown, f"member {member.name[:200]!r} is not inside a directory")
                    tree = files.GuardedTree(target)
                elif member.isdir() and path.parts and not tree.kind_of(path):
                    tree.make_directory(path)
                elif member.issym() and path.parts:
                    tree.make_symlink(path, member.linkname)
                elif member.isreg() and path.parts:
                    with tree.create_file(path, _mode(member)) as sink:
                        self._copy(member, sink)
                else:
                    raise _damaged(self.shown, f"member {member.name[:200]!r} is neither file, directory nor link")
        except (FileExistsError, NotADirectoryError) as error:
            raise _damaged(
                self.shown, f"{error.filename or key} appears twice, or is not inside a directory"
            ) from error
        finally:
            if tree is not None:
                tree.close()

    def _copy(self, member: tarfile.TarInfo, sink: BinaryIO) -> None:
        source = self.members.content(member)
        while chunk := source.read(CHUNK):
            sink.write(chunk)


@dataclass(kw_only=True)
class _One(_Reading):
    """A file that holds one entry."""

    def read(self, key: str, target: Path) -> Mapping[str, str]:
        self._begin()
        member = self.members.peek()
        if member is None or member.name != f"entries/{key}/entry.json":
            raise _damaged(self.shown, f"it does not begin with {key}")
        record = self._record(member, _BundledRecord)
        self.members.skip()
        self._take(key, target)
        last = self.members.peek()
        if last is None or last.name != END:
            raise _damaged(self.shown, "it is truncated, or holds more than one entry")
        actual = trees.digest_tree(target) if target.is_dir() else trees.file_digest(target)[0]
        if key.startswith("sha256-") and key != f"sha256-{actual}":
            raise _damaged(self.shown, f"its content is sha256-{actual}")
        facts = _facts(key, target, record.info)
        if IMPORTED in facts:
            raise _damaged(self.shown, f"its content does not prove that it is {key}")
        return facts


@dataclass(kw_only=True)
class _Import(_Reading):
    """A file whose entries go into a cache."""

    store: Store

    def run(self) -> ImportReport:
        self._begin()
        keys: dict[str, list[str]] = {"new": [], "known": [], "left_out": [], "unproven": []}
        while (member := self.members.peek()) is None or member.name != END:
            if member is None:
                raise _damaged(self.shown, "it is truncated")
            if (entry := _MEMBER.fullmatch(member.name)) and entry["rest"] == "entry.json":
                for what in self._entry(entry["key"], member):
                    keys[what].append(entry["key"])
            elif name := _NAME.fullmatch(member.name):
                self._name(name["name"], member)
                self.members.skip()
            else:
                raise _damaged(self.shown, f"member {member.name[:200]!r} is unexpected here")
        return ImportReport(**{what: tuple(entries) for what, entries in keys.items()})

    def _entry(self, key: str, member: tarfile.TarInfo) -> tuple[str, ...]:
        """Take one entry; what became of it, as in `ImportReport`. Its content is read to the end in any case."""
        record = self._record(member, _BundledRecord)
        self.members.skip()
        digest, info = record.sha256, record.info
        if key.startswith("sha256-") and key != f"sha256-{digest}":
            raise _damaged(self.shown, f"{key} holds something else")
        if not key.startswith("sha256-") and not _SOURCES.fullmatch(key) and not _IMAGES.fullmatch(key):
            self._pass(key)
            return ("left_out",)
        done: tuple[str, ...] = ("known",)

        def fill(target: Path) -> Mapping[str, str]:
            nonlocal done
            self._take(key, target)
            actual = trees.digest_tree(target) if target.is_dir() else trees.file_digest(target)[0]
            if actual != digest:
                raise _damaged(self.shown, f"the sha256 of {key} is {actual}, its record says {digest}")
            facts = _facts(key, target, cast("Mapping[str, str]", info))
            done = ("new", "unproven") if IMPORTED in facts else ("new",)
            return facts

        self.store.put(key, fill)
        if done == ("known",):
            self._pass(key)
        return done

    def _name(self, name: str, member: tarfile.TarInfo) -> None:
        """A name of this machine's own stays as it is; one from elsewhere is marked."""
        record = self._record(member, dict[str, str])
        key = record.pop("key", None)
        if key is None:
            raise _damaged(self.shown, f"{member.name[:200]!r} is not a record")
        if self.store.named(name) is None and self.store.get(key) is not None:
            self.store.name(name, key, {**record, IMPORTED: "1"})


def _facts(key: str, data: Path, info: Mapping[str, str]) -> dict[str, str]:
    """What is recorded of an entry: the facts that we know, and whether anything but the bundle says what it is."""
    facts = {name: value for name, value in info.items() if name in _FACTS}
    if key.startswith("sha256-"):
        return facts
    sources = _SOURCES.fullmatch(key)
    if sources is not None:
        if "commit" in info:  # what the key says, whatever the record does
            facts["commit"] = sources[1]
        if git_proof.proves(sources[1], data, facts):
            return facts
    return {**facts, IMPORTED: "1"}


def _mode(member: tarfile.TarInfo) -> int:
    return 0o755 if member.mode & 0o111 else 0o644


def _damaged(shown: str, problem: str) -> InputError:
    return InputError(f"{shown} is damaged: {problem}", remedy="copy it again, or export it again")
