"""What a lock file of the sources names, and the files that it became on this host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orchestrator.errors import InputError
from orchestrator.inputs.access import Access
from orchestrator.inputs.store import CacheEntry
from orchestrator.package_locks import Kind

MOST: Final = 20_000
"""Packages of one kind."""
_WORDS: Final[Mapping[Kind, str]] = {
    "cargo": "crates",
    "go": "Go module files",
    "npm": "npm packages",
    "pip": "Python packages",
}


def words_for(kind: Kind, count: int | None = None) -> str:
    """`3 crates`; `crates` without a count."""
    words = _WORDS[kind]
    return words if count is None else f"{count} {words if count != 1 else words.removesuffix('s')}"


class LockFileError(ValueError):
    """A lock file that cannot be understood; the message says why."""


@dataclass(frozen=True, kw_only=True)
class LockFile:
    """A lock file of the sources: `path` is relative to the build context, with '/'."""

    path: str
    source: Path
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class PackageFile:
    """A file or a directory of the cache, or `data`, and its path below the folder of its kind."""

    path: str
    entry: CacheEntry | None = None
    data: bytes = b""


Take = Callable[[Access], Iterable[PackageFile]]
"""Takes a package's files from the cache, or fetches them. InputError when they cannot be had."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """One package that a lock file names, as in `serde 1.0.200`."""

    title: str
    take: Take


@dataclass(frozen=True, kw_only=True)
class LockedPackages:
    """What one lock file says.

    `packages` by what identifies them: a package of two lock files is one. `texts` are further files of the local
    source, by path; `refused` are packages that can't be fetched by a checksum, each as `TITLE REASON`.
    """

    packages: Mapping[str, Package] = field(default_factory=dict)
    texts: Mapping[str, bytes] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TakenPackages:
    """All that the sources' lock files of one kind name.

    `files` and `texts` are by path below the kind's folder; `keys` are the cache's. `failure` is why there are no
    `files`: the first package that could not be had, what the cache lacks offline, or a lock file that can't be read.
    """

    kind: Kind
    lock_files: tuple[str, ...]
    packages: int = 0
    files: Mapping[str, Path] = field(default_factory=dict)
    texts: Mapping[str, bytes] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    size: int = 0
    refused: tuple[str, ...] = ()
    failure: InputError | None = None

    @property
    def words(self) -> str:
        """`3 crates`."""
        return words_for(self.kind, self.packages)

    @property
    def named(self) -> str:
        """The lock files, in words."""
        shown = ", ".join(self.lock_files[:3])
        return f"{shown} and {len(self.lock_files) - 3} more" if len(self.lock_files) > 3 else shown
