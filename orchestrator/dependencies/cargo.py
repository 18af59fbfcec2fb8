"""Cargo.lock: crates, each with the SHA-256 of its .crate file, or from a commit of a git repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from orchestrator.dependencies.cargo_git import git_crate, git_source
from orchestrator.dependencies.files import Wanted, registry, take_file
from orchestrator.dependencies.packages import LockedPackages, LockFileError, Package, PackageFile
from orchestrator.inputs.access import Access
from orchestrator.package_locks import CargoRow, cargo_rows
from orchestrator.resolved import redact_url
from orchestrator.suggest import shown

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_VERSION: Final = re.compile(r"[0-9][0-9A-Za-z.+-]{0,100}")


def read_cargo_lock(text: str) -> LockedPackages:
    """The crates of a Cargo.lock of any version. LockFileError, or ValueError of TOML."""
    packages: dict[str, Package] = {}
    refused: list[str] = []
    for row in cargo_rows(text):
        if not row.source:  # of the project itself
            continue
        title = f"{shown(row.name)} {shown(row.version)}"
        if not _NAME.fullmatch(row.name) or not _VERSION.fullmatch(row.version):
            raise LockFileError(f"{title} is not a crate's name and version")
        if (repository := git_source(row.source)) is not None:
            packages[f"{title} {repository.id}"] = git_crate(repository, row.name, row.version)
        elif not row.from_usual_registry:
            refused.append(f"{title} comes from {_shown(row.source)}")
        elif not row.sha256:
            refused.append(f"{title} has no checksum")
        else:
            packages[f"{title} {row.sha256}"] = _crate(title, row)
    return LockedPackages(packages=packages, refused=tuple(refused))


def _crate(title: str, row: CargoRow) -> Package:
    def take(access: Access) -> Iterator[PackageFile]:
        # As a registry's `dl` says that has no markers in it (Cargo's documentation, "Registry Index").
        url = f"{registry(access, 'cargo:')}/{row.name}/{row.version}/download"
        entry = take_file(access, Wanted(title=title, url=url, sha256=row.sha256))
        yield PackageFile(path=f"{row.name}-{row.version}.crate", entry=entry)

    return Package(title=title, take=take)


def _shown(source: str) -> str:
    """`git+https://host/repo?rev=…#COMMIT` as `git (https://host/repo)`."""
    kind, _, rest = source.partition("+")
    return f"{shown(kind)} ({shown(redact_url(rest.partition('#')[0]).partition('?')[0])})"
