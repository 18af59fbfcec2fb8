"""package-lock.json: tarballs, each with an address and a digest of any kind.

They are laid out as npm's own cache keeps contents, by digest: `npm ci` looks there first for whatever has a digest,
without an index (measured with npm 11, offline, from a directory that it could not write to).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any, Final

from pydantic import Field

from orchestrator.dependencies.files import REGISTRIES, Wanted, check_digest, registry, take_file
from orchestrator.dependencies.packages import LockedPackages, LockFileError, Package, PackageFile
from orchestrator.documents import Document, DocumentError, parse_document
from orchestrator.inputs.access import Access
from orchestrator.inputs.store import key_of
from orchestrator.package_locks import npm_package_name
from orchestrator.resolved import redact_url
from orchestrator.suggest import shown

MOST_BYTES: Final = 64 * 2**20
_DIGESTS: Final = {"sha512": 64, "sha384": 48, "sha256": 32}
"""The kinds that prove a content, the strongest first as npm prefers them, and their bytes."""


class _Row(Document):
    version: str = ""
    name: str = ""
    resolved: Any = ""
    integrity: str = ""
    link: bool = False
    inBundle: bool = False
    os: tuple[str, ...] = ()
    cpu: tuple[str, ...] = ()


class _Lock(Document):
    lockfileVersion: int = 1
    packages: dict[str, _Row] = Field(default_factory=dict)


def read_package_lock(text: str) -> LockedPackages:
    """The packages of a package-lock.json of version 2 or 3. LockFileError."""
    try:
        lock = parse_document(_Lock, text, newer=True, limit=MOST_BYTES)
    except DocumentError as error:
        raise LockFileError(str(error)) from error
    if lock.lockfileVersion < 2:
        raise LockFileError("has lockfileVersion 1; update it with `npm install --package-lock-only` (npm 7 or newer)")
    packages: dict[str, Package] = {}
    refused: list[str] = []
    for path, row in lock.packages.items():
        installed = npm_package_name(path)
        if not installed or row.link or row.inBundle or not _is_for_guest(row):
            continue
        title = f"{shown(row.name or installed)} {shown(row.version)}"
        address = row.resolved if isinstance(row.resolved, str) else ""
        if address.startswith("file:"):
            continue
        digest = _digest(row.integrity)
        if row.resolved == "" and row.version and digest is not None:  # npm's omit-lockfile-registry-resolved
            address = _registry_address(row.name or installed, row.version)
        if not re.match("https?://", address):
            where = shown(redact_url(address))
            refused.append(f"{title} comes from {where}" if address else f"{title} has no `resolved` address")
        elif digest is None:
            refused.append(f"{title} has no sha512 `integrity`")
        else:
            packages[f"{title} {digest[1]}"] = _tarball(title, address, *digest)
    return LockedPackages(packages=packages, refused=tuple(refused))


def _registry_address(name: str, version: str) -> str:
    """Where the registry has a version, by its own rule for names."""
    return f"{REGISTRIES['npm:']}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"


def _tarball(title: str, address: str, algorithm: str, digest: str) -> Package:
    def take(access: Access) -> Iterator[PackageFile]:
        usual = REGISTRIES["npm:"] + "/"
        url = f"{registry(access, 'npm:')}/{address.removeprefix(usual)}" if address.startswith(usual) else address
        wanted = Wanted(
            title=title,
            url=url,
            sha256=digest if algorithm == "sha256" else "",
            name=key_of("npm", algorithm, digest),
            check=check_digest(title, algorithm, digest),
        )
        path = f"_cacache/content-v2/{algorithm}/{digest[:2]}/{digest[2:4]}/{digest[4:]}"
        yield PackageFile(path=path, entry=take_file(access, wanted))

    return Package(title=title, take=take)


def _digest(integrity: str) -> tuple[str, str] | None:
    """The strongest kind of digest and its hex digits; None when there is none that proves anything."""
    digests = dict(word.partition("?")[0].split("-", 1) for word in integrity.split() if "-" in word)
    for algorithm, size in _DIGESTS.items():
        try:
            digest = base64.b64decode(digests.get(algorithm, ""), validate=True)
        except binascii.Error:
            continue
        if len(digest) == size:
            return algorithm, digest.hex()
    return None


def _is_for_guest(row: _Row) -> bool:
    """Whether npm would install it on x86-64 Linux: packages for other systems are in the lock file too."""
    return _allows(row.os, "linux") and _allows(row.cpu, "x64")


def _allows(names: tuple[str, ...], ours: str) -> bool:
    wanted = [name for name in names if not name.startswith("!")]
    return f"!{ours}" not in names and (not wanted or ours in wanted or "any" in wanted)
