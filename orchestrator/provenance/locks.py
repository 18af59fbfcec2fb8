"""Lock files of the sources -> the packages that they name. The bytes are the user's: anything may be in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from orchestrator.resolved import redact_url
from orchestrator.text import parse_json, parse_toml

MOST: Final = 50_000
_TEXT: Final = 400
# Cargo writes its default registry by the name of its old index, however the crates were fetched.
_USUAL_CRATES: Final = re.compile(r"registry\+https://github\.com/rust-lang/crates[a-z.]*-index")
_HEX256: Final = re.compile(r"[0-9a-f]{64}")


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
    parser = _PARSERS.get(PurePosixPath(path).name)
    if parser is None:
        raise UnreadableLockError("its format is not known")
    try:
        packages = set()
        for package in parser(data.decode("utf-8")):
            packages.add(package)
            if len(packages) > MOST:
                raise UnreadableLockError(f"it names more than {MOST} packages")
    except ValueError as error:
        raise error if isinstance(error, UnreadableLockError) else UnreadableLockError(str(error)[:_TEXT]) from error
    return tuple(sorted(packages))


def parse_cargo(text: str) -> Iterator[LockedPackage]:
    """Cargo.lock, every version of it."""
    document = parse_toml(text)
    packages = document.get("package", [])
    # Version 1 keeps checksums in a table of their own.
    metadata = document.get("metadata", {})
    for row in _rows(packages):
        name, version, source = _word(row.get("name")), _word(row.get("version")), _word(row.get("source"))
        if not name or not version:
            continue
        old = metadata.get(f"checksum {name} {version} ({source})") if isinstance(metadata, dict) else None
        checksum = _word(row.get("checksum")) or _word(old)
        usual = _USUAL_CRATES.fullmatch(source) is not None
        yield LockedPackage(
            kind="cargo",
            name=name,
            version=version,
            registry=usual,
            source="" if usual else _shown(source),
            sha256=checksum if _HEX256.fullmatch(checksum) else "",
        )


def parse_go(text: str) -> Iterator[LockedPackage]:
    """go.sum: `MODULE VERSION h1:…`; lines that only vouch for a go.mod are passed over."""
    for line in text.split("\n"):
        words = line.split()
        if len(words) == 3 and words[2].startswith("h1:") and not words[1].endswith("/go.mod"):
            name, version = _word(words[0]), _word(words[1])
            if name and version:
                yield LockedPackage(kind="golang", name=name, version=version)


def parse_npm(text: str) -> Iterator[LockedPackage]:
    """package-lock.json of lockfileVersion 2 and 3: table `packages`, by place of installation."""
    document = parse_json(text)
    packages = document.get("packages", {}) if isinstance(document, dict) else {}
    for install_path, row in packages.items() if isinstance(packages, dict) else ():
        if not isinstance(row, dict) or "node_modules/" not in install_path or row.get("link") is True:
            continue
        name = _word(row.get("name")) or _word(install_path.rpartition("node_modules/")[2])
        version = _word(row.get("version"))
        if name and version:
            yield LockedPackage(kind="npm", name=name, version=version)


def parse_pypi(text: str) -> Iterator[LockedPackage]:
    """requirements.txt: only what is pinned by `==` is known."""
    for line in text.split("\n"):
        match = re.match(
            r"\s*([A-Za-z0-9][A-Za-z0-9._-]{0,127})\s*(?:\[[^\]]{0,200}\])?\s*==\s*([^\s;,#\\*]{1,100})", line
        )
        if match:
            name = re.sub(r"[-_.]+", "-", match[1]).lower()
            yield LockedPackage(kind="pypi", name=name, version=match[2])


def _rows(value: Any) -> Iterator[Mapping[str, Any]]:
    for row in value if isinstance(value, list) else ():
        if isinstance(row, dict):
            yield row


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


_PARSERS: Final[Mapping[str, Callable[[str], Iterator[LockedPackage]]]] = {
    "Cargo.lock": parse_cargo,
    "go.sum": parse_go,
    "package-lock.json": parse_npm,
    "requirements.txt": parse_pypi,
}
