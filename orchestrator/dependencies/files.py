"""One file of a package: from the cache by what the lock file says of it, else fetched and checked by that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from orchestrator.inputs.access import Access, not_in_cache
from orchestrator.inputs.download import fetch
from orchestrator.inputs.store import IMPORTED, CacheEntry, MismatchError

REGISTRIES: Final[Mapping[str, str]] = {
    "cargo:": "https://static.crates.io/crates",
    "go:": "https://proxy.golang.org",
    "npm:": "https://registry.npmjs.org",
    "pypi:": "https://pypi.org/simple",
}
"""Where packages come from unless `mirrors:` has the key."""

Check = Callable[[Path], None]
"""Compares a file with what its lock file says. MismatchError when it is another."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file at `url` and what a lock file says of it.

    Its SHA-256; or, where the lock file has another checksum, `check`, and a `name` in the cache that follows from
    that checksum alone.
    """

    title: str
    url: str
    sha256: str = ""
    name: str = ""
    check: Check | None = None


def registry(access: Access, key: str) -> str:
    """The address of a kind's registry, without a final "/"."""
    return access.mirrors.get(key, REGISTRIES[key]).rstrip("/")


def take_file(access: Access, wanted: Wanted) -> CacheEntry:
    """The file's entry. Errors: MismatchError when it is another file than the lock file's; else InputError."""
    entry = known_file(access, wanted)
    if entry is not None:
        return entry
    if access.offline:
        raise not_in_cache(wanted.title)
    if wanted.sha256:
        return fetch(access, wanted.url, sha256=wanted.sha256)
    # Not what this address gave another day, for another lock file.
    entry = fetch(replace(access, refresh=True), wanted.url, check=wanted.check)
    access.store.name(wanted.name, entry.key)
    return entry


def known_file(access: Access, wanted: Wanted) -> CacheEntry | None:
    """The file, if it is in the cache. MismatchError when a bundle gave its name to another."""
    if wanted.sha256:
        return access.store.get(f"sha256-{wanted.sha256}")
    record = access.store.named(wanted.name)
    entry = access.store.get(record["key"]) if record is not None else None
    if entry is not None and record is not None and IMPORTED in record and wanted.check is not None:
        wanted.check(entry.path)
    return entry


def check_digest(title: str, algorithm: str, expected: str) -> Check:
    """Compares a file's digest (hex) with a lock file's."""

    def check(path: Path) -> None:
        with path.open("rb") as stream:
            actual = hashlib.file_digest(stream, algorithm).hexdigest()
        if actual != expected:
            raise differs_from_lock(title, algorithm, expected, actual)

    return check


def differs_from_lock(title: str, what: str, expected: str, actual: str) -> MismatchError:
    """The error for a package that is not the one that the sources' lock file names."""
    return MismatchError(
        f"{title}: its {what} is {actual}, but the lock file of the sources says {expected}",
        remedy="do not build it: the registry or a mirror serves a different package from the one that was locked",
    )
