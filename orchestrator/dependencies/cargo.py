"""Cargo.lock: crates, each with the SHA-256 of its .crate file, or from a commit of a git repository."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from orchestrator.dependencies.cargo_git import git_crate, git_source
from orchestrator.dependencies.files import Wanted, registry, take_file
from orchestrator.dependencies.packages import LockedPackages, LockFileError, Package, Placed
from orchestrator.inputs.access import Access
from orchestrator.resolved import redact_url
from orchestrator.suggest import shown
from orchestrator.text import parse_toml

# Cargo writes its default registry by the name of its old index, however the crates were fetched.
_USUAL: Final = re.compile(r"registry\+https://github\.com/rust-lang/crates[a-z.]*-index")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_VERSION: Final = re.compile(r"[0-9][0-9A-Za-z.+-]{0,100}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def read_cargo_lock(text: str) -> LockedPackages:
    """The crates of a Cargo.lock of any version. LockFileError, or ValueError of TOML."""
    document = parse_toml(text)
    packages: dict[str, Package] = {}
    refused: list[str] = []
    for row in _rows(document.get("package", [])):
        name, version, source = (str(row.get(key, "")) for key in ("name", "version", "source"))
        if not source:  # of the project itself
            continue
        title = f"{shown(name)} {shown(version)}"
        if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            raise LockFileError(f"{title} is no crate")
        checksum = str(row.get("checksum") or _old_checksum(document, name, version, source))
        if (repository := git_source(source)) is not None:
            packages[f"{title} {repository.id}"] = git_crate(repository, name, version)
        elif not _USUAL.fullmatch(source):
            refused.append(f"{title} comes from {_shown(source)}")
        elif not _SHA256.fullmatch(checksum):
            refused.append(f"{title} has no checksum")
        else:
            packages[f"{title} {checksum}"] = _crate(title, name, version, checksum)
    return LockedPackages(packages=packages, refused=tuple(refused))


def _crate(title: str, name: str, version: str, sha256: str) -> Package:
    def take(access: Access) -> Iterator[Placed]:
        # As a registry's `dl` says that has no markers in it (Cargo's documentation, "Registry Index").
        url = f"{registry(access, 'cargo:')}/{name}/{version}/download"
        entry = take_file(access, Wanted(title=title, url=url, sha256=sha256))
        yield Placed(place=f"{name}-{version}.crate", entry=entry)

    return Package(title=title, take=take)


def _old_checksum(document: Mapping[str, Any], name: str, version: str, source: str) -> str:
    """Version 1 keeps checksums in a table of their own."""
    metadata = document.get("metadata", {})
    return str(metadata.get(f"checksum {name} {version} ({source})", "")) if isinstance(metadata, dict) else ""


def _shown(source: str) -> str:
    """`git+https://host/repo?rev=…#COMMIT` as `git (https://host/repo)`."""
    kind, _, rest = source.partition("+")
    return f"{shown(kind)} ({shown(redact_url(rest.partition('#')[0]).partition('?')[0])})"


def _rows(value: Any) -> Iterator[Mapping[str, Any]]:
    for row in value if isinstance(value, list) else ():
        if isinstance(row, dict):
            yield row
