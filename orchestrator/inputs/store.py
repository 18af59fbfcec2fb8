"""The cache of outside inputs: entries by key, each fetched once, whole or not there.

Layout under the root (ORCHESTRATOR_CACHE_DIR, else the user's cache directory):
`entries/KEY/data` (a file or a directory), `entries/KEY/entry.json` (what it is), `names/NAME.json` (a name for
a key: an unpinned URL, say), `locks/`, `tmp/`, `git/`. A temporary belongs to the holder of its key's lock, so one
whose lock is free was left by a killed process and is removed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from orchestrator.documents import Document, DocumentError, read_document
from orchestrator.errors import InputError
from orchestrator.events import Emit, Notice, ignore
from orchestrator.files import PARTIAL_PREFIX, FileLock, make_directory, open_for_append, write_text
from orchestrator.inputs import trees
from orchestrator.user_paths import CACHE_VARIABLE, cache_root

T = TypeVar("T")
IMPORTED = "imported"
"""In the facts of a name or an entry: it came in a bundle, and nothing proves it."""
SHARED = "shared"
"""In the facts of an entry: a shared cache brought it, and its hash is all that is known of it."""
TOUCH = 3600.0
"""An entry's last use is recorded to this many seconds."""
_KEY = re.compile(r"[a-z0-9][a-z0-9.+_-]{0,180}")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

Fill = Callable[[Path], Mapping[str, str]]
"""Makes an entry's content at the path given (which does not exist) and returns what is worth recording."""


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """One cached input. `sha256` is of the file's bytes, or `trees.digest_tree` of a directory.

    `size` in bytes, `created` in seconds since 1970, `info` free facts (source, version, …).
    """

    key: str
    path: Path
    sha256: str
    size: int
    created: float
    stamp: str
    info: Mapping[str, str] = field(default_factory=dict)


class SharedEntries(Protocol):
    """A cache that other machines have too. Neither method fails because of it, however it is."""

    def bring(self, store: Store, key: str) -> None:
        """Put the entry `key` into `store`, if it is to be had and proves itself."""

    def offer(self, entry: CacheEntry) -> None:
        """Take an entry that a build uses, if it proves itself."""


def key_of(kind: str, *parts: str) -> str:
    """A key for something named by `parts` (a URL, a list of packages): `KIND-` and 40 hex digits."""
    return f"{kind}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:40]}"


class Store:
    """The cache. Any number of threads and processes may use one root at a time.

    A name that came in a bundle is what its maker says, which nothing proves: it counts only where `imported` is set,
    for who can ask nobody else (`--offline`). Whatever a lock pins is found without names. What is not here and whose
    key proves it is looked for in `shared` before it is made, and put there afterwards.
    """

    def __init__(
        self,
        root: Path | None = None,
        emit: Emit = ignore,
        *,
        imported: bool = False,
        shared: SharedEntries | None = None,
    ) -> None:
        self.root = root or cache_root()
        self._emit = emit
        self._imported = imported
        self._shared = shared
        try:
            for name in ("entries", "names", "locks", "tmp", "git"):
                make_directory(self.root / name)
        except OSError as error:
            raise InputError(
                f"cannot use the input cache {self.root}: {error.strerror}",
                remedy=f"set {CACHE_VARIABLE} to a directory that you can write to",
            ) from error
        self._sweep()

    def get(self, key: str) -> CacheEntry | None:
        """The entry, checked cheaply (sizes and times as when it was made, else its hash); None if none or bad."""
        entry = self._read(key)
        if entry is None or _unchanged(entry):
            self._touch(entry)
            return entry
        with self.lock(key):
            return self._rehashed(key)

    def put(self, key: str, fill: Fill) -> CacheEntry:
        """The entry; made with `fill` when it isn't there, by one process while the others wait.

        For content that `key` alone determines (a commit, an archive's hash). Errors: InputError for a full disk;
        whatever `fill` raises. Nothing is left behind then.
        """
        entry = self._read(key)
        if entry is not None and _unchanged(entry):
            self._offer(entry)
            return entry
        self._bring(key)
        with self.lock(key):
            entry = self._rehashed(key)
            if entry is not None:
                return entry
            with self.temporary(key) as temporary:
                entry = self._install(_fill(temporary, fill, None), temporary, key)
        self._offer(entry)
        return entry

    def keep(self, name: str, fill: Fill, *, expected: str | None = None, newer_than: float = 0.0) -> CacheEntry:
        """As `put`, for what may be other bytes another day (a URL): stored by its SHA-256, found by `name`.

        So an entry that a build is reading never changes; what `name` came to mean before `newer_than` (seconds since
        1970) is made anew. `expected` is the SHA-256 that it must have; else it is an InputError.
        """
        entry = self._kept(name, expected, newer_than)
        if entry is None and expected:
            self._bring(f"sha256-{expected}")
            entry = self._kept(name, expected, newer_than)
        if entry is not None:
            self._offer(entry)
            return entry
        with self.lock(name):
            # Whoever we waited for may have fetched it meanwhile.
            entry = self._kept(name, expected, newer_than)
            if entry is not None:
                return entry
            with self.temporary(name) as temporary:
                made = _fill(temporary, fill, expected)
                key = f"sha256-{made.sha256}"
                with self.lock(key):
                    entry = self._rehashed(key)
                    entry = self._install(made, temporary, key) if entry is None else self._described(entry, made)
            self.name(name, entry.key, {"fetched": f"{time.time():.6f}"})
        self._offer(entry)
        return entry

    def _bring(self, key: str) -> None:
        """Ask the shared cache for an entry; one process does while others wait."""
        if self._shared is None or self.get(key) is not None:
            return
        with self.lock(f"shared-{key}", doing=f"is looking for {key} in the shared cache"):
            if self.get(key) is None:
                alone = copy(self)
                alone._shared = None
                self._shared.bring(alone, key)

    def _offer(self, entry: CacheEntry) -> None:
        if self._shared is not None:
            self._shared.offer(entry)

    def _described(self, entry: CacheEntry, made: CacheEntry) -> CacheEntry:
        """The entry, with the facts of what was made now where a shared cache brought it, which knows none."""
        if SHARED in entry.info:
            entry = replace(entry, info=made.info)
            write_text(entry.path.parent / "entry.json", _json(entry))
        return entry

    def _kept(self, name: str, expected: str | None, newer_than: float) -> CacheEntry | None:
        if expected:
            return self.get(f"sha256-{expected}")
        return self.kept(name) if self._named_at(name) >= newer_than else None

    def kept(self, name: str) -> CacheEntry | None:
        """The entry that `name` means, or None."""
        record = self.named(name)
        return None if record is None else self.get(record["key"])

    def open(self, key: str) -> BinaryIO:
        """The bytes of a file entry. InputError when it isn't there."""
        entry = self.get(key)
        if entry is None or not entry.path.is_file():
            raise InputError(f"the input cache has no file {key}", remedy="run the command again to fetch it")
        return entry.path.open("rb")

    def list(self) -> list[CacheEntry]:
        """Every entry, sorted by key, unchecked."""
        keys = sorted(path.name for path in (self.root / "entries").iterdir())
        return [entry for entry in map(self._read, keys) if entry is not None]

    def remove(self, key: str) -> bool:
        """Remove an entry; whether there was one."""
        with self.lock(key):
            there = (self.root / "entries" / _check_key(key)).exists()
            self._discard(key)
            return there

    def name(self, name: str, key: str, info: Mapping[str, str] | None = None) -> None:
        """Remember that `name` (itself a key, of a URL or a ref) is the entry `key`."""
        record = {"key": _check_key(key), **(info or {})}
        write_text(self.root / "names" / f"{_check_key(name)}.json", json.dumps(record, sort_keys=True))

    def named(self, name: str) -> Mapping[str, str] | None:
        """What `name` stands for: `key` and the facts given with it; None when unknown."""
        record = self._name_record(name)
        return None if record is None or (IMPORTED in record and not self._imported) else record

    def _name_record(self, name: str) -> Mapping[str, str] | None:
        record = _load(self.root / "names" / f"{_check_key(name)}.json", dict[str, str])
        return record if record is not None and "key" in record else None

    def names(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Every name and what it stands for, imported ones too."""
        for path in sorted((self.root / "names").glob("*.json")):
            record = self._name_record(path.stem) if _KEY.fullmatch(path.stem) else None
            if record is not None:
                yield path.stem, record

    def forget(self, name: str) -> None:
        """Let `name` stand for nothing."""
        (self.root / "names" / f"{_check_key(name)}.json").unlink(missing_ok=True)

    def used(self, entry: CacheEntry) -> float:
        """When the entry was last taken, in seconds since 1970 (to the hour)."""
        try:
            return (entry.path.parent / "entry.json").stat().st_mtime
        except OSError:
            return entry.created

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While a build reads from the cache: `alone` is then nobody."""
        with open_for_append(self.root / "locks" / "in-use") as held:
            fcntl.flock(held, fcntl.LOCK_SH)
            yield

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no build reads from the cache now; then none begins before the end of the context."""
        with open_for_append(self.root / "locks" / "in-use") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    @contextmanager
    def lock(self, key: str, doing: str = "") -> Iterator[None]:
        """Hold the lock of `key` against other threads and processes; says so when it has to wait, for one that is
        `doing` it ("is pulling …"; else it is fetching what `key` names)."""
        lock = FileLock(self.root / "locks" / f"{_check_key(key)}.lock")
        if not lock.acquire(timeout=1.0):
            self._emit(Notice(text=f"waiting for another build that {doing or f'is fetching {key}'}"))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def temporary(self, key: str) -> Iterator[Path]:
        """A path for a temporary of `key`, whose lock the caller holds; what is there at the end is removed."""
        path = self.root / "tmp" / f"{_check_key(key)}.{secrets.token_hex(4)}.partial"
        try:
            yield path
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise disk_full(self.root, trees.tree_size(path) if path.exists() else 0) from error
        finally:
            trees.delete(path)

    def _install(self, made: CacheEntry, temporary: Path, key: str) -> CacheEntry:
        final = self.root / "entries" / key
        entry = replace(made, key=key, path=final / "data")
        write_text(temporary / "entry.json", _json(entry))
        self._discard(key)
        temporary.rename(final)
        return entry

    def _rehashed(self, key: str) -> CacheEntry | None:
        """The entry if its content is as its hash says; the caller holds the lock."""
        entry = self._read(key)
        if entry is None or _unchanged(entry):
            return entry
        try:
            if _digest(entry.path)[0] != entry.sha256:
                return None
            entry = replace(entry, stamp=trees.stamp(entry.path))
        except OSError:
            return None
        write_text(entry.path.parent / "entry.json", _json(entry))
        return entry

    def _touch(self, entry: CacheEntry | None) -> None:
        if entry is not None and time.time() - self.used(entry) > TOUCH:
            with suppress(OSError):
                os.utime(entry.path.parent / "entry.json")

    def _named_at(self, name: str) -> float:
        return float((self.named(name) or {}).get("fetched", 0.0))

    def _read(self, key: str) -> CacheEntry | None:
        directory = self.root / "entries" / _check_key(key)
        record = _load(directory / "entry.json", _EntryRecord)
        return None if record is None else CacheEntry(**{**dict(record), "key": key, "path": directory / "data"})

    def _discard(self, key: str) -> None:
        """Rename away, then delete: a reader never sees half an entry."""
        directory = self.root / "entries" / key
        trash = self.root / "tmp" / f"{key}.{secrets.token_hex(4)}.trash"
        if directory.exists():
            directory.rename(trash)
            trees.delete(trash)

    def _sweep(self) -> None:
        """Remove temporaries whose lock is free: their process is gone."""
        for path in (self.root / "tmp").iterdir():
            key = path.name.rsplit(".", 2)[0]
            if not _KEY.fullmatch(key):
                continue
            lock = FileLock(self.root / "locks" / f"{key}.lock")
            if lock.acquire(timeout=0):
                try:
                    trees.delete(path)
                finally:
                    lock.release()
        for path in (self.root / "names").glob(f"{PARTIAL_PREFIX}*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - 3600:
                    path.unlink()


def disk_full(where: Path, needed: int) -> InputError:
    """The error for a full disk; `needed` in bytes, 0 = unknown."""
    free = shutil.disk_usage(where).free
    wanted = f"; at least {_mib(needed)} needed" if needed else ""
    return InputError(
        f"no space left for the input cache {where}: {_mib(free)} free{wanted}",
        remedy=f"free some space there, or set {CACHE_VARIABLE} to a larger disk",
    )


class MismatchError(InputError):
    """What was fetched is not what its pin says."""


def mismatch(source: str, expected: str, actual: str) -> MismatchError:
    """The error for content that isn't what its pin says."""
    return MismatchError(
        f"{source}: sha256 is {actual}, expected {expected}",
        remedy="if the file changed on purpose, put the new sha256 into project.yaml; otherwise do not use it",
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _check_key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a cache key: {key!r}")
    return key


def _digest(path: Path) -> tuple[str, int]:
    if path.is_dir():
        return trees.digest_tree(path), trees.tree_size(path)
    return trees.file_digest(path)


def _unchanged(entry: CacheEntry) -> bool:
    try:
        return trees.stamp(entry.path) == entry.stamp
    except OSError:
        return False


def _fill(temporary: Path, fill: Fill, expected: str | None) -> CacheEntry:
    """Make the directory `temporary` with `data` in it; the entry has no key yet."""
    make_directory(temporary)
    data = temporary / "data"
    info = dict(fill(data))
    digest, size = _digest(data)
    if expected is not None and digest != expected:
        raise mismatch(info.get("source", "the input"), expected, digest)
    _sync(data)
    return CacheEntry(
        key="", path=data, sha256=digest, size=size, created=time.time(), stamp=trees.stamp(data), info=info
    )


class _EntryRecord(Document):
    """entry.json: a `CacheEntry` but for where it lies."""

    key: str
    sha256: str
    size: int
    created: float
    stamp: str
    info: dict[str, str]


def _json(entry: CacheEntry) -> str:
    record = asdict(entry)
    del record["path"]
    return json.dumps(record, sort_keys=True, indent=1) + "\n"


def _load(path: Path, kind: type[T]) -> T | None:
    try:
        return read_document(path, kind)
    except (OSError, DocumentError):
        return None


def _sync(path: Path) -> None:
    """Flush a file, or every file of a directory, so that a crash can't leave a whole name on half a content."""
    files = [path / name for name, _ in trees.walk(path)] if path.is_dir() else [path]
    for written in [*files, path, path.parent]:
        if written.is_symlink():
            continue
        descriptor = os.open(written, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
