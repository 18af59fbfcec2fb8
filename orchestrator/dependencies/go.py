"""go.sum: modules, each with a hash of what its zip holds, and of its go.mod (module proxy protocol)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from orchestrator.archive import ArchiveError, UnpackLimits, read_zip, translate_errors
from orchestrator.dependencies.files import Check, Wanted, differs_from_lock, registry, take_file
from orchestrator.dependencies.packages import LockedPackages, LockFileError, Package, PackageFile
from orchestrator.inputs.access import Access
from orchestrator.inputs.store import key_of
from orchestrator.package_locks import go_rows
from orchestrator.suggest import shown

_MODULE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~+-]*(?:/[A-Za-z0-9_~+-][A-Za-z0-9._~+-]*)*")
_VERSION: Final = re.compile(r"v[0-9][0-9A-Za-z.+-]{0,200}")
_HASH: Final = re.compile(r"h1:[A-Za-z0-9+/]{43}=")
_MOD: Final = "/go.mod"
# Far more than any module's: the go command itself takes 500 MiB.
_LIMITS: Final = UnpackLimits(members=200_000, size=2 * 2**30, seconds=600.0)


def read_go_sum(text: str) -> LockedPackages:
    """The modules of a go.sum or go.work.sum. LockFileError."""
    packages: dict[str, Package] = {}
    texts: dict[str, bytes] = {}
    refused: list[str] = []
    for words in go_rows(text):
        if len(words) != 3:
            raise LockFileError(f"{shown(' '.join(words))} is not MODULE VERSION HASH")
        module, version, expected = words
        bare = version.removesuffix(_MOD)
        if not _MODULE.fullmatch(module) or not _VERSION.fullmatch(bare):
            raise LockFileError(f"{shown(module)} {shown(version)} is not a module and its version")
        title = f"{module} {version}"
        if not _HASH.fullmatch(expected):
            refused.append(f"{title} has a hash of an unknown kind")
            continue
        path = f"{_escaped(module)}/@v/{_escaped(bare)}"
        kind = "mod" if version.endswith(_MOD) else "zip"
        packages[f"{title} {expected}"] = _file(title, f"{path}.{kind}", expected)
        # What no checksum covers is not taken from outside. The go command needs nothing but the version of it.
        texts[f"{path}.info"] = json.dumps({"Version": bare}).encode()
    return LockedPackages(packages=packages, texts=texts, refused=tuple(refused))


def _file(title: str, path: str, expected: str) -> Package:
    def take(access: Access) -> Iterator[PackageFile]:
        check = _check(title, expected, mod=path.endswith(".mod"))
        name = key_of("go", title, expected)
        url = f"{registry(access, 'go:')}/{path}"
        yield PackageFile(path=path, entry=take_file(access, Wanted(title=title, url=url, name=name, check=check)))

    return Package(title=title, take=take)


def _escaped(text: str) -> str:
    """Capital letters as `!` and the small one: a module cache may lie on a disk that does not tell them apart."""
    return re.sub("[A-Z]", lambda match: f"!{match[0].lower()}", text)


def _check(title: str, expected: str, *, mod: bool) -> Check:
    def check(path: Path) -> None:
        try:
            actual = _hash_of([("go.mod", _digest_of_file(path))] if mod else _zip_digests(path))
        except ArchiveError as error:
            raise differs_from_lock(title, "content", expected, f"not a zip ({error})") from error
        if actual != expected:
            raise differs_from_lock(title, "hash", expected, actual)

    return check


def _hash_of(files: list[tuple[str, str]]) -> str:
    """`h1:` of names and SHA-256 digests (hex), as golang.org/x/mod/sumdb/dirhash defines it."""
    whole = hashlib.sha256()
    for name, digest in sorted(files, key=lambda file: file[0].encode()):
        whole.update(f"{digest}  {name}\n".encode())
    return f"h1:{base64.b64encode(whole.digest()).decode()}"


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _zip_digests(path: Path) -> list[tuple[str, str]]:
    digests, size = [], 0
    with path.open("rb") as stream, translate_errors(), read_zip(stream, _LIMITS) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            digest = hashlib.sha256()
            with archive.open(member) as content:
                while chunk := content.read(1024 * 1024):
                    size += len(chunk)
                    if size > _LIMITS.size:
                        raise ArchiveError(f"it unpacks to more than {_LIMITS.size} bytes", refused=True)
                    digest.update(chunk)
            digests.append((member.filename, digest.hexdigest()))
    return digests
