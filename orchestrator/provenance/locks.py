"""Lock files of the sources -> the packages that they name. The bytes are the user's: anything may be in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from orchestrator.package_locks import Kind, cargo_rows, go_rows, lock_kind, npm_package_name, requirements
from orchestrator.resolved import redact_url
from orchestrator.text import parse_json

MOST: Final = 50_000
_TEXT: Final = 400


@dataclass(frozen=True, kw_only=True, order=True)
class LockedPackage:
    """One package of a lock file.

    `kind` is a package URL's type: cargo, golang, npm, pypi. `registry`: it is from the ecosystem's usual registry.
    `source` is where else it is from (a URL without credentials; "" for the project's own). `sha256` is hex, ""
    where the file has none.
    """

    kind: str
    name: str
    version: str
    registry: bool = True
    source: str = ""
    sha256: str = ""


class UnreadableLockError(ValueError):
    """A lock file that can't be understood; the message says why."""


def read_lock(path: str, data: bytes) -> tuple[LockedPackage, ...]:
    """The packages of a lock file, sorted, each once. `path` decides the format. UnreadableLockError: it has none."""
    kind = lock_kind(PurePosixPath(path).name)
    if kind is None:
        raise UnreadableLockError("its format is not known")
    try:
        packages = set()
        for package in _PARSERS[kind](data.decode("utf-8")):
            packages.add(package)
            if len(packages) > MOST:
                raise UnreadableLockError(f"it names more than {MOST} packages")
    except ValueError as error:
        raise error if isinstance(error, UnreadableLockError) else UnreadableLockError(str(error)[:_TEXT]) from error
    return tuple(sorted(packages))


def parse_cargo(text: str) -> Iterator[LockedPackage]:
    """Cargo.lock, every version of it."""
    for row in cargo_rows(text):
        name, version, source = _word(row.name), _word(row.version), _word(row.source)
        if name and version:
            usual = row.from_usual_registry
            elsewhere = "" if usual else _shown(source)
            yield LockedPackage(
                kind="cargo", name=name, version=version, registry=usual, source=elsewhere, sha256=row.sha256
            )


def parse_go(text: str) -> Iterator[LockedPackage]:
    """go.sum: `MODULE VERSION h1:…`; lines that only vouch for a go.mod are passed over."""
    for words in go_rows(text):
        if len(words) == 3 and words[2].startswith("h1:") and not words[1].endswith("/go.mod"):
            name, version = _word(words[0]), _word(words[1])
            if name and version:
                yield LockedPackage(kind="golang", name=name, version=version)


def parse_npm(text: str) -> Iterator[LockedPackage]:
    """package-lock.json of lockfileVersion 2 and 3: table `packages`, by place of installation."""
    document = parse_json(text)
    packages = document.get("packages", {}) if isinstance(document, dict) else {}
    for install_path, row in packages.items() if isinstance(packages, dict) else ():
        installed = npm_package_name(install_path)
        if not installed or not isinstance(row, dict) or row.get("link") is True:
            continue
        name, version = _word(row.get("name")) or _word(installed), _word(row.get("version"))
        if name and version:
            yield LockedPackage(kind="npm", name=name, version=version)


def parse_pypi(text: str) -> Iterator[LockedPackage]:
    """requirements.txt: only what is pinned by `==` is known."""
    for requirement in requirements(text):
        name, version = _word(requirement.name), _word(requirement.version)
        if name and version:
            yield LockedPackage(kind="pypi", name=name, version=version)


def _word(value: Any) -> str:
    """Text of one printable line, "" for everything else."""
    return value if isinstance(value, str) and len(value) <= _TEXT and value.isprintable() else ""


def _shown(source: str) -> str:
    """`git+https://host/repo?rev=…#COMMIT` -> the URL without credentials or query, and the commit."""
    url, _, commit = source.partition("#")
    if not url:
        return ""
    shown = redact_url(url).partition("?")[0]
    return f"{shown}#{commit}" if commit else shown


_PARSERS: Final[Mapping[Kind, Callable[[str], Iterator[LockedPackage]]]] = {
    "cargo": parse_cargo,
    "go": parse_go,
    "npm": parse_npm,
    "pip": parse_pypi,
}
